"""Weights of networks: finding, verifying and reading their files, and the record of the weights."""
