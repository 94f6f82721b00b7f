"""The gradient of a network's central unit to each image of a batch, by plain autograd or in a faster form."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import nn

from erf.gradient.batchnorm import guard_batch_norms
from erf.gradient.finite import spoil_not_finite
from erf.gradient.layers.capture import refuse_unfinished, unwrapped
from erf.gradient.layers.find import find_feature_map, is_module_name, resolve
from erf.gradient.layers.layer import Layer, NotDifferentiable, as_layer
from erf.gradient.layers.modules import modules_of, parameters_of
from erf.gradient.layers.steady import check_steady, normalises_by_batch
from erf.gradient.lean.form import FastForm
from erf.gradient.lean.network import LeanNetwork
from erf.gradient.positions import CENTRE, Position, unit_at
from erf.gradient.state import same_buffers
from runkit.compute.memory import is_out_of_memory
from runkit.plugins import OWN_CODE_ERRORS, words_of

__all__ = ["CentralGradients", "TrainModeError", "central_gradients", "refuse_train_mode"]


class TrainModeError(ValueError):
    """A network is in train mode, where images influence each other and statistics change."""


_WITHOUT_MODE = (nn.Identity, nn.Sequential, nn.ModuleList, nn.ModuleDict)  # the same in train and eval mode


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
    if isinstance(model, FastForm):
        model = model.choose(images, position)
    if isinstance(model, LeanNetwork):
        gradient, feature_size = model.central_gradient(images, position)
        return CentralGradients(gradient.relu_().sum(1).to("cpu", torch.float64), feature_size)
    model = unwrapped(model)
    modules = modules_of(model)
    refuse_unfinished(model, modules)
    refuse_train_mode(model, modules)
    layer, by_batch = as_layer(layer), normalises_by_batch(modules)
    if checked:
        check_steady(model, images, layer, by_batch=by_batch)
    if len(images) > 1 and by_batch:
        parts = [_gradients(model, modules, image[None], layer, position) for image in images]
        return CentralGradients(torch.cat([part.maps for part in parts]), parts[0].feature_size)
    return _gradients(model, modules, images, layer, position)


def _gradients(
    model: nn.Module, modules: Sequence[nn.Module], images: torch.Tensor, layer: Layer, position: Position
) -> CentralGradients:
    autocast = torch.autocast(images.device.type, enabled=False)
    grad = torch.enable_grad()
    with _parameters_without_gradient(modules), torch.inference_mode(False), grad, autocast, same_buffers(modules):
        x = images.detach().clone().requires_grad_()
        for_network = x.clone()  # the network may write to this copy
        try:
            height, width, gradient = _central(model, x, for_network, layer, position)
        except NotDifferentiable as error:
            found = resolve(model, layer)
            stops = found.call is not None or not is_module_name(model, found)
            if stops or _OVERWRITTEN not in str(error.__cause__):
                raise
            # code after the layer overwrites tensors that its gradient needs, so stop at the layer
            height, width, gradient = _central(model, x, x.clone(), replace(found, call=0), position)
    return CentralGradients(gradient.relu_().sum(1).to("cpu", torch.float64), (height, width))


def _central(
    model: nn.Module, x: torch.Tensor, for_network: torch.Tensor, layer: Layer, position: Position
) -> tuple[int, int, torch.Tensor]:
    """Size of the feature map, and the gradient of its rectified unit, summed over channels, to `x`."""
    feat, taken = find_feature_map(model, for_network, layer)
    height, width = feat.shape[-2:]
    row, column = unit_at(position, (height, width))
    unit = feat[:, :, row, column]
    central = unit.relu().sum()
    with _backward_in_words(taken.module):
        guard_batch_norms(central)
        (gradient,) = torch.autograd.grad(central, x, allow_unused=True)
    if gradient is None:
        raise NotDifferentiable(f"layer {taken.module!r} does not depend on the images")
    return height, width, spoil_not_finite(gradient, unit)


_OVERWRITTEN = "modified by an inplace operation"
_REENTRANT = "use_reentrant=True"


@contextmanager
def _backward_in_words(layer: str) -> Iterator[None]:
    """Turn a failure of a network's own backward pass into a one-sentence error.

    Raises: NotDifferentiable for any failure except lack of memory and Ctrl-C.
    """
    try:
        yield
    except OWN_CODE_ERRORS as error:
        if is_out_of_memory(error):
            raise
        if _REENTRANT in str(error):
            raise NotDifferentiable(
                f"no gradient of layer {layer!r} to the images alone goes through torch.utils.checkpoint with "
                "use_reentrant=True: let the network call it with use_reentrant=False, or not at all"
            ) from error
        raise NotDifferentiable(
            f"the gradient of layer {layer!r} to the images cannot be computed ({words_of(error)}): name an earlier "
            "layer, or change what the network's backward pass does not take"
        ) from error


def refuse_train_mode(model: nn.Module, modules: Sequence[nn.Module]) -> None:
    """Raises: TrainModeError if any of a network's modules is in train mode."""
    if not any(module.training for module in modules):
        return
    training = [
        (name, module)
        for name, module in model.named_modules()
        if module.training and (not name or type(module) not in _WITHOUT_MODE)
    ]
    if not training:
        return
    name, module = training[0]
    what = f"its submodule {name!r} ({type(module).__name__}) is in train mode" if name else "it is in train mode"
    raise TrainModeError(f"contribution maps need a network in eval mode, and {what}: call model.eval() first")


@contextmanager
def _parameters_without_gradient(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Switch off the gradients of the parameters: they are not wanted, and without them the backward pass is halved."""
    wanted = [p for p in parameters_of(modules) if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
