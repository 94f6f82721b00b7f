"""How a reshape changes a field: dimensions may be kept, merged or split."""

from collections.abc import Sequence
from dataclasses import replace

from erf.gradient.fields.field import Axes, Field, Taps

__all__ = ["regrouped"]

_SAME = Taps(lambda i: (i,))


def regrouped(field: Field, old: tuple[int, ...], new: tuple[int, ...]) -> Field:
    """The field of a tensor after a reshape from `old` to `new`, which keeps the order of the elements."""
    axes = field.axes
    if axes is None:
        return field
    if axes.merged:
        kept = _kept(axes.dims[0], old, new)
        if kept is not None:
            return replace(field, axes=replace(axes, dims=(kept, kept)))
        if axes.prefix:
            return field.unknown("positions are rearranged")
        d, (h, w) = axes.dims[0], axes.sizes  # split into rows and columns, which is how they lie in memory
        return regrouped(replace(field, axes=Axes((d, d + 1), axes.sizes)), (*old[:d], h, w, *old[d + 1 :]), new)
    rows, columns = axes.dims
    merged = _starting_at(rows, old, new, old[rows] * old[columns]) if columns == rows + 1 else None
    if merged is not None and new[merged] != old[rows]:
        return replace(field, axes=Axes((merged, merged), axes.sizes))
    found = [_side(d, old, new) for d in axes.dims]
    if found[0] is None or found[1] is None or found[0][0] == found[1][0]:
        return field.unknown("positions are rearranged")
    (row, row_taps), (column, column_taps) = found[0], found[1]
    return field.through(Axes((row, column), (new[row], new[column])), row_taps, column_taps)


def _kept(d: int, old: Sequence[int], new: Sequence[int]) -> int | None:
    """The new index of a dimension that has kept its size and its place in memory; None if there is none."""
    return _starting_at(d, old, new, old[d])


def _starting_at(d: int, old: Sequence[int], new: Sequence[int], size: int) -> int | None:
    """The new dimension of the given size that begins where an old dimension begins in memory."""
    before = _product(old[:d])
    return next((n for n, m in enumerate(new) if m == size and _product(new[:n]) == before), None)


def _side(d: int, old: Sequence[int], new: Sequence[int]) -> tuple[int, Taps] | None:
    """The new dimension that holds the positions of an old one, and which of them each new unit holds."""
    kept = _kept(d, old, new)
    if kept is not None:
        return kept, _SAME
    before, size = _product(old[:d]), old[d]
    for n, m in enumerate(new):
        if _product(new[:n]) != before or m == 1:
            continue
        if size % m == 0:  # split: the inner part becomes channels
            part = size // m
            return n, _divided_by(part)
        if m % size == 0:  # merged with the following dimensions, which count as positions
            times = m // size
            return n, _repeated(times)
    return None


def _divided_by(part: int) -> Taps:
    return Taps(lambda i: (i * part, i * part + part - 1), 1, part)


def _repeated(times: int) -> Taps:
    return Taps(lambda i: (i // times,), times, 1)


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result
