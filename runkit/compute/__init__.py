"""Computation of a run: device, memory, ranks, the loop over images, a network's cost; loads torch."""
