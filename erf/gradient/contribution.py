"""Contribution maps: how much each input pixel contributes to the central unit of a feature map.

Definition (arXiv:2203.06717, Section 5 and Appendix; the authors' `erf/visualize_erf.py`, `get_input_grad`): the values
of all channels at the central unit are rectified and summed, differentiated with respect to the normalised input, the
gradient is rectified and summed over colours. The feature map is taken before any final normalisation.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from erf.gradient.batchnorm import guard_batch_norms
from erf.gradient.finite import spoil_not_finite
from erf.gradient.image_type import image_type
from erf.gradient.layers.capture import refuse_unfinished, unwrapped
from erf.gradient.layers.find import feature_map, find_feature_map, is_module_name, resolve
from erf.gradient.layers.known import forget_if_changed
from erf.gradient.layers.layer import ForwardError, Layer, LayerError, NotDifferentiable, as_layer
from erf.gradient.layers.modules import modules_of, parameters_of
from erf.gradient.layers.steady import UnsteadyForward, check_steady, normalises_by_batch
from erf.gradient.lean.form import FastForm
from erf.gradient.lean.network import LeanNetwork
from erf.gradient.positions import CENTRE, Position, unit_at
from erf.gradient.state import same_buffers
from runkit.compute.device import exact_float32
from runkit.compute.memory import is_out_of_memory
from runkit.plugins import OWN_CODE_ERRORS, words_of

__all__ = [
    "CentralGradients",
    "ForwardError",
    "Layer",
    "LayerError",
    "NotDifferentiable",
    "TrainModeError",
    "UnsteadyForward",
    "central_gradients",
    "contribution_map",
    "contribution_maps",
    "feature_map",
    "is_module_name",
]


class TrainModeError(ValueError):
    """A network is in train mode, where images influence each other and statistics change."""


_WITHOUT_MODE = (nn.Identity, nn.Sequential, nn.ModuleList, nn.ModuleDict)  # the same in train and eval mode


def contribution_map(
    model: nn.Module | LeanNetwork | FastForm,
    images: torch.Tensor | np.ndarray,
    *,
    layer: str | int | Layer = "last",
    plain: bool = False,
) -> torch.Tensor:
    """Mean contribution map of a batch.

    Args:
        model: Network in eval mode; it is not changed. Wrappers of `torch.compile` and DataParallel are removed first.
        images: Normalised batch (N, 3, H, W), or one image (3, H, W): a tensor or an array, which is not changed.
        layer: As for `feature_map`.
        plain: As for `contribution_maps`.

    Returns: float64 (H, W), >= 0, on the CPU: rectified gradient of the central unit, summed over colours in the
        network's precision, averaged over images in float64. Not scaled to 1.
    Raises: As `contribution_maps`; FloatingPointError if the gradient of any image is not finite.
    """
    maps = contribution_maps(model, images, layer=layer, plain=plain)
    if not torch.isfinite(maps).all():
        bad = [i for i in range(len(maps)) if not torch.isfinite(maps[i]).all()]
        raise FloatingPointError(f"the gradient is not finite for images {bad} of the batch")
    return maps.mean(0)


def contribution_maps(
    model: nn.Module | LeanNetwork | FastForm,
    images: torch.Tensor | np.ndarray,
    *,
    layer: str | int | Layer = "last",
    plain: bool = False,
) -> torch.Tensor:
    """Contribution map of each image of a batch, float64 (N, H, W): the maps of `central_gradients`.

    float32 is computed exactly as float32: neither TF32 tensor cores nor `autocast` are used.

    Args:
        model, images, layer: As for `contribution_map`.
        plain: Whether to run the network as it is, by plain autograd. Otherwise it runs in a faster form if this was
            verified against the plain one, as on the command line.

    Raises: TypeError if `model` is not a module or `images` are not numbers; ValueError if they do not form a batch;
        TrainModeError, UnsteadyForward, NotDifferentiable, LayerError and ForwardError as `central_gradients`.
    """
    layer = as_layer(layer)
    if isinstance(model, (LeanNetwork, FastForm)):
        return central_gradients(model, as_batch(images), layer=layer).maps
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"contribution maps are of a network (torch.nn.Module), not of {model!r:.60}; "
            "replknet.load_model('resnet18').model builds one by its name"
        )
    model = unwrapped(model)
    modules = modules_of(model)
    refuse_unfinished(model, modules)
    _refuse_train_mode(model, modules)
    forget_if_changed(model)
    x = as_batch(images, like=model)
    with exact_float32(), torch.inference_mode(False):
        if plain:
            return central_gradients(model, x, layer=layer).maps
        from erf.gradient.lean.kept import prepare_or_keep  # which is above this module

        prepared = prepare_or_keep(model, layer, x)
        x = x.contiguous(memory_format=prepared.memory_format)
        try:
            return central_gradients(prepared.network, x, layer=layer).maps
        except LayerError:  # raised by a copy, whose functions may still refer to the network's own modules
            return central_gradients(model, x, layer=layer).maps


def as_batch(images: Any, *, like: nn.Module | None = None) -> torch.Tensor:
    """Images as a batch (N, C, H, W), on the device and in the precision of a network; in their own if it has several.

    Raises: TypeError if they are no floating-point numbers; ValueError if their shape is not a batch's.
    """
    if not isinstance(images, (torch.Tensor, np.ndarray)):
        raise TypeError(f"images are a tensor or an array (N, C, H, W), not {type(images).__name__}")
    x = torch.as_tensor(images)
    if not x.is_floating_point():
        raise TypeError(
            f"images are normalised floating-point numbers, not {str(x.dtype).removeprefix('torch.')}; "
            "erf.load_images reads and normalises them"
        )
    if x.ndim == 3:
        x = x[None]
    if x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"images are a batch (N, C, H, W) of at least one, not of shape {tuple(x.shape)}")
    if like is None:
        return x
    weight = next((p for p in [*like.parameters(), *like.buffers()] if p.is_floating_point()), x)
    return x.to(device=weight.device, dtype=image_type(like, x.dtype))


class CentralGradients(NamedTuple):
    """Contribution maps, float64 (N, H, W), and the size (h, w) of the feature map; its unit is that of `unit_at`."""

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
    """Contribution map of each image of a batch, and which unit it belongs to.

    Args:
        model: Network in eval mode, so that images do not influence each other; parameters and modes are left as they
            were found. Or what `erf.gradient.lean.prepare` made of it for this layer.
        images: Normalised batch (N, C, H, W) on the network's device and in its precision; not written to.
        layer: As for `feature_map`.
        position: Where in the image the unit lies; its centre for the unit (h // 2, w // 2).
        checked: Whether to try, before the first map, that each image alone settles what the network gives for it.

    Returns: Maps on the CPU, unscaled, >= 0 where finite; not-finite values are passed on, and the map of an image
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
    _refuse_train_mode(model, modules)
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
        for_network = x.clone()  # which may write to it
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
    """Say in one sentence why a network's own backward pass fails.

    Raises: NotDifferentiable, but for lack of memory and Ctrl-C.
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


def _refuse_train_mode(model: nn.Module, modules: Sequence[nn.Module]) -> None:
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
    """Only the input's gradient is wanted: without the parameters' the backward pass has half the work."""
    wanted = [p for p in parameters_of(modules) if p.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
