"""What every form of the depthwise convolution shares: which arguments it takes, and in which memory format it answers.

The fake kernel that `torch.compile` plans with and the kernels that run both ask here, so they cannot disagree.
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
    """Refuse what the operation does not take, with a message that says what would be right.

    Raises: ValueError naming the argument, its value, what is allowed and the next step.
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
    """The part of `check_forward` that shapes and dtypes decide.

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
    """The same for the gradient to the weight: x and grad have one shape (N, C, H, W), dtype and device.

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
    """Refuse a kernel that is even or too large.

    Raises: ValueError.
    """
    for side in (height, width):
        if side % 2 == 0 or not MIN_KERNEL <= side <= MAX_KERNEL:
            raise ValueError(
                f"the kernel is {height}×{width}; both sides must be odd and between {MIN_KERNEL} and {MAX_KERNEL}: "
                "an even kernel has no centre to pad around, pad it to the next odd size with zeros"
            )


def format_of(x: Tensor) -> torch.memory_format:
    """Memory format of the answer: channels-last where the channels of `x` lie side by side, else contiguous.

    PyTorch's own test asks for the exact strides of a channels-last batch, so the batch of one that
    `image.permute(2, 0, 1)[None]` makes falls to its slow path. Here the stride of the channels decides.
    """
    if x.is_contiguous() or x.stride(1) != 1 or x.shape[1] == 1:
        return torch.contiguous_format
    return torch.channels_last


def format_of_strides(shape: tuple[int, ...], strides: tuple[int, ...]) -> torch.memory_format:
    """`format_of` for a tensor of this shape and these strides."""
    return format_of(torch.empty_strided(shape, strides, device="meta"))


def channels_last_strides(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The one set of strides that PyTorch's kernels recognise as channels-last."""
    _, channels, height, width = shape
    return channels * height * width, 1, width * channels, channels


def contiguous_strides(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The strides of a contiguous tensor; those of a single channel or image tell PyTorch's kernels the format, too."""
    _, channels, height, width = shape
    return channels * height * width, height * width, width, 1


def as_format(x: Tensor, memory_format: torch.memory_format) -> Tensor:
    """`x` with exactly the strides that PyTorch's kernels recognise as `memory_format`; a view where one exists."""
    if memory_format is torch.channels_last:
        strides = channels_last_strides(x.shape)
        if x.stride() == strides:
            return x
        # restrided, since `contiguous` leaves the odd batch stride of a single image
        return x.permute(0, 2, 3, 1).contiguous().as_strided(x.shape, strides)
    # restrided, since `contiguous` leaves a single channel with the strides of channels-last
    x = x.contiguous()
    return x if x.shape[1] != 1 else x.as_strided(x.shape, contiguous_strides(x.shape))


def crop(weight: Tensor, height: int, width: int) -> Tensor:
    """Filters without the taps that only ever meet padding: on a map of side s at most 2s - 1 taps a side count."""
    if weight.shape[2] < 2 * height and weight.shape[3] < 2 * width:
        return weight.contiguous()
    rim_h = max(0, weight.shape[2] // 2 - (height - 1))
    rim_w = max(0, weight.shape[3] // 2 - (width - 1))
    return weight[:, :, rim_h : weight.shape[2] - rim_h, rim_w : weight.shape[3] - rim_w].contiguous()


def turned(weight: Tensor) -> Tensor:
    """Filters turned by 180 degrees; by index, which is many times faster than `flip` on two cores."""
    last = weight.shape[2] * weight.shape[3] - 1
    return weight.flatten(1).index_select(1, torch.arange(last, -1, -1, device=weight.device)).view(weight.shape)


def empty_output(x: Tensor) -> Tensor:
    """Uninitialised tensor like the answer to `x`: its shape, dtype and device, in the format of `format_of`."""
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=format_of(x))
