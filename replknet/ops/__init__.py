"""Operations that stock PyTorch does slowly or not at all: large depthwise kernels, sums over neighbourhoods.

Importing this package starts neither Triton nor CUDA: kernels are compiled at the first call on a GPU.
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
