"""Contribution maps: how much each input pixel contributes to the central unit of a feature map.

Definition (arXiv:2203.06717, Section 5 and Appendix; the authors' `erf/visualize_erf.py`, `get_input_grad`): the values
of all channels at the central unit are rectified and summed, differentiated with respect to the normalised input, the
gradient is rectified and summed over colours. The feature map is taken before any final normalisation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import nn

from erf.gradient.lean.form import FastForm
from erf.gradient.lean.network import LeanNetwork
from erf.gradient.positions import CENTRE, Position, unit_at

__all__ = [
    "CentralGradients",
    "LayerError",
    "central_gradients",
    "contribution_map",
    "contribution_maps",
    "feature_map",
    "is_module_name",
]


class LayerError(ValueError):
    """The network has no such layer, or its output is no feature map."""


def contribution_map(
    model: nn.Module | LeanNetwork | FastForm, images: torch.Tensor, *, layer: str | int = "last"
) -> torch.Tensor:
    """Mean contribution map of a batch.

    Args:
        model: Network in eval mode; left as it was found.
        images: Normalised batch (N, 3, H, W); not written to.
        layer: As for `feature_map`.

    Returns: float64 (H, W), >= 0, on the CPU: rectified gradient of the central unit, summed over colours in the
        network's precision, averaged over images in float64. Not scaled to 1.
    Raises: As `contribution_maps`; FloatingPointError if the gradient of any image is not finite.
    """
    maps = contribution_maps(model, images, layer=layer)
    if not torch.isfinite(maps).all():
        bad = [i for i in range(len(maps)) if not torch.isfinite(maps[i]).all()]
        raise FloatingPointError(f"the gradient is not finite for images {bad} of the batch")
    return maps.mean(0)


def contribution_maps(
    model: nn.Module | LeanNetwork | FastForm, images: torch.Tensor, *, layer: str | int = "last"
) -> torch.Tensor:
    """Contribution map of each image of a batch, float64 (N, H, W): the maps of `central_gradients`."""
    return central_gradients(model, images, layer=layer).maps


class CentralGradients(NamedTuple):
    """Contribution maps, float64 (N, H, W), and the size (h, w) of the feature map; its unit is that of `unit_at`."""

    maps: torch.Tensor
    feature_size: tuple[int, int]


def central_gradients(
    model: nn.Module | LeanNetwork | FastForm,
    images: torch.Tensor,
    *,
    layer: str | int = "last",
    position: Position = CENTRE,
) -> CentralGradients:
    """Contribution map of each image of a batch, and which unit it belongs to.

    Args:
        model: Network in eval mode, so that images do not influence each other; parameters and modes are left as they
            were found. Or what `erf.gradient.lean.prepare` made of it for this layer.
        images: Normalised batch (N, C, H, W) on the network's device and in its precision; not written to.
        layer: As for `feature_map`.
        position: Where in the image the unit lies; its centre for the unit (h // 2, w // 2).

    Returns: Maps on the CPU, unscaled, >= 0 where finite; not-finite values are passed on.
    Raises: ValueError if the network is in train mode; LayerError as `feature_map`.
    """
    if isinstance(model, FastForm):
        model = model.choose(images, position)
    if isinstance(model, LeanNetwork):
        gradient, feature_size = model.central_gradient(images, position)
        return CentralGradients(gradient.relu_().sum(1).to("cpu", torch.float64), feature_size)
    if model.training:
        raise ValueError("contribution maps need a network in eval mode: call model.eval() first")
    with _parameters_without_gradient(model), torch.enable_grad():
        x = images.detach().requires_grad_()
        feat = feature_map(model, x, layer=layer)
        height, width = feat.shape[-2:]
        row, column = unit_at(position, (height, width))
        central = feat[:, :, row, column].relu().sum()
        (gradient,) = torch.autograd.grad(central, x)
    return CentralGradients(gradient.relu_().sum(1).to("cpu", torch.float64), (height, width))


def feature_map(model: nn.Module, x: torch.Tensor, *, layer: str | int = "last") -> torch.Tensor:
    """One feature map of a network.

    Args:
        model: A network of timm, or any module when `layer` is a module's name.
        x: Normalised images (N, C, H, W).
        layer: 'last' for the last feature map before any final normalisation (of a module that is no network of timm:
            its output), a position (as in timm's `forward_intermediates`, negative ones from the end), or the name of
            a submodule, such as 'stages.2'.

    Returns: (N, C, h, w). A submodule's output of tokens (N, L, C) is taken as a square map after its prefix tokens.
    Raises: LayerError if there is no such layer, or its output is no map.
    """
    network: Any = model  # its methods beyond nn.Module's are timm's
    if is_module_name(model, layer):
        return _output_of_module(model, x, str(layer))
    position = _as_position(layer)
    if position is not None and hasattr(model, "forward_intermediates"):
        count = len(getattr(model, "feature_info", ())) or None
        if count is not None and not -count <= position < count:
            raise LayerError(f"layer {layer}: the network has feature maps 0 to {count - 1}")
        maps = network.forward_intermediates(
            x, indices=[position], norm=False, output_fmt="NCHW", intermediates_only=True, stop_early=True
        )
        return maps[0]
    if layer == "last" and hasattr(model, "forward_features"):
        return _as_map(model, network.forward_features(x), x, "forward_features")
    if layer == "last" and isinstance(output := model(x), torch.Tensor) and output.ndim == 4:
        return _as_map(model, output, x, "last")
    raise LayerError(
        f"layer {layer}: {type(model).__name__} has no forward_intermediates; name a submodule instead, such as "
        f"{_some_names(model)}"
    )


def is_module_name(model: nn.Module, layer: str | int) -> bool:
    """Whether `layer` stands for a submodule, existing or not, and not for a position among the feature maps."""
    if _as_position(layer) is None:
        return True
    return not hasattr(model, "forward_intermediates") and str(layer) in dict(model.named_modules())


def _as_position(layer: str | int) -> int | None:
    """Position that a layer argument stands for; None if it is a module's name."""
    if layer == "last":
        return -1
    try:
        return int(layer)
    except ValueError:
        return None


def _output_of_module(model: nn.Module, x: torch.Tensor, name: str) -> torch.Tensor:
    modules = dict(model.named_modules())
    if name not in modules or name == "":
        raise LayerError(f"layer {name!r}: there is no such module; there are {_some_names(model)}")
    outputs: list[torch.Tensor] = []
    handle = modules[name].register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        model(x)
    finally:
        handle.remove()
    if not outputs:
        raise LayerError(f"layer {name!r} was not run by the network's forward pass")
    return _as_map(model, outputs[-1], x, name)


def _as_map(model: nn.Module, output: object, x: torch.Tensor, name: str) -> torch.Tensor:
    """Bring a module's output to (N, C, h, w)."""
    if not isinstance(output, torch.Tensor) or output.ndim not in (3, 4):
        shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
        raise LayerError(f"layer {name!r} gives {shape}, not a feature map of 3 or 4 dimensions")
    if output.ndim == 4:
        return output.permute(0, 3, 1, 2) if str(getattr(model, "output_fmt", "NCHW")) == "NHWC" else output
    tokens = output[:, getattr(model, "num_prefix_tokens", 0) :]
    side = round(tokens.shape[1] ** 0.5)
    if side * side != tokens.shape[1] or x.shape[-1] != x.shape[-2]:
        raise LayerError(f"layer {name!r} gives {tokens.shape[1]} tokens, which form no square map")
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def _some_names(model: nn.Module) -> str:
    names = [name for name, _ in model.named_modules() if name]
    shown = [name for name in names if name.count(".") <= 1] or names
    return ", ".join(shown[:12]) + (", ..." if len(shown) > 12 else "")


@contextmanager
def _parameters_without_gradient(model: nn.Module) -> Iterator[None]:
    """Only the input's gradient is wanted: without the parameters' the backward pass has half the work."""
    wanted = [p for p in model.parameters() if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
