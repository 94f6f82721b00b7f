"""Where and with what a run computes: device, memory, ranks, the loop over images, a network's cost; loads torch."""
