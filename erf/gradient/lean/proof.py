"""The lean form of a network proves itself against the network before it is used.

The proof is the contribution map of a small image of noise, of the same layer and position, by the lean form and by
plain autograd on the network as it was given, both in float64: they have to agree to rounding. The lean form that is to
run must have the same steps as the proven one, and its map in its own type must be the same, but for the signs of some
ReLUs that rounding turns. A network that fails runs as it was given, and a warning says so once.
"""

import logging
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from erf.gradient.contribution import central_gradients
from erf.gradient.lean.calls import NoLeanForm
from erf.gradient.lean.copies import copy_network
from erf.gradient.lean.form import FastForm
from erf.gradient.lean.network import LeanNetwork
from erf.gradient.lean.read import lean_form
from erf.gradient.positions import Position
from replknet.optimize import optimize, use_stock_convolutions
from runkit.compute.memory import return_freed_memory

__all__ = ["ProvenForm", "why_not_faster"]

_logger = logging.getLogger(__name__)
_EXACT = 1e-6
"""Largest relative difference in float64. Rounding gives 1e-12; a ReLU whose sign it turns gives more."""
_ROUNDED = 0.05
"""Largest relative difference of float32 to float64, where rounding turns the signs of some ReLUs."""
_PART = 8
"""The side of the small image is about so many times smaller than that of the images, but at least `_SMALLEST`."""
_SMALLEST = 64
_STRIDE = 32
"""Sides that differ by a multiple of it are padded alike by 'same' convolutions."""
_WHOLE_MAPS_PIXELS = 1 << 19
"""A network that needs whole maps has no window to gain by. With as many pixels as this the lean form is still faster,
since it keeps less (at 768 x 768: MobileNetV3 1.2 times, RegNetY 1.2 times); at 256 x 256 it is slower (0.9 times)."""
_NOISES = 3
"""Images tried before it is believed that a unit depends on none."""


class ProvenForm(FastForm):
    """A network up to one feature map: in its lean form as far as that is proven, else as it is.

    Args:
        model: In eval mode.
        layer: The feature map, as for `erf.gradient.contribution.feature_map`.
        original: The network as it was before `model` was merged; None if it was not.

    Attributes:
        form: 'lean', or 'plain' as soon as any images did not get the lean form; None before the first use.
        reason: Why, in a few words.
    """

    def __init__(self, model: nn.Module, layer: Any, original: nn.Module | None = None):
        self._model, self._layer, self._original = model, layer, original
        self._chosen: dict[tuple[Any, ...], nn.Module | LeanNetwork] = {}
        self._proven: dict[tuple[Any, ...], str] = {}
        self._failed = False
        self.form: Literal["lean", "plain"] | None = None
        self.reason = ""

    def choose(self, images: Tensor, position: Position) -> nn.Module | LeanNetwork:
        key = (images.shape, images.dtype, position)
        if key not in self._chosen:
            self._chosen[key] = self._decide(images, position)
        return self._chosen[key]

    def _decide(self, images: Tensor, position: Position) -> nn.Module | LeanNetwork:
        name = type(self._model).__name__
        if self._failed:
            return self._model
        lean, reason = None, "the lean form is for the CPU"
        if images.device.type == "cpu":
            try:
                lean = lean_form(self._model, self._layer, images)
            except NoLeanForm as error:
                reason = str(error)
                _logger.debug("%s has no lean form: %s", name, reason)
        if lean is not None and (slow := why_not_faster(lean, *images.shape[2:])):
            lean, reason = None, f"the lean form is not faster: {slow}"
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
            lean, reason = None, str(error)
        if self.form != "plain":
            self.form, self.reason = "plain" if lean is None else "lean", reason
        return self._model if lean is None else lean

    def _prove(self, lean: LeanNetwork | None, images: Tensor, position: Position) -> str:
        """How well the lean form, or the merged network where there is none, agrees with the plain form.

        Raises: _NotProven if it does not.
        """
        key = (lean and lean.signature, images.shape[2:], images.dtype, position)
        if key not in self._proven:
            plain = self._original or self._model
            self._proven[key] = _compare(plain, self._layer, lean or self._model, images, position)
            self._original = None
            return_freed_memory()
        return self._proven[key]


def why_not_faster(lean: LeanNetwork, height: int, width: int) -> str:
    """Why the lean form is not faster than the plain one for images of a size, by what it computes; '' if it is."""
    if lean.multiplies_maps:
        return "it multiplies maps, and would keep them all"  # VAN at 256 x 256: 0.8 times as fast
    if lean.needs_whole_maps and height * width < _WHOLE_MAPS_PIXELS:
        return "it takes means over whole maps, and the images are small"
    return ""


class _NotProven(Exception):
    """The fast form gives another map than the plain one, or the two cannot be compared."""


def _compare(plain: nn.Module, layer: Any, fast: nn.Module | LeanNetwork, images: Tensor, position: Position) -> str:
    """Compare a fast form with the plain one on a small image.

    Args:
        plain: The network as it was given.
        fast: What is to run for `images`.

    Returns: By how much they differ, in words.
    Raises: _NotProven if it is too much, or cannot be found out.
    """
    small, expected = _plain_map(plain, layer, images, position)
    differences = []
    if small.dtype == torch.float64:
        exact = _in_float64(plain, layer, fast, small)
        differences.append(_difference(exact, layer, small, expected, position, _EXACT))
        del exact
    if images.dtype in (torch.float32, torch.float64):
        tolerance = _ROUNDED if images.dtype == torch.float32 else _EXACT
        differences.append(_difference(fast, layer, small.to(images.dtype), expected, position, tolerance))
    if not differences:
        raise _NotProven(f"it cannot be compared with the plain form in {images.dtype}")
    height, width = small.shape[2:]
    return f"differs from the plain form by {' and '.join(differences)} on an image of {height} x {width} pixels"


def _in_float64(plain: nn.Module, layer: Any, fast: nn.Module | LeanNetwork, small: Tensor) -> nn.Module | LeanNetwork:
    """The fast form of the network in float64, made from the plain one as `fast` was.

    Raises: _NotProven if it has other steps.
    """
    twin = optimize(copy_network(plain, torch.float64))
    if not isinstance(fast, LeanNetwork):
        return twin
    try:
        lean = lean_form(twin, layer, small)
    except NoLeanForm as error:
        raise _NotProven(f"for a small image the network has no lean form: {error}") from error
    if lean.signature != fast.signature:
        raise _NotProven("its steps depend on the size of the images")
    return lean


def _difference(
    form: nn.Module | LeanNetwork, layer: Any, x: Tensor, expected: Tensor, position: Position, tolerance: float
) -> str:
    """The relative difference of a form's map, in words.

    Raises: _NotProven if it is above the tolerance.
    """
    found = central_gradients(form, x, layer=layer, position=position).maps
    difference = ((found - expected).norm() / expected.norm()).item()
    said = f"{difference:.1e} in {str(x.dtype).removeprefix('torch.')}"
    if not difference <= tolerance:
        height, width = x.shape[2:]
        raise _NotProven(f"the map of the fast form differs by {said} on an image of {height} x {width} pixels")
    return said


def _plain_map(plain: nn.Module, layer: Any, images: Tensor, position: Position) -> tuple[Tensor, Tensor]:
    """A small image, or as many as there are, and their maps by plain autograd; in float64 where the network can.

    Raises: _NotProven if there is no such map, or it is zero.
    """
    reason = "it has no map of a small image"
    for dtype in (torch.float64, images.dtype):
        for height, width in _small_sizes(*images.shape[2:]):
            for seed in range(_NOISES):
                try:
                    model = use_stock_convolutions(copy_network(plain, dtype))
                    noise = torch.randn(
                        (*images.shape[:2], height, width), generator=torch.Generator().manual_seed(seed), dtype=dtype
                    ).to(images.device)
                    maps = central_gradients(model, noise, layer=layer, position=position).maps
                except Exception as error:  # the network's own code, on a size or a type that it may not take
                    reason = f"a small image cannot be compared: {type(error).__name__}: {error}"
                    break
                if maps.isfinite().all() and maps.any():
                    return noise, maps
                reason = "the map of noise is zero or not finite"
    raise _NotProven(reason)


def _small_sizes(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Sizes to try: a part of the side or more, the whole at last."""
    for part in (_PART, 2, 1):
        yield _small_side(height, part), _small_side(width, part)


def _small_side(side: int, part: int) -> int:
    rest = side % _STRIDE
    small = max(_SMALLEST, side // part // _STRIDE * _STRIDE) + rest
    return side if part == 1 else min(side, small)
