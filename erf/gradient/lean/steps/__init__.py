"""The operations of convolutional networks, each with a backward pass to its input alone.

Autograd keeps what any gradient might need. For the gradient to the input a convolution needs nothing but its weight, a
sum nothing at all, a ReLU where it was open (a byte a number), and only a smooth activation its input (for which half
precision is enough). Each step says what it keeps; `erf.gradient.lean.network` runs the steps.

Tensors are (N, C, h, w) in channels-last memory.
"""
