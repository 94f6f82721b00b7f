"""Maps of units whose value is not a number."""

import torch

__all__ = ["spoil_not_finite"]


def spoil_not_finite(gradient: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
    """The gradient (N, C, H, W), NaN for images whose unit (N, C', ...) is not finite: it is the gradient of nothing.

    A NaN or an overflow on the way to the unit leaves the gradient finite where a ReLU or a maximum passes it over.
    """
    spoiled = ~unit.detach().isfinite().flatten(1).all(1)
    return gradient.masked_fill(spoiled.view(-1, 1, 1, 1), float("nan")) if spoiled.any() else gradient
