"""The fast form of a network for gradients to the image."""
