"""Computation of a run: device, memory, ranks, the loop over images, the cost of a network. Imports torch."""
