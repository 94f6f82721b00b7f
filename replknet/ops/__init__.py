"""Operations that stock PyTorch does slowly; at present the large-kernel depthwise convolution of RepLKNet.

Importing this package starts neither Triton nor CUDA: kernels are compiled at the first call on a GPU.
"""

from replknet.ops.depthwise import (
    DepthwiseConv2d,
    depthwise_conv2d,
    depthwise_conv2d_input_grad,
    depthwise_conv2d_reference,
)

__all__ = ["DepthwiseConv2d", "depthwise_conv2d", "depthwise_conv2d_input_grad", "depthwise_conv2d_reference"]
