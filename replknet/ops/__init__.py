"""Operations that stock PyTorch computes slowly or not at all: large depthwise kernels and sums over neighbourhoods.

Importing this package initialises neither Triton nor CUDA: GPU kernels are compiled at the first call on a GPU.
"""

from replknet.ops.depthwise import (
    DepthwiseConv2d,
    depthwise_conv2d,
    depthwise_conv2d_input_grad,
    depthwise_conv2d_reference,
)
from replknet.ops.neighbourhood import neighbourhood_sum

__all__ = [
    "DepthwiseConv2d",
    "depthwise_conv2d",
    "depthwise_conv2d_input_grad",
    "depthwise_conv2d_reference",
    "neighbourhood_sum",
]
