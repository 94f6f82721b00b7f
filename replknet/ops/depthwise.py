"""Depthwise convolution with large kernels: stride 1, same padding, one filter per channel.

    y[n, c, h, w] = bias[c] + sum over i, j of weight[c, 0, i, j] * x[n, c, h + i - kh // 2, w + j - kw // 2]

RepLKNet (arXiv:2203.06717, section 3, guideline 1) uses it with kernels up to 31×31, SLaK (arXiv:2207.03620) with 51×51
and 51×5. Stock PyTorch is slow at these sizes, so this module registers its own operator,
`replknet::depthwise_conv2d`, with a CPU path (`replknet.ops.cpu`) and a CUDA path (`replknet.ops.cuda`). Its gradients
are operators too: `replknet::depthwise_conv2d_input_grad` (the convolution with filters rotated by 180 degrees) and
`replknet::depthwise_conv2d_weight_grad`. Each of the three is bilinear, and its gradients are given by the other two.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replknet.ops import flops
from replknet.ops.cpu import forms as cpu
from replknet.ops.cuda import kernels as cuda
from replknet.ops.layout import (
    as_format,
    check_forward,
    check_kernel,
    check_weight_grad,
    empty_output,
    format_of,
    turned,
)

__all__ = [
    "DepthwiseConv2d",
    "depthwise_conv2d",
    "depthwise_conv2d_input_grad",
    "depthwise_conv2d_reference",
    "depthwise_conv2d_weight_grad",
]

_FORWARD = "replknet::depthwise_conv2d"
_INPUT_GRAD = "replknet::depthwise_conv2d_input_grad"
_WEIGHT_GRAD = "replknet::depthwise_conv2d_weight_grad"


def depthwise_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Depthwise convolution, stride 1, same padding, for kernels up to 63×63.

    Works under autograd (also twice), autocast, `torch.compile`, `torch.export`, `torch.fx` and `torch.jit.script`.

    Args:
        x: Batch (N, C, H, W), float32, float64, float16 or bfloat16; any strides. Maps may be smaller than the kernel.
        weight: Filters (C, 1, kh, kw), odd sides up to 63, dtype and device of `x`; not flipped, as in `F.conv2d`.
        bias: One number per channel (C,), or None.
    Returns: (N, C, H, W) of the dtype of `x`; accumulated in float32 for the 16-bit types. Channels-last if the
        channels of `x` are adjacent in memory, else contiguous.
    Raises: ValueError for an unsupported shape, dtype or device; the message names it and says what is expected.
    Source: arXiv:2203.06717, section 3. Equivalent to `F.conv2d(x, weight, bias, padding="same", groups=C)`.
    """
    if torch.jit.is_scripting():
        y = torch.ops.replknet.depthwise_conv2d(x, weight, bias)
    else:
        y = _depthwise_conv2d(x, weight, bias)
    return y


def _depthwise_conv2d(x: Any, weight: Any, bias: Any) -> Any:
    """Call the operator, or compute directly where a plain CPU tensor needs none of the operator's features.

    Calling the operator costs 10 to 20 microseconds, as much as a small convolution.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return torch.ops.replknet.depthwise_conv2d(x, weight, bias)
    if torch._C._len_torch_dispatch_stack():  # a FLOP counter may be active
        flops.ensure_registered()
    elif type(x) is Tensor and x.is_cpu and _is_plain(weight) and not torch.is_autocast_enabled("cpu"):
        if bias is None:
            plan = cpu.plan_forward(x.shape, x.stride(), x.dtype, weight.shape, weight.dtype)
            filters_learn = weight.requires_grad
        elif _is_plain(bias):
            plan = cpu.plan_forward(x.shape, x.stride(), x.dtype, weight.shape, weight.dtype, bias.shape, bias.dtype)
            filters_learn = weight.requires_grad or bias.requires_grad
        else:
            return torch.ops.replknet.depthwise_conv2d(x, weight, bias)
        if not torch.is_grad_enabled() or not (filters_learn or x.requires_grad):
            return plan.run(x, weight, bias)
        if plan.small or (plan.native and not filters_learn):
            return plan.stock(x, weight, bias)
    return torch.ops.replknet.depthwise_conv2d(x, weight, bias)


def _is_plain(tensor: Any) -> bool:
    return type(tensor) in (Tensor, nn.Parameter) and tensor.is_cpu


def depthwise_conv2d_reference(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Slow reference implementation of `depthwise_conv2d`, one tap at a time; differentiable by ordinary autograd.

    Args, Returns, Raises: As for `depthwise_conv2d`; 16-bit types are accumulated in float32 and rounded once at the
        end.
    """
    check_forward(x, weight, bias)
    height, width = x.shape[2:]
    kernel_height, kernel_width = weight.shape[2:]
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    padded = F.pad(x.to(dtype), [kernel_width // 2] * 2 + [kernel_height // 2] * 2)
    taps = weight.to(dtype)
    y = torch.zeros_like(x, dtype=dtype)
    for i in range(kernel_height):
        for j in range(kernel_width):
            y = y + taps[:, :, i, j, None] * padded[:, :, i : i + height, j : j + width]  # (C, 1, 1): all pixels
    if bias is not None:
        y = y + bias.to(dtype)[:, None, None]
    return as_format(y.to(x.dtype), format_of(x))


def depthwise_conv2d_input_grad(grad: Tensor, weight: Tensor) -> Tensor:
    """Gradient of `depthwise_conv2d` with respect to its input: the convolution with filters rotated by 180 degrees.

    Args:
        grad: Gradient with respect to the output (N, C, H, W).
        weight: Filters (C, 1, kh, kw), as in the forward pass.
    Returns: (N, C, H, W), in the layout of `grad`; itself differentiable.
    Raises: ValueError as `depthwise_conv2d`.
    """
    if _only_numbers(grad, weight):
        return cpu.input_grad(grad, weight)
    return torch.ops.replknet.depthwise_conv2d_input_grad(grad, weight)


def depthwise_conv2d_weight_grad(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    """Gradient of `depthwise_conv2d` with respect to its filters, summed over images and pixels.

    Args:
        x: Input (N, C, H, W).
        grad: Gradient with respect to the output, of the same shape.
        kernel_height: Height of the filters, odd, at most 63.
        kernel_width: Width of the filters, likewise.
    Returns: (C, 1, kh, kw); itself differentiable.
    Raises: ValueError for shapes, dtypes or devices that do not match.
    """
    if _only_numbers(x, grad):
        check_weight_grad(x, grad, kernel_height, kernel_width)
        return cpu.weight_grad(x, grad, kernel_height, kernel_width)
    return torch.ops.replknet.depthwise_conv2d_weight_grad(x, grad, kernel_height, kernel_width)


def _only_numbers(*tensors: Tensor) -> bool:
    """Whether the operator can be bypassed: plain CPU tensors that nothing traces, intercepts or differentiates."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or torch._C._len_torch_dispatch_stack():
        return False
    return all(_is_plain(tensor) for tensor in tensors)


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` with stride 1, same padding and one filter per channel, computed by `depthwise_conv2d`.

    A drop-in replacement, with the same parameters, initialisation, state dict and attributes as
    `nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)`.

    Args:
        channels: Number of input and output channels.
        kernel_size: Side, or (height, width), of the kernel; odd, 1 to 63.
        bias: Whether to add a learned bias, one number per channel.
    Raises: ValueError for an even or too large kernel.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int | tuple[int, int],
        bias: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        height, width = (kernel_size, kernel_size) if isinstance(kernel_size, int) else kernel_size
        check_kernel(height, width)
        super().__init__(
            channels,
            channels,
            (height, width),
            padding=(height // 2, width // 2),
            groups=channels,
            bias=bias,
            device=device,
            dtype=dtype,
        )

    def forward(self, input: Tensor) -> Tensor:  # named as in nn.Conv2d
        return depthwise_conv2d(input, self.weight, self.bias)


# no default for the bias: the dispatcher would omit it, and autograd would then count two inputs instead of three
torch.library.define(_FORWARD, "(Tensor x, Tensor weight, Tensor? bias) -> Tensor")
torch.library.define(_INPUT_GRAD, "(Tensor grad, Tensor weight) -> Tensor")
torch.library.define(_WEIGHT_GRAD, "(Tensor x, Tensor grad, int kernel_height, int kernel_width) -> Tensor")


@torch.library.impl(_FORWARD, "cpu")
def _forward_cpu(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return cpu.forward(x, weight, bias)


@torch.library.impl(_INPUT_GRAD, "cpu")
def _input_grad_cpu(grad: Tensor, weight: Tensor) -> Tensor:
    return cpu.input_grad(grad, weight)


@torch.library.impl(_WEIGHT_GRAD, "cpu")
def _weight_grad_cpu(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    check_weight_grad(x, grad, kernel_height, kernel_width)
    return cpu.weight_grad(x, grad, kernel_height, kernel_width)


@torch.library.impl(_FORWARD, "cuda")
def _forward_cuda(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    check_forward(x, weight, bias)
    return cuda.forward(x, weight, bias)


@torch.library.impl(_INPUT_GRAD, "cuda")
def _input_grad_cuda(grad: Tensor, weight: Tensor) -> Tensor:
    check_forward(grad, weight, None)
    return cuda.forward(grad, turned(weight), None)


@torch.library.impl(_WEIGHT_GRAD, "cuda")
def _weight_grad_cuda(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    check_weight_grad(x, grad, kernel_height, kernel_width)
    return cuda.weight_grad(x, grad, kernel_height, kernel_width)


@torch.library.register_fake(_FORWARD)
def _forward_fake(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    check_forward(x, weight, bias)
    return empty_output(x)


@torch.library.register_fake(_INPUT_GRAD)
def _input_grad_fake(grad: Tensor, weight: Tensor) -> Tensor:
    check_forward(grad, weight, None)
    return empty_output(grad)


@torch.library.register_fake(_WEIGHT_GRAD)
def _weight_grad_fake(x: Tensor, grad: Tensor, kernel_height: int, kernel_width: int) -> Tensor:
    check_weight_grad(x, grad, kernel_height, kernel_width)
    return x.new_empty((x.shape[1], 1, kernel_height, kernel_width))


def _forward_setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor | None], output: Tensor) -> None:
    x, weight, _ = inputs
    # save only what is needed: no activation for frozen filters, no filters if the input needs no gradient
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)
    ctx.kernel = tuple(weight.shape[2:])
    ctx.format = format_of(x)


def _forward_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    x, weight = ctx.saved_tensors
    grad = as_format(grad, ctx.format)
    grad_x = grad_weight = grad_bias = None
    if ctx.needs_input_grad[0]:
        grad_x = depthwise_conv2d_input_grad(grad, weight)
    if ctx.needs_input_grad[1]:
        grad_weight = depthwise_conv2d_weight_grad(x, grad, *ctx.kernel)
    if ctx.needs_input_grad[2]:
        grad_bias = grad.sum((0, 2, 3))
    return grad_x, grad_weight, grad_bias


def _input_grad_setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    grad, weight = inputs
    ctx.save_for_backward(grad if ctx.needs_input_grad[1] else None, weight if ctx.needs_input_grad[0] else None)
    ctx.kernel = tuple(weight.shape[2:])


def _input_grad_backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """The input gradient is linear in grad and in weight; its gradients are the other two operators applied to v."""
    grad, weight = ctx.saved_tensors
    grad_grad = grad_weight = None
    if ctx.needs_input_grad[0]:
        grad_grad = torch.ops.replknet.depthwise_conv2d(v, weight, None)
    if ctx.needs_input_grad[1]:
        grad_weight = torch.ops.replknet.depthwise_conv2d_weight_grad(v, grad, *ctx.kernel)
    return grad_grad, grad_weight


def _weight_grad_setup(ctx: Any, inputs: tuple[Tensor, Tensor, int, int], output: Tensor) -> None:
    x, grad, _, _ = inputs
    ctx.save_for_backward(x if ctx.needs_input_grad[1] else None, grad if ctx.needs_input_grad[0] else None)


def _weight_grad_backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
    """The weight gradient is linear in x and in grad; both gradients are convolutions with v (C, 1, kh, kw)."""
    x, grad = ctx.saved_tensors
    grad_x = grad_grad = None
    if ctx.needs_input_grad[0]:
        grad_x = torch.ops.replknet.depthwise_conv2d_input_grad(grad, v)
    if ctx.needs_input_grad[1]:
        grad_grad = torch.ops.replknet.depthwise_conv2d(x, v, None)
    return grad_x, grad_grad, None, None


torch.library.register_autograd(_FORWARD, _forward_backward, setup_context=_forward_setup)
torch.library.register_autograd(_INPUT_GRAD, _input_grad_backward, setup_context=_input_grad_setup)
torch.library.register_autograd(_WEIGHT_GRAD, _weight_grad_backward, setup_context=_weight_grad_setup)

# `torch.library.register_autocast` takes one fixed dtype, but a convolution follows the dtype that the user chose. The
# functional interface has no autocast keys, so the kernels are registered by a `Library`, which must outlive them.
_AUTOCAST = torch.library.Library("replknet", "IMPL")


def _register_autocast(device_type: str, key: str) -> None:
    def cast(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        dtype = torch.get_autocast_dtype(device_type)

        def to(tensor: Tensor) -> Tensor:  # float64 is kept, as in PyTorch's own convolution
            return tensor if tensor.dtype == torch.float64 else tensor.to(dtype)

        with torch.autocast(device_type, enabled=False):
            return torch.ops.replknet.depthwise_conv2d(to(x), to(weight), None if bias is None else to(bias))

    _AUTOCAST.impl("depthwise_conv2d", cast, key)


_register_autocast("cpu", "AutocastCPU")
_register_autocast("cuda", "AutocastCUDA")
flops.ensure_registered()
