"""Maps of units whose value is not a number."""

import math

import torch

__all__ = ["spoil_not_finite"]


def spoil_not_finite(gradient: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """The gradient (N, C, H, W), set to NaN for images whose unit (N, C', ...) is not finite and so has no gradient.

    A NaN or an overflow before the unit can leave the gradient finite where a ReLU or a maximum does not pass it on.
    """
    if math.isfinite(unit.sum().item()):  # then all are finite; an infinite sum may be an overflow
        return gradient
    spoiled = ~unit.isfinite().flatten(1).all(1)
    return gradient.masked_fill(spoiled.view(-1, 1, 1, 1), float("nan"))
