"""Weights of networks: where they lie, whether a file is the right one, how it is read, and what the record says."""
