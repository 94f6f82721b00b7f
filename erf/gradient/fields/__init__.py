"""What the elements of a tensor can see of the image, followed through a network function by function."""
