"""Which pixels the elements of a tensor can depend on, followed through a network function by function."""
