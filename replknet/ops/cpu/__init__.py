"""Depthwise convolution on CPU."""
