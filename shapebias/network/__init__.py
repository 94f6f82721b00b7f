"""Class probabilities of networks; loads torch."""
