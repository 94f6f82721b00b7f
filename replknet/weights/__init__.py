"""Weights of networks: their files, the verification and reading of these, and the record of the weights."""
