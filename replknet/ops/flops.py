"""FLOP counts of the operators for `torch.utils.flop_counter.FlopCounterMode`.

The count is the nominal one of a convolution, as PyTorch counts `aten.convolution`: two FLOPs per tap and output,
including the taps that fall on padding. A network's count is therefore the same with either operator.

Importing PyTorch's counter imports Triton, so this module does not import it; it registers the formulas once the user
has.
"""

import sys
from math import prod
from typing import Any

import torch

__all__ = ["ensure_registered"]


def _forward_flops(x_shape: Any, weight_shape: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
    """2 · N·C·H·W · kh·kw."""
    return 2 * prod(x_shape) * prod(weight_shape[2:])


def _weight_grad_flops(
    x_shape: Any, grad_shape: Any, kernel_height: int, kernel_width: int, *_: Any, out_shape: Any = None, **__: Any
) -> int:
    """2 · N·C·H·W · kh·kw: each tap is combined with each output once."""
    return 2 * prod(x_shape) * kernel_height * kernel_width


def ensure_registered() -> None:
    """Register the formulas with PyTorch's counter, if it is imported, and with counters that are currently active.

    A counter copies the table of formulas when it is created, so a counter that was created before the first call of
    our operator has to be given them as well.
    """
    counter = sys.modules.get("torch.utils.flop_counter")
    if counter is None or not hasattr(counter, "register_flop_formula"):  # still being imported
        return
    formulas = {
        torch.ops.replknet.depthwise_conv2d: _forward_flops,
        torch.ops.replknet.depthwise_conv2d_input_grad: _forward_flops,
        torch.ops.replknet.depthwise_conv2d_weight_grad: _weight_grad_flops,
    }
    for packet, formula in formulas.items():
        if packet not in counter.flop_registry:
            counter.register_flop_formula(packet)(formula)
    for mode in torch.utils._python_dispatch._get_current_dispatch_mode_stack():
        registry = getattr(getattr(mode, "counter", mode), "flop_registry", None)
        if registry is not None:
            for packet in formulas:
                registry.setdefault(packet, counter.flop_registry[packet])
