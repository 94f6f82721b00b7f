"""Fields: where the image's rows and columns lie in a tensor, and which pixels each of them can depend on.

Along each side of the image, a field is a list of intervals of pixels, one for each unit. The list is periodic: after
`period` units, all intervals have moved on by `advance` pixels. Convolutions and poolings have a period of one (Araujo
et al. 2019, doi:10.23915/distill.00021). Enlarging a map by a factor gives a period of that many units. The borders of
the image are ignored: an interval may begin before the first pixel.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

__all__ = ["NO_BOUND", "UNKNOWN", "Axes", "Field", "Reach", "Taps", "image_field", "union"]

NO_BOUND = "no bound: "
UNKNOWN = "not known: "

Interval = tuple[int, int]  # first and last pixel
_MOST = 1 << 14  # largest period of a pattern, in units
_NOTHING = (1 << 60, -(1 << 60))  # the interval of a unit that sees no pixel


@dataclass(frozen=True)
class Taps:
    """Which input units each output unit depends on, along one side.

    Attributes:
        of: Maps an output unit to input units (the first and the last are enough).
        outputs: Period of the pattern in output units.
        inputs: Number of input units by which the pattern moves on in one period.
    """

    of: Callable[[int], Sequence[int]]
    outputs: int = 1
    inputs: int = 1


@dataclass(frozen=True)
class Reach:
    """The pixels that units along one side see: unit i sees interval i % period, moved by (i // period) * advance."""

    intervals: tuple[Interval, ...] = ((0, 0),)
    advance: int = 1

    @property
    def period(self) -> int:
        return len(self.intervals)

    def of(self, unit: int) -> Interval:
        """First and last pixel that a unit sees. The first is greater than the last if the unit sees no pixel."""
        first, last = self.intervals[unit % self.period]
        moved = unit // self.period * self.advance
        return (first + moved, last + moved) if first <= last else _NOTHING

    def through(self, taps: Taps) -> "Reach":
        """The field of an output that is computed from this tensor by `taps`."""
        repeats = self.period // math.gcd(self.period, taps.inputs)
        intervals = [_hull(self.of(unit) for unit in taps.of(i)) for i in range(taps.outputs * repeats)]
        return Reach(tuple(intervals), self.advance * taps.inputs * repeats // self.period).simplified()

    def joined(self, other: "Reach") -> "Reach | None":
        """The field of units that depend on one unit of each of two tensors; None if the units' spacing differs."""
        if self.advance * other.period != other.advance * self.period:
            return None
        period = math.lcm(self.period, other.period)
        intervals = tuple(_hull([self.of(i), other.of(i)]) for i in range(period))
        return Reach(intervals, self.advance * period // self.period).simplified()

    def simplified(self) -> "Reach":
        """The same field with the shortest possible period."""
        for period in range(1, self.period):
            if self.period % period == 0 and self.advance * period % self.period == 0:
                shorter = Reach(self.intervals[:period], self.advance * period // self.period)
                if all(shorter.of(i) == self.of(i) for i in range(self.period)):
                    return shorter
        return self


def _hull(intervals: Iterable[Interval]) -> Interval:
    first, last = _NOTHING
    for a, b in intervals:
        first, last = min(first, a), max(last, b)
    return first, last


@dataclass(frozen=True)
class Axes:
    """Where the image's rows and columns lie in a tensor.

    Attributes:
        dims: Dimensions that hold the rows and the columns. Both are the same where rows and columns are merged, row by
            row.
        sizes: Numbers of rows and columns of the map.
        prefix: Number of entries of a merged dimension before the first position, such as a class token.
    """

    dims: tuple[int, int]
    sizes: tuple[int, int]
    prefix: int = 0

    @property
    def merged(self) -> bool:
        return self.dims[0] == self.dims[1]

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether these axes are possible for a tensor of this shape."""
        if not all(0 <= d < len(shape) for d in self.dims):
            return False
        if self.merged:
            return shape[self.dims[0]] == self.prefix + self.sizes[0] * self.sizes[1]
        return tuple(shape[d] for d in self.dims) == self.sizes

    def moved(self, where: Callable[[int], int]) -> "Axes":
        """The same axes in a tensor whose dimensions have been renumbered."""
        return replace(self, dims=(where(self.dims[0]), where(self.dims[1])))


@dataclass(frozen=True)
class Field:
    """The pixels of the image that the elements of a tensor see.

    Attributes:
        axes: Where rows and columns lie; None if that is not known.
        reach: What units see (along rows, along columns); None if `reason` is given.
        reason: Why there is no reach, 'no bound: ...' or 'not known: ...'; empty if there is one.
        turns: Whether values beyond a border of the image may come from elsewhere in it (circular, reflecting and
            replicating padding, `torch.roll`). Then the field of a unit is known only if it lies within the image.
    """

    axes: Axes | None
    reach: tuple[Reach, Reach] | None
    reason: str = ""
    turns: bool = False

    def without_bound(self, why: str) -> "Field":
        """Every unit may see the whole image."""
        return self if self.reason else replace(self, reach=None, reason=NO_BOUND + why)

    def unknown(self, why: str, *, axes: Axes | None = None) -> "Field":
        """The same with an unknown reach. A field that was already without bound stays without bound."""
        return replace(self, axes=axes, reach=None, reason=self.reason or UNKNOWN + why)

    def through(self, axes: Axes, rows: Taps, columns: Taps, *, turns: bool = False) -> "Field":
        """The field of a map that is computed from this one by `rows` and `columns` and laid out as `axes` says."""
        if self.reach is None:
            return replace(self, axes=axes)
        if any(taps.outputs * side.period > _MOST for side, taps in zip(self.reach, (rows, columns), strict=True)):
            return self.unknown("maps of many resolutions that are no multiples of each other", axes=axes)
        reach = (self.reach[0].through(rows), self.reach[1].through(columns))
        return replace(self, axes=axes, reach=reach, turns=self.turns or turns)


def image_field(size: tuple[int, int]) -> Field:
    """Field of an image (N, C, H, W): each pixel sees itself."""
    return Field(Axes((2, 3), size), (Reach(), Reach()))


def union(fields: Sequence[Field]) -> Field:
    """Field of elements that depend on the elements at the same place of several tensors of one shape."""
    axes, conflict = _common_axes(fields)
    turns = any(field.turns for field in fields)
    reasons = sorted((field.reason for field in fields if field.reason), key=lambda reason: reason.startswith(UNKNOWN))
    if conflict:
        reasons.append(UNKNOWN + "maps of different layout are combined")
    elif not reasons and any(field.axes is None for field in fields):
        raise AssertionError("where the axes are not known, there is a reason")
    if reasons:
        return Field(axes, None, reasons[0], turns)
    reach = fields[0].reach
    for field in fields[1:]:
        if reach is not None and field.reach is not None:
            rows, columns = (a.joined(b) for a, b in zip(reach, field.reach, strict=True))
            reach = None if rows is None or columns is None else (rows, columns)
    if reach is None:
        return Field(axes, None, UNKNOWN + "maps of different resolution are combined", turns)
    return Field(axes, reach, "", turns)


def _common_axes(fields: Sequence[Field]) -> tuple[Axes | None, bool]:
    """Axes that several fields share, ignoring those that are not known; and whether some contradict each other."""
    common: Axes | None = None
    for axes in (field.axes for field in fields):
        if common is None or axes is None or axes == common:
            common = common or axes
        elif axes.dims == common.dims and axes.prefix == common.prefix and _broadcast(axes.sizes, common.sizes):
            rows, columns = (max(a, b) for a, b in zip(axes.sizes, common.sizes, strict=True))
            common = replace(common, sizes=(rows, columns))
        elif (1, 1) in (axes.sizes, common.sizes):  # a single value for all positions fits anywhere
            common = common if axes.sizes == (1, 1) else axes
        else:
            return None, True
    return common, False


def _broadcast(a: Sequence[int], b: Sequence[int]) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a, b, strict=True))
