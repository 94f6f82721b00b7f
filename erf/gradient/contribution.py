"""Contribution maps: how much each input pixel contributes to the central unit of a feature map.

Definition (arXiv:2203.06717, Section 5 and Appendix; the authors' `erf/visualize_erf.py`, `get_input_grad`): the values
of all channels at the central unit are rectified and summed. The sum is differentiated with respect to the normalised
input. This gradient is rectified and summed over colours. The feature map is taken before any final normalisation.
"""

import threading
from typing import Any

import numpy as np
import torch
from torch import nn

from erf.gradient.central import central_gradients
from erf.gradient.image_type import image_type
from erf.gradient.layers.capture import refuse_unfinished, unwrapped
from erf.gradient.layers.find import feature_map, is_module_name
from erf.gradient.layers.known import forget_if_changed
from erf.gradient.layers.layer import ForwardError, Layer, LayerError, NotDifferentiable, as_layer
from erf.gradient.layers.modules import modules_of
from erf.gradient.layers.steady import UnsteadyForward, check_again
from erf.gradient.lean.form import FastForm
from erf.gradient.lean.kept import prepare_or_keep
from erf.gradient.lean.network import LeanNetwork
from erf.gradient.plain import TrainModeError, refuse_train_mode
from runkit.compute.device import exact_float32

__all__ = [
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


_ONE_AT_A_TIME = threading.RLock()


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

    float32 is computed exactly as float32: neither TF32 tensor cores nor `autocast` are used. The network's buffers and
    some settings of PyTorch are changed while a map is computed, so calls from several threads wait for each other.

    Args:
        model, images, layer: As for `contribution_map`.
        plain: Whether to run the network unchanged, by plain autograd. Otherwise it runs in a faster form, as on the
            command line, if that form was verified against the plain one.

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
    with _ONE_AT_A_TIME:
        return _maps(unwrapped(model), images, layer, plain)


def _maps(model: nn.Module, images: torch.Tensor | np.ndarray, layer: Layer, plain: bool) -> torch.Tensor:
    """As `contribution_maps`, for a network without wrappers."""
    modules = modules_of(model)
    refuse_unfinished(model, modules)
    refuse_train_mode(model, modules)
    forget_if_changed(model)
    x = as_batch(images, like=model)
    with exact_float32(), torch.inference_mode(False):
        if plain:
            check_again(model)
            return central_gradients(model, x, layer=layer).maps
        prepared = prepare_or_keep(model, layer, x)
        x = x.contiguous(memory_format=prepared.memory_format)
        try:
            return central_gradients(prepared.network, x, layer=layer).maps
        except LayerError:  # raised by a copy whose functions may still refer to the original network's modules
            return central_gradients(model, x, layer=layer).maps


def as_batch(images: Any, *, like: nn.Module | None = None) -> torch.Tensor:
    """Images as a batch (N, C, H, W), on the device and in the precision of a network.

    The images keep their own precision if the network has several.

    Raises: TypeError if the images are not floating-point numbers; ValueError if their shape is not that of a batch.
    """
    if not isinstance(images, (torch.Tensor, np.ndarray)):
        raise TypeError(f"images are a tensor or an array (N, C, H, W), not {type(images).__name__}")
    if isinstance(images, np.ndarray):  # PyTorch takes neither negative strides nor foreign byte orders
        images = np.ascontiguousarray(images, images.dtype.newbyteorder("="))
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
