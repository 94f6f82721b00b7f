"""The operations of convolutional networks, each with a backward pass to its input only.

Autograd keeps whatever any gradient might need. For the gradient to the input, a convolution needs only its weight, a
sum needs nothing, a ReLU needs to know where it was open, and only a smooth activation needs its input (for which half
precision suffices). Each step declares what it keeps; `erf.gradient.lean.network` runs the steps.

Tensors are (N, C, h, w) in channels-last memory format.
"""
