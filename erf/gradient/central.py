"""The gradient of a network's central unit to each image of a batch, by plain autograd or in a faster form."""

from typing import NamedTuple

import torch
from torch import nn

from erf.gradient.graphs import RecordedNetwork
from erf.gradient.layers.layer import Layer, as_layer
from erf.gradient.lean.form import FastForm
from erf.gradient.lean.network import LeanNetwork
from erf.gradient.plain import PlainNetwork
from erf.gradient.positions import CENTRE, Position

__all__ = ["CentralGradients", "central_gradients", "choose_form"]


class CentralGradients(NamedTuple):
    """Contribution maps, float64 (N, H, W), and the size (h, w) of the feature map; its unit is given by `unit_at`."""

    maps: torch.Tensor
    feature_size: tuple[int, int]


def central_gradients(
    model: nn.Module | LeanNetwork | FastForm,
    images: torch.Tensor,
    *,
    layer: str | int | Layer = "last",
    position: Position = CENTRE,
    checked: bool = True,
) -> CentralGradients:
    """Contribution map of the central unit, or of the unit at another position, for each image of a batch.

    Args:
        model: Network in eval mode, so that images do not influence each other; parameters and modes are left as they
            were found. It may also be the form that `erf.gradient.lean.prepare` made of a network for this layer.
        images: Normalised batch (N, C, H, W) on the network's device and in its precision; not written to.
        layer: As for `feature_map`.
        position: Position of the unit in the image. The centre means the unit (h // 2, w // 2).
        checked: Whether to test, before the first map, that the network's output for an image depends on that image
            alone.

    Returns: Maps on the CPU, unscaled, >= 0 where finite. Values that are not finite are passed on. The map of an image
            whose unit is not finite is NaN.
    Raises: TrainModeError if a submodule is in train mode; UnsteadyForward if a forward pass is random or mixes the
        images of a batch; NotDifferentiable if the layer does not depend on the images; LayerError and ForwardError as
        `feature_map`.
    """
    form = choose_form(model, images, layer=layer, position=position, checked=checked)
    gradient, feature_size = form.central_gradient(images, position)
    return CentralGradients(gradient.relu_().sum(1).to("cpu", torch.float64), feature_size)


def choose_form(
    model: nn.Module | LeanNetwork | FastForm,
    images: torch.Tensor,
    *,
    layer: str | int | Layer = "last",
    position: Position = CENTRE,
    checked: bool = True,
) -> PlainNetwork | RecordedNetwork | LeanNetwork:
    """The form in which a network computes these maps, after the checks that its first map needs.

    Args, Raises: As for `central_gradients`.
    """
    if isinstance(model, LeanNetwork):
        return model
    form = model.choose(images, position) if isinstance(model, FastForm) else PlainNetwork(model, as_layer(layer))
    if checked and not isinstance(form, LeanNetwork):
        form.check_steady(images)
    return form
