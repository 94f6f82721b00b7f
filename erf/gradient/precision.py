"""Reduced precision: its names, how a network runs in it, and how much it changes a map."""

from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from erf.gradient.contribution import central_gradients
from erf.gradient.layers.layer import Layer
from erf.gradient.lean.prepare import Prepared, prepare
from erf.results.content import PrecisionLoss
from runkit import UserError
from runkit.compute.device import exact_float32, tensor_float32

__all__ = ["arithmetic", "check_precision", "is_reduced", "number_type", "prepare_reduced"]

_ONLY_CUDA = ("float16", "tf32")


def is_reduced(precision: str) -> bool:
    """Whether a precision has fewer digits than float32."""
    return precision not in ("float32", "float64")


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that a device does not have.

    Raises: UserError.
    """
    if precision in _ONLY_CUDA and device.type != "cuda":
        raise UserError(f"--precision {precision} needs a CUDA device; {device} has float32, float64 and bfloat16")


def number_type(precision: str) -> torch.dtype:
    """Data type of parameters and activations. For tf32 it is float32: only the way of multiplying differs."""
    return torch.float32 if precision == "tf32" else getattr(torch, precision)


def arithmetic(precision: str) -> AbstractContextManager[None]:
    """Context in which products are computed in a precision."""
    return tensor_float32() if precision == "tf32" else exact_float32()


def prepare_reduced(
    model: nn.Module,
    precision: str,
    image: Tensor,
    *,
    layer: str | int | Layer = "last",
    plain: bool = False,
    cuda_graphs: bool = False,
) -> tuple[Prepared, PrecisionLoss]:
    """Prepare a network in a reduced precision, and measure how much that changes the map of an image.

    Args:
        model: In float32 and eval mode; changed in place, as by `erf.gradient.lean.prepare.prepare`.
        image: Normalised (1, 3, H, W), float32, on the network's device.
        layer, plain, cuda_graphs: As for `prepare`.

    Returns: The network, and `relative_l2`: the norm of the difference between its map of the image and the float32
        map, divided by the norm of the latter; None if it is not finite.
    Raises: LayerError if there is no such layer.
    """
    exact = _map(prepare(model, layer=layer, plain=plain), "float32", image, layer)
    prepared = prepare(model.to(number_type(precision)), layer=layer, plain=plain, cuda_graphs=cuda_graphs)
    try:
        found = _map(prepared, precision, image, layer)
    except FloatingPointError:
        return prepared, {"relative_l2": None}
    return prepared, {"relative_l2": ((found - exact).norm() / exact.norm()).item()}


def _map(prepared: Prepared, precision: str, image: Tensor, layer: str | int | Layer) -> Tensor:
    """The map of an image in a precision.

    Raises: FloatingPointError if it is not finite.
    """
    x = image.to(number_type(precision)).contiguous(memory_format=prepared.memory_format)
    with arithmetic(precision):
        (found,) = central_gradients(prepared.network, x, layer=layer).maps
    if not torch.isfinite(found).all():
        raise FloatingPointError(f"the gradient is not finite in {precision}")
    return found
