"""A call of a PyTorch function inside a network, with the fields of its arguments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from erf.gradient.fields.field import Axes, Field, Taps, union

__all__ = [
    "POOLED",
    "PRODUCT",
    "SAME",
    "Call",
    "dims_of",
    "moved_by",
    "one_each",
    "pair_of",
    "pointwise",
    "shifted",
    "spread",
    "windows_over",
]

PRODUCT = "attention, or another product of positions"
POOLED = "pooling over the whole image"
SAME = Taps(lambda i: (i,))


@dataclass(frozen=True)
class Call:
    """A call of a function.

    Attributes:
        name: Name of the function, without leading and trailing underscores.
        args, kwargs: Arguments of the call.
        result: What the function returned: one tensor or several.
        field_of: Returns the field of a tensor, or None if the tensor does not depend on the image.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    field_of: Callable[[torch.Tensor], Field | None]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its position or its name."""
        return self.args[place] if place < len(self.args) else self.kwargs.get(name, default)

    @property
    def tensors(self) -> list[torch.Tensor]:
        return [leaf for leaf in tree_leaves((self.args, self.kwargs)) if isinstance(leaf, torch.Tensor)]

    @property
    def seeing(self) -> list[tuple[torch.Tensor, Field]]:
        """The tensors among the arguments that depend on the image, and their fields."""
        found = [(tensor, self.field_of(tensor)) for tensor in self.tensors]
        return [(tensor, field) for tensor, field in found if field is not None]

    @property
    def source(self) -> torch.Tensor:
        """The tensor that the function works on."""
        return self.tensors[0]

    @property
    def output(self) -> torch.Tensor:
        """The result, or the first of several."""
        return next(leaf for leaf in tree_leaves(self.result) if isinstance(leaf, torch.Tensor))

    @property
    def field(self) -> Field:
        """The field of elements that depend on the elements at the same place of all arguments."""
        return union([field for _, field in self.seeing])

    def mixed(self, why: str) -> Field:
        """The field of elements that depend on all positions of the arguments and have no position of their own."""
        reasons = sorted({field.reason for _, field in self.seeing if field.reason})
        known = Field(None, None, reasons[0] if reasons else "")  # 'no bound' comes before 'not known'
        return known.without_bound(why)


def pair_of(value: Any) -> tuple[int, int]:
    """Expand one or two whole numbers to a pair, as PyTorch does."""
    values = (value, value) if isinstance(value, int) else tuple(value)
    return (int(values[0]), int(values[-1]))


def dims_of(value: Any, count: int) -> list[int]:
    """Non-negative indices of dimensions; None means all of them."""
    if value is None:
        return list(range(count))
    return [d % count for d in ([value] if isinstance(value, int) else value)]


def pointwise(call: Call) -> Field:
    """The field of an elementwise function, whose arguments are broadcast to the shape of the result."""
    shape = call.output.shape
    fields = []
    for tensor, field in call.seeing:
        if field.axes is not None:
            field = replace(field, axes=moved_by(field.axes, len(shape) - tensor.dim()))
        fields.append(spread(field, shape))
    return union(fields)


def spread(field: Field, shape: Sequence[int]) -> Field:
    """The field after dimensions of size one have been repeated up to a shape."""
    axes = field.axes
    if axes is None or axes.fits(shape) or axes.merged or not all(0 <= d < len(shape) for d in axes.dims):
        return field
    rows, columns = (shape[d] for d in axes.dims)
    grown = replace(axes, sizes=(rows, columns))
    return field.unknown("one unit is spread over a map", axes=grown)


def windows_over(call: Call, taps: Sequence[Taps], *, mixes_channels: bool = False, turns: bool = False) -> Field:
    """The field after sliding windows over the last dimensions of the source, with one entry of `taps` for each."""
    field, count, result = call.field, call.source.dim(), call.output
    axes, first = field.axes, call.source.dim() - len(taps)
    if axes is None:
        return field
    if axes.merged:
        moved = axes.dims[0] >= first and taps[axes.dims[0] - first] is not SAME
        return field.unknown("a window over merged positions") if moved else field
    if mixes_channels and first - 1 in axes.dims:
        return field.without_bound(PRODUCT)
    rows, columns = (taps[d - first] if d >= first else SAME for d in axes.dims)
    if result.dim() != count:
        return field.unknown(f"the function {call.name}")
    sizes = (result.shape[axes.dims[0]], result.shape[axes.dims[1]])
    return field.through(replace(axes, sizes=sizes), rows, columns, turns=turns)


def one_each(value: Any, count: int) -> tuple[int, ...]:
    """Expand a number to one for each of `count` dimensions, as PyTorch does."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * count if len(values) == 1 else values


def shifted(by: int) -> Taps:
    """Each output unit is the input unit this many places before it."""
    return Taps(lambda i: (i - by,)) if by else SAME


def moved_by(axes: Axes, more: int) -> Axes:
    """The same axes in a tensor with this many additional leading dimensions."""
    return axes.moved(lambda d: d + more)
