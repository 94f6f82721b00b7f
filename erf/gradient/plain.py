"""Gradient of the central unit with respect to the image, by plain autograd on the network as it is."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from erf.gradient.batchnorm import guard_batch_norms
from erf.gradient.finite import spoil_not_finite
from erf.gradient.layers.capture import is_eager, refuse_unfinished, unwrapped
from erf.gradient.layers.find import find_feature_map, is_module_name, resolve
from erf.gradient.layers.layer import Layer, NotDifferentiable
from erf.gradient.layers.modules import modules_of, parameters_of
from erf.gradient.layers.steady import UnsteadyForward, check_steady, normalises_by_batch
from erf.gradient.positions import CENTRE, Position, unit_at
from erf.gradient.state import SameBuffers, StatisticsChanged
from runkit.compute.memory import is_out_of_memory
from runkit.plugins import OWN_CODE_ERRORS, words_of

__all__ = ["PlainNetwork", "TrainModeError", "refuse_train_mode"]


class TrainModeError(ValueError):
    """A network is in train mode, where images influence each other and statistics change."""


_WITHOUT_MODE = (nn.Identity, nn.Sequential, nn.ModuleList, nn.ModuleDict)  # the same in train and eval mode


class PlainNetwork:
    """A network up to one feature map, unchanged. It is the counterpart of `erf.gradient.lean.network.LeanNetwork`.

    What the first map shows about the network is used for the next ones, so the network must not be changed between
    two maps of the same object.

    Args:
        model: In eval mode. Wrappers of `torch.compile` and DataParallel are removed.
        layer: The feature map.

    Attributes:
        model: The network, without wrappers.
        layer: The feature map.
        by_batch: Whether a normalisation uses the statistics of the batch, so that images run one by one.

    Raises: TrainModeError if a submodule is in train mode; ForwardError if a parameter has no shape yet.
    """

    def __init__(self, model: nn.Module, layer: Layer):
        self.model, self.layer = unwrapped(model), layer
        self._modules = modules_of(self.model)
        refuse_unfinished(self.model, self._modules)
        refuse_train_mode(self.model, self._modules)
        self.by_batch = normalises_by_batch(self._modules)
        self._parameters = list(parameters_of(self._modules))
        self._buffers = SameBuffers(self._modules)
        self._is_eager = is_eager(self._modules)
        self._unguarded: set[tuple[object, ...]] = set()  # kinds of images whose backward pass PyTorch computes rightly

    def check_steady(self, images: Tensor) -> None:
        """Check that the layer's output for an image depends on that image alone, as `erf.gradient.layers.steady`."""
        check_steady(self.model, images, self.layer, by_batch=self.by_batch)

    def central_gradient(self, images: Tensor, position: Position = CENTRE) -> tuple[Tensor, tuple[int, int]]:
        """Gradient of the rectified central unit, summed over its channels.

        The parameters and buffers of the network are left as they were found.

        Args:
            images: (N, C, H, W), any memory format; not written to.
            position: Position of the unit in the image.

        Returns: The gradient with respect to each image (N, C, H, W), and the size (h, w) of the whole feature map.
        Raises: NotDifferentiable if the layer does not depend on the images; LayerError and ForwardError as
            `erf.gradient.layers.find.feature_map`.
        """
        if len(images) > 1 and self.by_batch:
            parts = [self.central_gradient(image[None], position) for image in images]
            return torch.cat([gradient for gradient, _ in parts]), parts[0][1]
        gradient, unit, size = self.gradient_and_unit(images, position)
        return spoil_not_finite(gradient, unit), size

    def gradient_and_unit(self, images: Tensor, position: Position) -> tuple[Tensor, Tensor, tuple[int, int]]:
        """As `central_gradient`, for images that may run together.

        Returns: The gradient (N, C, H, W), which is not yet NaN for images whose unit is not finite; the unit
            (N, channels); the size (h, w) of the whole feature map.
        """
        device = images.device.type
        autocast = torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()
        without, buffers = _without_gradient(self._parameters), self._buffers.during()
        try:
            with without, torch.inference_mode(False), torch.enable_grad(), autocast, buffers:
                return self._of_copies(images, position)
        except StatisticsChanged as error:
            raise UnsteadyForward(str(error)) from error

    def _of_copies(self, images: Tensor, position: Position) -> tuple[Tensor, Tensor, tuple[int, int]]:
        x = (images.clone() if images.is_inference() else images.detach()).requires_grad_()
        for_network = x.clone()  # the network may write to this copy
        try:
            return self._differentiate(x, for_network, self.layer, position)
        except NotDifferentiable as error:
            found = resolve(self.model, self.layer)
            stops = found.call is not None or not is_module_name(self.model, found)
            if stops or _OVERWRITTEN not in str(error.__cause__):
                raise
            # code after the layer overwrites tensors that its gradient needs, so stop at the layer
            return self._differentiate(x, x.clone(), replace(found, call=0), position)

    def _differentiate(
        self, x: Tensor, for_network: Tensor, layer: Layer, position: Position
    ) -> tuple[Tensor, Tensor, tuple[int, int]]:
        feat, taken = find_feature_map(self.model, for_network, layer, known_eager=self._is_eager)
        height, width = feat.shape[-2:]
        row, column = unit_at(position, (height, width))
        unit = feat[:, :, row, column]
        central = unit.relu().sum()
        kind = (x.shape, x.stride(), x.dtype, position)
        with _backward_in_words(taken.module):
            guard = None if kind in self._unguarded else guard_batch_norms(central)
            (gradient,) = torch.autograd.grad(central, x, allow_unused=True)
        if guard and not guard.needed:
            self._unguarded.add(kind)
        if gradient is None:
            raise NotDifferentiable(f"layer {taken.module!r} does not depend on the images")
        return gradient, unit.detach(), (height, width)


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
def _without_gradient(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Switch off the gradients of parameters: they are not wanted, and without them the backward pass is halved."""
    wanted = [one for one in parameters if one.requires_grad and not one.is_inference()]  # these have no gradient
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)
