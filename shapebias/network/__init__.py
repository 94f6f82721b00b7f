"""Asking networks for their class probabilities; loads torch."""
