"""Class probabilities of networks. Imports torch."""
