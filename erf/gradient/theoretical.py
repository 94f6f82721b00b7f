"""Theoretical receptive field: all input pixels that a unit of a feature map can depend on, whatever the weights.

A network is run once on a tensor without data, and the fields of its tensors are followed through every function on the
way (`erf.gradient.fields`). Windows of convolutions and poolings widen a field, pointwise functions keep it, and global
pooling and attention remove its bound. After a function that is not known, the field is not known either; nothing is
guessed. A layer before that function keeps its field.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import nn

from erf.gradient.fields.field import UNKNOWN, Field, Reach
from erf.gradient.fields.follow import DataDependent, field_of, follow
from erf.gradient.layers.capture import refuse_unfinished, unwrapped
from erf.gradient.layers.find import find_feature_map, image_channels
from erf.gradient.layers.layer import ForwardError, Layer, LayoutError, TakenLayer, as_layer
from erf.gradient.layers.modules import modules_of

__all__ = ["TheoreticalField", "field_and_layer", "theoretical_field"]


@dataclass(frozen=True)
class TheoreticalField:
    """What the units of a map see of the image. Pairs are (down, across).

    Attributes:
        side_px: Side of a unit's field in pixels, ignoring the borders of the image. If units see different numbers of
            pixels, the largest. None if `reason` is given.
        stride_px: Average distance between the fields of neighbouring units in pixels. A fraction for maps finer than
            the image. None if `reason` is given.
        first_px: First pixel that unit (0, 0) sees, negative if it lies outside of the image. None if `reason` is
            given.
        reason: Why there is no size, 'no bound: ...' or 'not known: ...'; None if there is a size.
        image_px: (height, width) of the image.
        reach: What each unit sees, along rows and columns. None if `reason` is given.
        turns: Whether values beyond a border come from elsewhere in the image (circular, reflecting or replicating
            padding).
    """

    side_px: tuple[int, int] | None
    stride_px: tuple[float, float] | None
    first_px: tuple[int, int] | None
    reason: str | None = None
    image_px: tuple[int, int] | None = None
    reach: tuple[Reach, Reach] | None = None
    turns: bool = False

    def covers(self, unit: tuple[int, int]) -> list[list[int]] | None:
        """First and last pixel down, first and last across, that a unit sees. Some may lie outside of the image.

        None if there is no size, or if the field reaches beyond a border that is filled from elsewhere in the image.
        """
        if self.reach is None:
            return None
        found = [side.of(i) for side, i in zip(self.reach, unit, strict=True)]
        within = self.image_px is not None and all(
            first >= 0 and last < n for (first, last), n in zip(found, self.image_px, strict=True)
        )
        if any(first > last for first, last in found) or (self.turns and not within):
            return None
        return [list(interval) for interval in found]


def theoretical_field(
    model: nn.Module, size: tuple[int, int], *, layer: str | int | Layer = "last", channels: int | None = None
) -> TheoreticalField:
    """Theoretical receptive field of a feature map's units.

    Args:
        model: Network in eval mode, of timm or your own; it is neither run on data nor changed.
        size: (height, width) of the image in pixels.
        layer: As for `erf.gradient.layers.find.feature_map`.
        channels: Number of channels of the image; None for 3, or for those of the first convolution if the network does
            not take 3.

    Raises: LayerError as `feature_map`; ForwardError if parameters have no shape yet.
    """
    return field_and_layer(model, size, layer=layer, channels=channels)[0]


def field_and_layer(
    model: nn.Module, size: tuple[int, int], *, layer: str | int | Layer = "last", channels: int | None = None
) -> tuple[TheoreticalField, TakenLayer | None]:
    """As `theoretical_field`, but also returns the map that was taken for the layer; None if that needs data."""
    model = unwrapped(model)
    refuse_unfinished(model, modules_of(model))
    taken: TakenLayer | None = None

    def look(x: torch.Tensor) -> Field:
        nonlocal taken
        feat, taken = find_feature_map(model, x, as_layer(layer))
        return _field_of_map(feat)

    colours = [channels] if channels is not None else list(dict.fromkeys([3, image_channels(model)]))
    field = Field(None, None, "")
    for count in colours:
        try:
            field = follow(model, look, (1, count, *size))
            break
        except DataDependent:
            field = field.unknown("the network's path depends on its data")
            break
        except LayoutError as error:
            field = replace(field, reason=error.reason)
            break
        except ForwardError as error:
            field = Field(None, None, "").unknown(f"the network does not run without data ({error})")
    if field.reach is None:
        return TheoreticalField(None, None, None, field.reason), taken
    rows, columns = field.reach
    known = TheoreticalField(
        (_side(rows), _side(columns)),
        (_stride(rows), _stride(columns)),
        (rows.of(0)[0], columns.of(0)[0]),
        None,
        size,
        field.reach,
        field.turns,
    )
    return known, taken


def _field_of_map(feat: torch.Tensor) -> Field:
    """The field of a map (N, C, h, w)."""
    field = field_of(feat)
    if field is None:
        return Field(None, None, UNKNOWN + "the map does not depend on the image")
    if field.reach is not None and (field.axes is None or field.axes.dims != (2, 3)):
        return field.unknown("the map is no longer laid out as an image")
    if field.reach is not None and any(first > last for side in field.reach for first, last in side.intervals):
        return field.unknown("some units see no pixel")
    return field


def _side(reach: Reach) -> int:
    return max(last - first + 1 for first, last in reach.intervals)


def _stride(reach: Reach) -> float:
    stride = Fraction(reach.advance, reach.period)
    return int(stride) if stride.denominator == 1 else float(stride)
