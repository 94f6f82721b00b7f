"""Prove that the lean form of a network agrees with the network before it is used.

The proof compares contribution maps of a small noise image, for the same layer and position: that of the lean form, and
that of plain autograd on the network as it was given. While nothing is kept in half precision, they must agree to the
rounding of the type in which both run. They may disagree because rounding flips the signs of some ReLUs, so the two are
then compared in float64, which takes longer. In that case, the lean form that is to run must have the same steps as the
one in float64, and its own map may differ by no more than such flips explain. A network that fails runs as it was
given, and a warning says so once.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from erf.gradient.central import central_gradients
from erf.gradient.graphs import RecordedNetwork
from erf.gradient.layers.capture import unwrapped
from erf.gradient.layers.find import resolve, tell_layout
from erf.gradient.layers.layer import Layer, as_layer
from erf.gradient.layers.layout import Layout
from erf.gradient.layers.steady import check_steady
from erf.gradient.lean.calls import NoLeanForm
from erf.gradient.lean.copies import CannotCopy, copy_network
from erf.gradient.lean.form import FastForm
from erf.gradient.lean.network import LeanNetwork
from erf.gradient.lean.read import Steps, lean_form, read_steps
from erf.gradient.lean.steps.pointwise import all_in_full_precision, as_for_large_images
from erf.gradient.plain import PlainNetwork
from erf.gradient.positions import Position
from replknet.optimize import optimize, use_stock_convolutions
from runkit.compute.memory import return_freed_memory

__all__ = ["ProvenForm", "why_not_faster"]

_logger = logging.getLogger(__name__)
_EXACT = 1e-6
"""Largest relative difference in float64. Rounding alone gives 1e-12; a ReLU whose sign is flipped gives more."""
_SAME = {torch.float32: 1e-5, torch.float64: _EXACT}
"""Largest relative difference at which a form is accepted in its own type. Rounding alone gives 1e-6 in float32."""
_ROUNDED = 0.05
"""Largest relative difference where rounding flips the signs of some ReLUs, or derivatives are in half precision."""
_WORSE = 1.5
"""Largest ratio of errors in bfloat16 or float16, both against float64: that of the lean form over the plain one's."""
_PART = 8
"""Factor by which the small image is smaller than the images along each side, but at least `_SMALLEST` remain."""
_SMALLEST = 64
_STRIDE = 32
"""Sides that differ by a multiple of this are padded alike by 'same' convolutions."""
_WHOLE_MAPS_PIXELS = 1 << 19
"""A network that needs whole maps gains nothing from windows. From this number of pixels on, the lean form is still
faster because it keeps less (at 768 x 768: MobileNetV3 1.2 times, RegNetY 1.2 times); at 256 x 256 it is slower (0.9
times)."""
_IMAGES = 2
"""Maximum number of images compared, where their number makes no difference."""
_NOISES = 3
"""Noise images tried before it is concluded that a unit does not depend on the images."""


class ProvenForm(FastForm):
    """A network up to one feature map: in its lean form where that is proven, otherwise unchanged.

    Args:
        model: In eval mode.
        layer: The feature map, as for `erf.gradient.contribution.feature_map`.
        original: The network before it was merged into `model`; None if it was not merged.
        cuda_graphs: Whether to record the plain form's operations on a GPU and replay them (`erf.gradient.graphs`).

    Attributes:
        form: 'lean', or 'plain' as soon as the lean form was not used for some images; None before the first use.
        reason: Why this form was used, in a few words.
    """

    def __init__(self, model: nn.Module, layer: Any, original: nn.Module | None = None, *, cuda_graphs: bool = False):
        self._model, self._layer, self._original = model, layer, original
        self._cuda_graphs = cuda_graphs
        self._chosen: dict[tuple[Any, ...], PlainNetwork | RecordedNetwork | LeanNetwork] = {}
        self._recorded: RecordedNetwork | None = None  # shared, so that its recordings share their memory
        self._proven: dict[tuple[Any, ...], str] = {}
        self._failed = False
        self._laid_out: Layer = as_layer(layer)  # includes the layout as soon as that is known
        self.form: Literal["lean", "plain"] | None = None
        self.reason = ""

    def choose(self, images: Tensor, position: Position) -> PlainNetwork | RecordedNetwork | LeanNetwork:
        key = (images.shape, images.dtype, position)
        if key not in self._chosen:
            form = self._decide(images, position)
            self._chosen[key] = self._plain(images) if form is None else form
        return self._chosen[key]

    def _plain(self, images: Tensor) -> PlainNetwork | RecordedNetwork:
        """The plain form of the network for these images."""
        if not (self._cuda_graphs and images.is_cuda):
            return PlainNetwork(self._model, as_layer(self._layer))
        if self._recorded is None:
            self._recorded = RecordedNetwork(PlainNetwork(self._model, as_layer(self._layer)))
        return self._recorded

    def _decide(self, images: Tensor, position: Position) -> LeanNetwork | None:
        """The lean form of the network for these images; None if it runs in its plain form."""
        name = type(self._model).__name__
        if self._failed:
            return None
        check_steady(self._model, images, as_layer(self._layer))
        lean, reason = None, "the lean form is for the CPU"
        if images.device.type == "cpu":
            try:
                steps = read_steps(self._model, self._layer, images)
                self._tell_layout(steps, images)
                if slow := why_not_faster(steps, *images.shape[2:]):
                    reason = f"the lean form is not faster: {slow}"
                else:
                    lean = steps.network()
            except NoLeanForm as error:
                reason = str(error)
                _logger.debug("%s has no lean form: %s", name, reason)
        try:
            if lean is not None:
                reason = self._prove(lean, images, position)
            elif self._original is not None:
                reason += f"; merged, which {self._prove(None, images, position)}"
        except _NotProven as error:
            _logger.warning("%s runs in its plain form, which is slower: %s", name, error)
            self._model, self._original = self._original or self._model, None
            self._failed = True
            self._chosen.clear()
            self._recorded = None
            lean, reason = None, str(error)
        if self.form != "plain":
            self.form, self.reason = "plain" if lean is None else "lean", reason
        return lean

    def _tell_layout(self, steps: Steps, images: Tensor) -> None:
        """Record the layout that the recording shows, so that the network need not detect it if it has to run."""
        if steps.layout is None or "L" in steps.layout:
            return
        model = unwrapped(self._model)
        found = resolve(model, self._layer)
        if found.layout is not None:  # a layout given by the user is kept, and the forms are compared with it
            return
        self._laid_out = replace(found, layout=steps.layout)
        tell_layout(model, found, images.shape, steps.size, Layout(steps.layout))

    def _prove(self, lean: LeanNetwork | None, images: Tensor, position: Position) -> str:
        """Prove the lean form, or the merged network if there is none, and return in words how well it agrees.

        Raises: _NotProven if it does not agree with the plain form.
        """
        key = (lean and lean.signature, images.shape[2:], images.dtype, position)
        if key not in self._proven:
            fast = lean or self._model
            self._proven[key] = _compare(self._original or self._model, self._laid_out, fast, images, position)
            self._original = None  # its weights are given back with the rest
            return_freed_memory()
        return self._proven[key]


def why_not_faster(lean: LeanNetwork | Steps, height: int, width: int) -> str:
    """Why the lean form is not faster than the plain one for images of a size, judging by its steps; '' if it is."""
    if lean.multiplies_maps:
        return "it multiplies maps, and would keep them all"  # VAN at 256 x 256: 0.8 times as fast
    if lean.needs_whole_maps and height * width < _WHOLE_MAPS_PIXELS:
        return "it takes means over whole maps, and the images are small"
    return ""


class _NotProven(Exception):
    """The fast form gives a different map than the plain one, or the two cannot be compared."""


def _compare(plain: nn.Module, layer: Layer, fast: nn.Module | LeanNetwork, images: Tensor, position: Position) -> str:
    """Compare a fast form with the plain one on a small image.

    Args:
        plain: The network as it was given.
        fast: The form that is to run for `images`.

    Returns: How much they differ, in words.
    Raises: _NotProven if they differ too much, or cannot be compared.
    """
    own_type = images.dtype
    whole = isinstance(fast, LeanNetwork) and fast.needs_whole_maps  # its vectors are built for this number of images
    count = len(images) if whole else min(len(images), _IMAGES)
    for seed in (0, _NOISES) if own_type in _SAME else ():  # the second seed has other ReLUs close to 0
        small, expected = _plain_map(plain, layer, images, position, dtype=own_type, count=count, first_seed=seed)
        with all_in_full_precision():
            difference = _difference(fast, layer, small, expected, position)
        if difference <= _SAME[own_type]:
            if own_type == torch.float32 and isinstance(fast, LeanNetwork) and fast.keeps_in_half:
                difference = _difference(fast, layer, small, expected, position)
            if not difference <= _ROUNDED:
                raise _NotProven(_too_much(difference, small))
            return _said([(difference, own_type)], small)
    if own_type == torch.float64:
        raise _NotProven(_too_much(difference, small))
    small, expected = _plain_map(plain, layer, images, position, dtype=torch.float64, count=count)
    exact = _in_float64(plain, layer, fast, small)
    difference = _difference(exact, layer, small, expected, position)
    if not difference <= _EXACT:
        raise _NotProven(_too_much(difference, small))
    differences = [(difference, torch.float64)]
    if own_type == torch.float32:
        small = small.to(own_type)
        difference = _difference(fast, layer, small, expected, position)
        if not difference <= _ROUNDED:
            raise _NotProven(_too_much(difference, small))
        differences.append((difference, own_type))
    elif isinstance(fast, LeanNetwork):
        errors = [_difference(form, layer, small.to(own_type), expected, position) for form in (fast, plain)]
        if not errors[0] <= _WORSE * errors[1] + _EXACT:
            raise _NotProven(
                f"in {_name(own_type)} its map differs from float64 by {errors[0]:.1e}, that of the plain form by "
                f"{errors[1]:.1e}"
            )
        differences.append((errors[0], own_type))
    return _said(differences, small)


def _said(differences: Sequence[tuple[float, torch.dtype]], small: Tensor) -> str:
    height, width = small.shape[2:]
    words = " and ".join(f"{difference:.1e} in {_name(dtype)}" for difference, dtype in differences)
    return f"differs from the plain form by {words} on an image of {height} x {width} pixels"


def _too_much(difference: float, small: Tensor) -> str:
    height, width = small.shape[2:]
    said = f"{difference:.1e} in {_name(small.dtype)}"
    return f"the map of the fast form differs by {said} on an image of {height} x {width} pixels"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _in_float64(
    plain: nn.Module, layer: Layer, fast: nn.Module | LeanNetwork, small: Tensor
) -> nn.Module | LeanNetwork:
    """The fast form of the network in float64, made from the plain one in the same way as `fast`.

    Raises: _NotProven if its steps differ from those of `fast`.
    """
    try:
        twin = optimize(copy_network(plain, torch.float64))
    except CannotCopy as error:
        raise _NotProven(str(error)) from error
    if not isinstance(fast, LeanNetwork):
        return twin
    try:
        lean = lean_form(twin, layer, small)
    except NoLeanForm as error:
        raise _NotProven(f"for a small image the network has no lean form: {error}") from error
    if lean.signature != fast.signature:
        raise _NotProven("its steps depend on the size of the images")
    return lean


def _difference(form: nn.Module | LeanNetwork, layer: Layer, x: Tensor, expected: Tensor, position: Position) -> float:
    """The relative difference between a form's map and the expected one."""
    with as_for_large_images():
        found = central_gradients(form, x, layer=layer, position=position, checked=False).maps
    return ((found - expected).norm() / expected.norm()).item()


def _plain_map(
    plain: nn.Module,
    layer: Layer,
    images: Tensor,
    position: Position,
    *,
    dtype: torch.dtype,
    count: int,
    first_seed: int = 0,
) -> tuple[Tensor, Tensor]:
    """`count` small noise images, and their maps by plain autograd in the given type.

    Raises: _NotProven if the map cannot be computed, is zero, or is not finite.
    """
    reason = "it has no map of a small image"
    for height, width in _small_sizes(*images.shape[2:]):
        for seed in range(first_seed, first_seed + _NOISES):
            try:
                model = use_stock_convolutions(copy_network(plain, None if dtype == images.dtype else dtype))
                generator = torch.Generator().manual_seed(seed)
                size = (count, images.shape[1], height, width)
                noise = torch.randn(size, generator=generator, dtype=dtype, device="cpu").to(images.device)
                maps = central_gradients(model, noise, layer=layer, position=position, checked=False).maps
            except Exception as error:  # this runs the network's own code, on a size or a type that it may not accept
                reason = f"a small image cannot be compared: {type(error).__name__}: {error}"
                break
            if maps.isfinite().all() and maps.any():
                return noise, maps
            reason = "the map of noise is zero or not finite"
    raise _NotProven(reason)


def _small_sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Sizes to try: increasing parts of the side, and finally the whole."""
    for part in (_PART, 2, 1):
        yield _small_side(height, part), _small_side(width, part)


def _small_side(side: int, part: int) -> int:
    rest = side % _STRIDE
    small = max(_SMALLEST, side // part // _STRIDE * _STRIDE) + rest
    return side if part == 1 else min(side, small)
