"""Functions that rearrange elements: permutations, reshapes, parts of tensors, tensors side by side."""

from dataclasses import replace
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from erf.gradient.fields.calls import SAME, Call, dims_of, moved_by, spread
from erf.gradient.fields.field import Axes, Field, Taps
from erf.gradient.fields.shapes import regrouped

__all__ = [
    "divided",
    "expanded",
    "flipped",
    "indexed",
    "joined",
    "moved",
    "narrowed",
    "permuted",
    "reshaped",
    "selected",
    "stacked",
    "tiled",
    "transposed",
    "unbound",
]


def permuted(call: Call) -> Field:
    field, count = call.field, call.source.dim()
    given = call.argument(1, "dims")
    order = [d % count for d in (given if isinstance(given, (tuple, list)) else call.args[1:])]
    return field if field.axes is None else replace(field, axes=field.axes.moved(order.index))


def transposed(call: Call) -> Field:
    field, count = call.field, call.source.dim()
    if call.name in ("t", "T", "mT"):
        a, b = (count - 2) % count, count - 1
        if call.name == "T" and count > 2:
            return field.unknown("reversing all dimensions")
    else:
        names = ("dim0", "dim1") if call.name == "transpose" else ("axis0", "axis1")
        a, b = (call.argument(i + 1, name) % count for i, name in enumerate(names))
    swap = {a: b, b: a}
    return field if field.axes is None else replace(field, axes=field.axes.moved(lambda d: swap.get(d, d)))


def moved(call: Call) -> Field:
    field, count = call.field, call.source.dim()
    source, goal = (dims_of(call.argument(i + 1, name), count) for i, name in enumerate(("source", "destination")))
    rest = iter(d for d in range(count) if d not in source)
    placed = dict(zip(goal, source, strict=True))
    order = [placed[d] if d in placed else next(rest) for d in range(count)]
    return field if field.axes is None else replace(field, axes=field.axes.moved(order.index))


def reshaped(call: Call) -> Field:
    return regrouped(call.field, tuple(call.source.shape), tuple(call.output.shape))


def expanded(call: Call) -> Field:
    field, more = call.field, call.output.dim() - call.source.dim()
    if field.axes is None:
        return field
    return spread(replace(field, axes=moved_by(field.axes, more)), call.output.shape)


def tiled(call: Call) -> Field:
    field = expanded(call)
    fits = field.axes is not None and field.axes.fits(call.output.shape)
    return field if fits and not field.reason.endswith("spread over a map") else call.field.unknown("repeating")


def indexed(call: Call) -> Field:
    index = call.args[1]
    return _taken(call.field, tuple(call.source.shape), index if isinstance(index, tuple) else (index,))


def selected(call: Call) -> Field:
    dim, index = call.argument(1, "dim") % call.source.dim(), call.argument(2, "index")
    return _taken(call.field, tuple(call.source.shape), (*(slice(None),) * dim, index))


def narrowed(call: Call) -> Field:
    dim, start, length = (
        call.argument(1, "dim") % call.source.dim(),
        call.argument(2, "start"),
        call.argument(3, "length"),
    )
    return _taken(call.field, tuple(call.source.shape), (*(slice(None),) * dim, slice(start, start + length)))


def _taken(field: Field, shape: tuple[int, ...], index: tuple[Any, ...]) -> Field:
    """The field after indexing a part of a tensor."""
    axes = field.axes
    if axes is None:
        return field
    used = sum(1 for i in index if i is not None and i is not Ellipsis)
    whole = [slice(None)] * (len(shape) - used)
    at = index.index(Ellipsis) if any(i is Ellipsis for i in index) else len(index)
    full = [*index[:at], *whole, *index[at + 1 :]]
    taps, prefix, place, goal = [SAME, SAME], axes.prefix, 0, 0
    dims, sizes = list(axes.dims), list(axes.sizes)
    listed = 0
    for one in full:
        if one is None:
            goal += 1
            continue
        spatial = [side for side in (0, 1) if axes.dims[side] == place]
        if isinstance(one, int):
            if spatial:
                return field.unknown("one row of positions is taken")
            place += 1
            continue
        if isinstance(one, slice):
            start, stop, step = one.indices(shape[place])
            count = len(range(start, stop, step))
            if spatial and (start, count, step) != (0, shape[place], 1):
                if axes.merged and step == 1 and stop == shape[place] and start <= prefix:
                    prefix -= start
                elif axes.merged or step < 1:
                    return field.unknown("a part of the positions is taken")
                else:
                    side = spatial[0]
                    taps[side] = _every(start, step)
                    sizes[side] = count
        elif spatial or not isinstance(one, (torch.Tensor, list)) or listed:
            return field.unknown("indexing of positions")
        else:
            listed += 1
            if isinstance(one, torch.Tensor) and (one.dim() != 1 or one.dtype == torch.bool):
                return field.unknown("indexing by a mask")
        for side in spatial:
            dims[side] = goal
        place += 1
        goal += 1
    return field.through(Axes((dims[0], dims[1]), (sizes[0], sizes[1]), prefix), taps[0], taps[1])


def _every(start: int, step: int) -> Taps:
    return Taps(lambda o: (start + step * o,), 1, step)


def joined(call: Call) -> Field:
    """`cat` along channels, or of extra tokens in front of those of the map."""
    parts = list(call.argument(0, "tensors"))
    along = call.argument(1, "dim", 0) % call.output.dim()
    field = call.field
    if field.axes is None or along not in field.axes.dims:
        return field
    seen = [part for part in parts if (one := call.field_of(part)) is not None and one.axes is not None]
    if len(seen) == 1 and seen[0] is parts[-1] and field.axes.merged:
        before = sum(part.shape[along] for part in parts[:-1])
        return replace(field, axes=replace(field.axes, prefix=field.axes.prefix + before))
    return field.unknown("maps are joined side by side")


def stacked(call: Call) -> Field:
    along = call.argument(1, "dim", 0) % call.output.dim()
    field = call.field
    return field if field.axes is None else replace(field, axes=field.axes.moved(lambda d: d + (d >= along)))


def unbound(call: Call) -> Field:
    along, field = call.argument(1, "dim", 0) % call.source.dim(), call.field
    if field.axes is None:
        return field
    if along in field.axes.dims:
        return field.unknown("one row of positions is taken")
    return replace(field, axes=field.axes.moved(lambda d: d - (d > along)))


def divided(call: Call) -> Field:
    along = call.argument(2, "dim", 0) % call.source.dim()
    divided = call.field.axes is not None and along in call.field.axes.dims
    return call.field.unknown("positions are divided") if divided and _is_several(call) else call.field


def _is_several(call: Call) -> bool:
    return len(tree_leaves(call.result)) > 1


def flipped(call: Call) -> Field:
    field, dims = call.field, set(dims_of(call.argument(1, "dims"), call.source.dim()))
    return field.unknown("flipping") if field.axes is not None and dims & set(field.axes.dims) else field
