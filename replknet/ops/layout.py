"""Argument checks and memory formats that all forms of the depthwise convolution share.

Both the fake kernel that `torch.compile` uses and the kernels that compute use this module, so they cannot disagree.
"""

import torch
from torch import Tensor

__all__ = [
    "MAX_KERNEL",
    "MIN_KERNEL",
    "as_format",
    "channels_last_strides",
    "check_forward",
    "check_kernel",
    "check_shapes",
    "check_weight_grad",
    "contiguous_strides",
    "crop",
    "empty_output",
    "format_of",
    "format_of_strides",
    "turned",
]

MIN_KERNEL, MAX_KERNEL = 1, 63
_DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def check_forward(x: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """Check that the operation supports these arguments.

    Raises: ValueError that names the argument, its value, what is allowed and how to fix it.
    """
    if bias is None:
        check_shapes(x.shape, x.dtype, weight.shape, weight.dtype)
    else:
        check_shapes(x.shape, x.dtype, weight.shape, weight.dtype, bias.shape, bias.dtype)
    for name, other in (("weight", weight), ("bias", bias)):
        if other is not None and other.device != x.device:
            raise ValueError(f"{name} is on {other.device} but x is on {x.device}; move both to one device")


def check_shapes(
    shape: tuple[int, ...],
    dtype: torch.dtype,
    weight_shape: tuple[int, ...],
    weight_dtype: torch.dtype,
    bias_shape: tuple[int, ...] | None = None,
    bias_dtype: torch.dtype | None = None,
) -> None:
    """Check shapes and dtypes, as a part of `check_forward`.

    Raises: ValueError.
    """
    if len(shape) != 4:
        raise ValueError(
            f"x has shape {tuple(shape)}; depthwise_conv2d takes a batch (N, C, H, W): add a batch axis with x[None]"
        )
    if dtype not in _DTYPES:
        raise ValueError(
            f"x has dtype {dtype}; depthwise_conv2d takes float32, float64, float16 or bfloat16: convert it first"
        )
    channels = shape[1]
    if len(weight_shape) != 4 or weight_shape[0] != channels or weight_shape[1] != 1:
        raise ValueError(
            f"weight has shape {tuple(weight_shape)}; for {channels} channels of x it must be ({channels}, 1, kh, kw): "
            "one filter per channel, in nn.Conv2d's layout"
        )
    check_kernel(weight_shape[2], weight_shape[3])
    if bias_shape is not None and (len(bias_shape) != 1 or bias_shape[0] != channels):
        raise ValueError(f"bias has shape {tuple(bias_shape)}; it must be ({channels},), one number per channel of x")
    for name, other in (("weight", weight_dtype), ("bias", bias_dtype)):
        if other is not None and other != dtype:
            raise ValueError(f"{name} has dtype {other} but x has {dtype}; convert one, or run under autocast")


def check_weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> None:
    """Check the arguments of the weight gradient: x and grad need the same shape (N, C, H, W), dtype and device.

    Raises: ValueError.
    """
    if x.dim() != 4 or x.shape != grad.shape:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and grad {tuple(grad.shape)}; "
            "both must be the same (N, C, H, W), since the convolution keeps the shape"
        )
    if x.dtype not in _DTYPES or grad.dtype != x.dtype:
        raise ValueError(
            f"x has dtype {x.dtype} and grad {grad.dtype}; both must be the same one of float32, float64, float16, "
            "bfloat16"
        )
    if grad.device != x.device:
        raise ValueError(f"grad is on {grad.device} but x is on {x.device}; move both to one device")
    check_kernel(kernel_height, kernel_width)


def check_kernel(height: int, width: int) -> None:
    """Check that the sides of a kernel are odd and not too large.

    Raises: ValueError.
    """
    for side in (height, width):
        if side % 2 == 0 or not MIN_KERNEL <= side <= MAX_KERNEL:
            raise ValueError(
                f"the kernel is {height}×{width}; both sides must be odd and between {MIN_KERNEL} and {MAX_KERNEL}: "
                "an even kernel has no centre to pad around, pad it to the next odd size with zeros"
            )


def format_of(x: Tensor) -> torch.memory_format:
    """Memory format of the result: channels-last where the channels of `x` are adjacent in memory, else contiguous.

    PyTorch's own test requires the exact strides of a channels-last batch, so the batch of one image that
    `image.permute(2, 0, 1)[None]` creates would take its slow path. Here the stride of the channels decides.
    """
    if x.is_contiguous() or x.stride(1) != 1 or x.shape[1] == 1:
        return torch.contiguous_format
    return torch.channels_last


def format_of_strides(shape: tuple[int, ...], strides: tuple[int, ...]) -> torch.memory_format:
    """`format_of` for a tensor with this shape and these strides."""
    return format_of(torch.empty_strided(shape, strides, device="meta"))


def channels_last_strides(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The only strides that PyTorch's kernels recognise as channels-last."""
    _, channels, height, width = shape
    return channels * height * width, 1, width * channels, channels


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The strides of a contiguous tensor; PyTorch's kernels read the format off them even for one channel or image."""
    _, channels, height, width = shape
    return channels * height * width, height * width, width, 1


def as_format(x: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return `x` with exactly the strides that PyTorch's kernels recognise as `memory_format`; a view if possible."""
    if memory_format is torch.channels_last:
        strides = channels_last_strides(x.shape)
        if x.stride() == strides:
            return x
        # `as_strided`, since `contiguous` keeps the unusual batch stride of a single image
        return x.permute(0, 2, 3, 1).contiguous().as_strided(x.shape, strides)
    # `as_strided`, since `contiguous` leaves a single channel with channels-last strides
    x = x.contiguous()
    return x if x.shape[1] != 1 else x.as_strided(x.shape, contiguous_strides(x.shape))


def crop(weight: Tensor, height: int, width: int) -> Tensor:
    """Remove the taps that only ever meet padding: on a map of side s, only the central 2s - 1 taps a side count."""
    if weight.shape[2] < 2 * height and weight.shape[3] < 2 * width:
        return weight.contiguous()
    rim_h = max(0, weight.shape[2] // 2 - (height - 1))
    rim_w = max(0, weight.shape[3] // 2 - (width - 1))
    return weight[:, :, rim_h : weight.shape[2] - rim_h, rim_w : weight.shape[3] - rim_w].contiguous()


def turned(weight: Tensor) -> Tensor:
    """Rotate filters by 180 degrees, by indexing, which is many times faster than `flip` on two cores."""
    last = weight.shape[2] * weight.shape[3] - 1
    return weight.flatten(1).index_select(1, torch.arange(last, -1, -1, device=weight.device)).view(weight.shape)


def empty_output(x: Tensor) -> Tensor:
    """Uninitialised tensor for the result: shape, dtype and device of `x`, in the memory format of `format_of`."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=format_of(x))
