"""Functions that mix elements along whole dimensions: normalisations, reductions, products, attention."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from erf.gradient.fields.calls import POOLED, PRODUCT, Call, dims_of, moved_by, pointwise, spread
from erf.gradient.fields.field import Field, union

__all__ = [
    "NORMALISED",
    "NORMS",
    "along",
    "attention",
    "batch_norm",
    "by_channel",
    "channels",
    "einsum",
    "group_norm",
    "instance_norm",
    "last_dimensions",
    "product",
    "reduction",
]

NORMALISED = "normalisation over the whole image"
NORMS = ("norm", "vector_norm", "linalg_norm", "linalg_vector_norm")  # their second argument is the order of the norm


def along(place: int, name: str = "dim", default: Any = None, why: str = PRODUCT) -> Callable[[Call], Field]:
    """Make a rule for functions that mix elements along some dimensions: the channels only, or all positions."""

    def rule(call: Call) -> Field:
        field = call.field
        mixed = set(dims_of(call.argument(place, name, default), call.source.dim()))
        if field.axes is None:
            return field
        return field.without_bound(why) if mixed & set(field.axes.dims) else field

    return rule


def last_dimensions(call: Call) -> Field:
    """Linear layers and normalisations, over the last dimensions."""
    shape = call.argument(1, "normalized_shape") if call.name in ("layer_norm", "rms_norm") else (1,)
    last = range(call.source.dim() - len(tuple(shape)), call.source.dim())
    field = call.field
    if field.axes is None or not set(last) & set(field.axes.dims):
        return field
    return field.without_bound(NORMALISED if call.name in ("layer_norm", "rms_norm") else PRODUCT)


def batch_norm(call: Call) -> Field:
    of_batch = call.argument(5, "training", False) or call.argument(1, "running_mean") is None
    return call.field.without_bound("statistics of the batch") if of_batch else call.field


def instance_norm(call: Call) -> Field:
    own = call.argument(5, "use_input_stats", True) or call.argument(1, "running_mean") is None
    return call.field.without_bound(NORMALISED) if own else call.field


def channels(call: Call) -> Field:
    """Functions that combine neighbouring channels (second dimension) or reorder them."""
    field = call.field
    if field.axes is not None and 1 in field.axes.dims:
        return field.unknown(f"the function {call.name} over positions")
    return field


def by_channel(call: Call) -> Field:
    """Pointwise functions with one weight per channel (second dimension)."""
    return call.field


def group_norm(call: Call) -> Field:
    return call.field.without_bound(NORMALISED)


def reduction(call: Call) -> Field:
    place = 2 if call.name in NORMS else 1
    dims, field, source = call.argument(place, "dim"), call.field, call.source
    if call.name in ("max", "min") and len(call.tensors) > 1:  # elementwise maximum or minimum of two tensors
        return pointwise(call)
    axes = field.axes
    if axes is None:
        return field
    reduced = set(dims_of(dims, source.dim()))
    keep = call.output.dim() == source.dim()
    if not reduced & set(axes.dims):
        return field if keep else replace(field, axes=axes.moved(lambda d: d - sum(r < d for r in reduced)))
    rows, columns = (1 if d in reduced else n for d, n in zip(axes.dims, axes.sizes, strict=True))
    left = replace(axes, sizes=(rows, columns)) if keep and not axes.merged else None
    return replace(field.without_bound(POOLED), axes=left)


def product(call: Call) -> Field:
    """`matmul` and similar products."""
    a, b = call.tensors[-2:] if call.name in ("baddbmm", "addmm") else call.tensors[:2]
    if call.name == "rmatmul":  # x.__rmatmul__(y) is y @ x
        a, b = b, a
    fields = [call.field_of(a), call.field_of(b)]
    if a.dim() < 2 or b.dim() < 2 or len(call.seeing) != sum(one is not None for one in fields):
        return call.field.unknown(f"the function {call.name}")
    count = call.output.dim()
    placed = []
    for tensor, one, contracted in ((a, fields[0], a.dim() - 1), (b, fields[1], b.dim() - 2)):
        if one is None:
            continue
        axes = one.axes
        if axes is None or contracted in axes.dims:
            return call.mixed(PRODUCT)
        placed.append(spread(replace(one, axes=moved_by(axes, count - tensor.dim())), call.output.shape))
    within = all(d < count - 2 for one in placed if one.axes for d in one.axes.dims)
    if len(placed) > 1 and not within:
        return call.mixed(PRODUCT)
    return union(placed)


def einsum(call: Call) -> Field:
    equation, operands = call.args[0], call.tensors
    if not isinstance(equation, str) or "." in equation or "->" not in equation:
        return call.field.unknown("the function einsum")
    left, right = equation.replace(" ", "").split("->")
    terms = left.split(",")
    placed, letters = [], []
    for tensor, term in zip(operands, terms, strict=True):
        field = call.field_of(tensor)
        if field is None:
            continue
        own = [term[d] for d in field.axes.dims] if field.axes else []
        if field.axes is None or not all(letter in right for letter in own):
            return call.mixed(PRODUCT)
        letters.append(own)
        rows, columns = (right.index(letter) for letter in own)
        placed.append(replace(field, axes=replace(field.axes, dims=(rows, columns))))
    if any(own != letters[0] for own in letters):
        return call.mixed(PRODUCT)
    return union(placed)


def attention(call: Call) -> Field:
    """Every query sees all keys. The result has the layout of the queries."""
    query = call.field_of(call.source)
    return replace(call.mixed(PRODUCT), axes=query.axes if query else None)
