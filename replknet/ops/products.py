"""Linear layers computed by oneDNN, on processors on which it multiplies float32 matrices faster than PyTorch does.

PyTorch leaves products of float32 matrices to the library that it was built with, which is MKL in the packages for
x86. On an AMD EPYC with AVX-512 (Zen 5), MKL reaches half the rate of oneDNN, which PyTorch also contains: 0.43 to 0.52
of it on one and on two cores, for 257 to 4097 tokens and 192 to 3072 channels. The results agree up to rounding.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from replknet.ops.watched import is_watched

__all__ = ["ONEDNN_IS_FASTER", "OneDNNLinear", "linear", "use_onednn"]

_PRODUCT = getattr(torch.ops.mkldnn, "_linear_pointwise", None) if torch.backends.mkldnn.is_available() else None
ONEDNN_IS_FASTER = _PRODUCT is not None and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
"""Whether oneDNN multiplies float32 matrices faster than PyTorch's own product on this processor, or as fast."""
_FEW = 1 << 21
"""Number of multiplications below which PyTorch's own product is as fast."""
_FEW_WITH_GRADIENT = 1 << 23
"""The same where the product is differentiated: autograd takes longer for a function that is written in Python."""


class OneDNNLinear(nn.Linear):
    """`nn.Linear`, with oneDNN's matrix product where that is faster.

    It computes like `nn.Linear` on devices other than the CPU, for types other than float32, for inputs in another
    order in memory, and under autocast. The same holds where its operations are traced, compiled, scripted, transformed
    or intercepted, so that a single linear layer is recorded. Tools that look for modules of exactly the type
    `nn.Linear`, such as `torch.ao.quantization.quantize_dynamic`, need `replknet.optimize.use_stock_convolutions`
    first.
    """

    def forward(self, input: Tensor) -> Tensor:  # named as in nn.Linear
        if torch.jit.is_scripting():
            return F.linear(input, self.weight, self.bias)
        else:  # TorchScript would compile what follows a return
            return self._multiply(input)

    @torch.jit.unused
    def _multiply(self, input: Tensor) -> Tensor:
        if not is_watched(input) and _is_faster(input, self.weight, self.bias):
            return linear(input, self.weight, self.bias)
        return F.linear(input, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """As `torch.nn.functional.linear`, computed by oneDNN. It can be differentiated, several times as well.

    Args:
        x: float32 (..., C), on the CPU.
        weight: float32 (D, C), on the CPU, contiguous or the transpose of a contiguous matrix.
        bias: float32 (D,), on the CPU.

    Returns: float32 (..., D).
    Raises: ValueError if the shapes do not fit.
    """
    if x.shape[-1] != weight.shape[1] or (bias is not None and bias.shape != weight.shape[:1]):
        shapes = ", ".join(str(tuple(one.shape)) for one in (x, weight, bias) if one is not None)
        raise ValueError(f"a linear layer of an input, a weight and a bias of the shapes {shapes}")
    if torch.is_grad_enabled():
        return _Linear.apply(x, weight, bias)  # type: ignore[no-any-return]
    return _product(x, weight, bias)


def use_onednn(model: nn.Module) -> nn.Module:
    """Compute the linear layers of a network by oneDNN, in place, if the processor multiplies faster in this way.

    Returns: `model` itself; parameters and state dict are untouched.
    """
    for module in model.modules() if ONEDNN_IS_FASTER else ():
        if type(module) is nn.Linear:  # no subclass, which may compute something else
            setattr(module, "__class__", OneDNNLinear)  # noqa: B010  same attributes and parameters
    return model


def _is_faster(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN is to multiply these, and can."""
    return (
        ONEDNN_IS_FASTER
        and bool(torch.backends.mkldnn.enabled)
        and _is_dense(x)  # PyTorch multiplies transposed matrices without a copy
        and _is_dense(weight)
        and x.shape[-1:] == weight.shape[1:]
        and (bias is None or (_is_dense(bias) and bias.shape == weight.shape[:1]))
        and x.numel() * len(weight) >= (_FEW_WITH_GRADIENT if torch.is_grad_enabled() else _FEW)
        and not torch.is_autocast_enabled("cpu")
    )


def _is_dense(x: Tensor) -> bool:
    """Whether a tensor is an ordinary one, of contiguous float32 numbers on the CPU."""
    ordinary = type(x) in (Tensor, nn.Parameter) and x.layout is torch.strided and not x.is_nested
    return ordinary and x.dtype == torch.float32 and x.is_cpu and x.is_contiguous()


def _product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    assert _PRODUCT is not None
    dense = bias if bias is None else bias.contiguous()  # oneDNN would not notice other strides
    y: Tensor = _PRODUCT(x.contiguous(), weight, dense, "none", [], "")
    return y


class _Linear(torch.autograd.Function):
    """x · weightᵀ + bias, with its derivatives."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # type: ignore[override]
        of_x, of_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(x if of_weight else None, weight if of_x else None)
        return _product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        return (
            (linear(grad, weight.t()) if grad.is_contiguous() else grad @ weight) if of_x else None,
            rows.t() @ x.reshape(-1, x.shape[-1]) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )
