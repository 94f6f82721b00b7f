"""Operations that only rearrange elements.

Each handler takes the arguments of its operation, adds its nodes, and returns whether there is a step for them.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from erf.gradient.lean.axes import viewed
from erf.gradient.lean.calls import Call, Value
from erf.gradient.lean.reader import Handler, Reader
from erf.gradient.lean.steps.pointwise import Concatenate, Select, Slice

__all__ = ["HANDLERS"]


def _identity(reader: Reader, call: Call, x: Value, *args: Any, **kwargs: Any) -> bool:
    return call.outputs[0].dtype == x.dtype and reader.same(call, reader.known[x.number])


def _permute(reader: Reader, call: Call, x: Value, dims: Sequence[int]) -> bool:
    source = reader.map_of(x)
    return source is not None and reader.same(call, source, tuple(source.axes[dim] for dim in dims))


def _transpose(reader: Reader, call: Call, x: Value, first: int, second: int) -> bool:
    source = reader.map_of(x)
    if source is None:
        return False
    axes = list(source.axes)
    axes[first], axes[second] = axes[second], axes[first]
    return reader.same(call, source, tuple(axes))


def _view(reader: Reader, call: Call, x: Value, *args: Any, **kwargs: Any) -> bool:
    """A map in another shape. The shape is taken from the recorded output, whatever the arguments were."""
    source = reader.map_of(x)
    axes = None if source is None else viewed(source.axes, reader.sizes(source), call.outputs[0].size)
    return source is not None and axes is not None and reader.same(call, source, axes)


def _expand(reader: Reader, call: Call, x: Value, size: Sequence[int], **kwargs: Any) -> bool:
    source = reader.map_of(x)
    return source is not None and call.outputs[0].size == x.size and reader.same(call, source)


def _cat(reader: Reader, call: Call, tensors: Sequence[Any], dim: int = 0) -> bool:
    sources = [reader.map_of(x) for x in tensors]
    found = [x for x in sources if x is not None]
    if len(found) < len(sources) or len({x.axes for x in found}) != 1 or found[0].axes[dim] != "C":
        return False
    sizes = [reader.sizes(x) for x in found]
    if len({(s["N"], s["H"], s["W"]) for s in sizes}) != 1:
        return False
    channels = [s["C"] for s in sizes]
    return reader.add(call, Concatenate(channels), *found, axes=found[0].axes, C=sum(channels))


def _split(reader: Reader, call: Call, x: Value, sizes: Any, dim: int = 0) -> bool:
    source = reader.map_of(x)
    if source is None or source.axes[dim] != "C":
        return False
    channels, start = reader.sizes(source)["C"], 0
    for number, value in enumerate(call.outputs):
        stop = start + value.size[dim]
        step = Slice(channels, start, stop)
        if not reader.add(call, step, source, axes=source.axes, number=number, C=stop - start):
            return False
        start = stop
    return start == channels


def _slice(
    reader: Reader, call: Call, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> bool:
    source = reader.map_of(x)
    if source is None:
        return False
    if call.outputs[0].size == x.size:
        return step == 1 and reader.same(call, source)
    if source.axes[dim] != "C" or step != 1:
        return False
    channels = reader.sizes(source)["C"]
    first, last, _ = slice(start, end).indices(channels)
    return reader.add(call, Slice(channels, first, last), source, axes=source.axes, C=last - first)


def _index(reader: Reader, call: Call, x: Value, indices: Sequence[Any]) -> bool:
    """Channels selected by index, each at most once."""
    source = reader.map_of(x)
    given = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    if source is None or len(given) != 1 or source.axes[given[0][0]] != "C":
        return False
    index = given[0][1]
    if not isinstance(index, Tensor) or index.dtype != torch.int64 or index.ndim != 1 or not len(index):
        return False
    channels = reader.sizes(source)["C"]
    if index.min() < 0 or index.max() >= channels or len(index.unique()) < len(index):
        return False
    return reader.add(call, Select(channels, index), source, axes=source.axes, C=len(index))


HANDLERS: dict[str, Handler] = {
    "aten::clone": _identity,
    "aten::detach": _identity,
    "aten::alias": _identity,
    "aten::_to_copy": _identity,
    "aten::permute": _permute,
    "aten::transpose": _transpose,
    "aten::view": _view,
    "aten::_unsafe_view": _view,
    "aten::_reshape_alias": _view,
    "aten::reshape": _view,
    "aten::unsqueeze": _view,
    "aten::squeeze": _view,
    "aten::expand": _expand,
    "aten::cat": _cat,
    "aten::split": _split,
    "aten::split_with_sizes": _split,
    "aten::slice": _slice,
    "aten::index": _index,
}
