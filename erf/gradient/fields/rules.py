"""What the functions of PyTorch do to the fields of their arguments: a table by their names.

A function that is not in the table leaves a field that is not known, never a guess.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from erf.gradient.fields.field import Axes, Field, Reach, Taps, union
from erf.gradient.fields.shapes import regrouped

__all__ = ["Call", "field_of_result"]

_SAME = Taps(lambda i: (i,))
_PRODUCT = "attention, or another product of positions"
_POOLED = "pooling over the whole image"
_NORMALISED = "normalisation over the whole image"


@dataclass(frozen=True)
class Call:
    """A function that was called.

    Attributes:
        name: Without leading and trailing underscores.
        args, kwargs: As it was called.
        result: What it gave, a tensor or several.
        field_of: Field of a tensor; None if it does not depend on the image.
    """

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    field_of: Callable[[torch.Tensor], Field | None]

    def argument(self, place: int, name: str, default: Any = None) -> Any:
        """An argument by its place or name."""
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
        """Of elements that depend on the elements at the same place of all arguments."""
        return union([field for _, field in self.seeing])

    def mixed(self, why: str) -> Field:
        """Of elements that depend on all positions of the arguments, and are no longer laid out as they were."""
        reasons = sorted({field.reason for _, field in self.seeing if field.reason})
        return Field(None, None, reasons[0] if reasons else "").without_bound(why)  # 'no bound' comes before 'not known'


Rule = Callable[[Call], Field]


def field_of_result(call: Call) -> Field | None:
    """What the result of a function sees of the image; None if nothing."""
    seeing = call.seeing
    if not seeing or call.name in _WITHOUT_DATA:
        return None
    if call.name in _POINTWISE:
        return _pointwise(call)
    rule = _RULES.get(call.name)
    if rule is None:
        return call.field.unknown(f"the function {call.name}")
    if rule in _OF_ONE and (len(seeing) > 1 or seeing[0][0] is not call.source):
        return call.field.unknown(f"the function {call.name} of several tensors")
    return rule(call)


def _pair(value: Any) -> tuple[int, int]:
    """Two whole numbers from one or two, as PyTorch takes them."""
    values = (value, value) if isinstance(value, int) else tuple(value)
    return (int(values[0]), int(values[-1]))


def _dims(value: Any, count: int) -> list[int]:
    """Dimensions as numbers from 0; all of them for None."""
    if value is None:
        return list(range(count))
    return [d % count for d in ([value] if isinstance(value, int) else value)]


# --- functions of each element ------------------------------------------------------------------------------------


def _pointwise(call: Call) -> Field:
    """Elements at the same place, once all tensors have the shape of the result."""
    shape = call.output.shape
    fields = []
    for tensor, field in call.seeing:
        if field.axes is not None:
            more = len(shape) - tensor.dim()
            field = replace(field, axes=field.axes.moved(lambda d, more=more: d + more))
        fields.append(_spread(field, shape))
    return union(fields)


def _spread(field: Field, shape: Sequence[int]) -> Field:
    """The field once dimensions of one unit have been repeated up to a shape."""
    axes = field.axes
    if axes is None or axes.fits(shape) or axes.merged or not all(0 <= d < len(shape) for d in axes.dims):
        return field
    rows, columns = (shape[d] for d in axes.dims)
    grown = replace(axes, sizes=(rows, columns))
    return field.unknown("one unit is spread over a map", axes=grown)


def _along(place: int, name: str = "dim", default: Any = None, why: str = _PRODUCT) -> Rule:
    """Rule of functions that mix the elements along some dimensions: those of channels, or all positions."""

    def rule(call: Call) -> Field:
        field = call.field
        mixed = set(_dims(call.argument(place, name, default), call.source.dim()))
        if field.axes is None:
            return field
        return field.without_bound(why) if mixed & set(field.axes.dims) else field

    return rule


def _last_dimensions(call: Call) -> Field:
    """Linear layers and normalisations, over the last dimensions."""
    shape = call.argument(1, "normalized_shape") if call.name in ("layer_norm", "rms_norm") else (1,)
    last = range(call.source.dim() - len(tuple(shape)), call.source.dim())
    field = call.field
    if field.axes is None or not set(last) & set(field.axes.dims):
        return field
    return field.without_bound(_NORMALISED if call.name in ("layer_norm", "rms_norm") else _PRODUCT)


def _batch_norm(call: Call) -> Field:
    of_batch = call.argument(5, "training", False) or call.argument(1, "running_mean") is None
    return call.field.without_bound("statistics of the batch") if of_batch else call.field


def _instance_norm(call: Call) -> Field:
    own = call.argument(5, "use_input_stats", True) or call.argument(1, "running_mean") is None
    return call.field.without_bound(_NORMALISED) if own else call.field


def _group_norm(call: Call) -> Field:
    return call.field.without_bound(_NORMALISED)


# --- windows ------------------------------------------------------------------------------------------------------


def _window(kernel: int, stride: int, padding: int, dilation: int) -> Taps:
    return Taps(
        lambda i: (i * stride - padding, i * stride - padding + dilation * (kernel - 1))
        if dilation > 0
        else (i * stride - padding,),
        1,
        stride,
    )


def _over(call: Call, taps: Sequence[Taps], *, mixes_channels: bool = False, turns: bool = False) -> Field:
    """The field once windows have run over the last dimensions of the source, one for each of the taps."""
    field, count, result = call.field, call.source.dim(), call.output
    axes, first = field.axes, call.source.dim() - len(taps)
    if axes is None:
        return field
    if axes.merged:
        moved = axes.dims[0] >= first and taps[axes.dims[0] - first] is not _SAME
        return field.unknown("a window over merged positions") if moved else field
    if mixes_channels and first - 1 in axes.dims:
        return field.without_bound(_PRODUCT)
    rows, columns = (taps[d - first] if d >= first else _SAME for d in axes.dims)
    if result.dim() != count:
        return field.unknown(f"the function {call.name}")
    sizes = (result.shape[axes.dims[0]], result.shape[axes.dims[1]])
    return field.through(replace(axes, sizes=sizes), rows, columns, turns=turns)


def _spatial(name: str) -> int:
    """How many dimensions a function of PyTorch runs over: the digit in its name."""
    return next(int(letter) for letter in name if letter.isdigit() and letter in "123")


def _each(value: Any, count: int) -> tuple[int, ...]:
    """A number for each of so many dimensions, as PyTorch takes them."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * count if len(values) == 1 else values


def _convolution(call: Call) -> Field:
    count = _spatial(call.name)
    kernel = tuple(call.argument(1, "weight").shape[2:])
    stride, dilation = (_each(call.argument(place, name, 1), count) for place, name in ((3, "stride"), (5, "dilation")))
    padding = call.argument(4, "padding", 0)
    if padding == "same":
        padding = [d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True)]
    padding = _each(0 if padding == "valid" else padding, count)
    return _over(call, _windows(kernel, stride, padding, dilation), mixes_channels=True)


def _windows(kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]) -> list:
    sides = zip(kernel, stride, padding, dilation, strict=True)
    return [_SAME if (k, s, p) == (1, 1, 0) else _window(k, s, p, d) for k, s, p, d in sides]


def _own_convolution(call: Call) -> Field:
    kernel = _pair(call.argument(1, "weight").shape[-2:])
    return _over(call, _windows(kernel, (1, 1), (kernel[0] // 2, kernel[1] // 2), (1, 1)))


def _transposed_convolution(call: Call) -> Field:
    count = _spatial(call.name)
    kernel = tuple(call.argument(1, "weight").shape[2:])
    places = ((3, "stride", 1), (4, "padding", 0), (7, "dilation", 1))
    stride, padding, dilation = (_each(call.argument(*place), count) for place in places)

    def taps(k: int, s: int, p: int, d: int) -> Taps:
        return Taps(lambda o: [(o + p - d * j) // s for j in range(k) if (o + p - d * j) % s == 0], s, 1)

    return _over(call, [taps(*side) for side in zip(kernel, stride, padding, dilation, strict=True)], mixes_channels=True)


def _pooling(call: Call) -> Field:
    count = _spatial(call.name)
    kernel = _each(call.argument(1, "kernel_size"), count)
    stride = call.argument(2, "stride") or kernel
    padding = call.argument(3, "padding", 0)
    dilation = call.argument(4, "dilation", 1) if call.name.startswith("max") else 1
    if call.name.startswith("lp"):  # norm_type comes second
        kernel, stride, padding = _each(call.argument(2, "kernel_size"), count), call.argument(3, "stride"), 0
    sides = (kernel, _each(stride or kernel, count), _each(padding, count), _each(dilation, count))
    return _over(call, _windows(*sides))


def _adaptive(call: Call) -> Field:
    count = _spatial(call.name)
    before, after = call.source.shape[-count:], call.output.shape[-count:]
    field, first = call.field, call.source.dim() - count
    pooled = {first + i for i in range(count) if after[i] == 1 < before[i]}
    taps = [_portions(m, n) for m, n in zip(before, after, strict=True)]
    found = _over(call, taps)
    return found.without_bound(_POOLED) if field.axes is not None and pooled & set(field.axes.dims) else found


def _portions(inputs: int, outputs: int) -> Taps:
    """How adaptive pooling divides a side into parts, which may overlap by a unit."""
    if inputs == outputs:
        return _SAME
    common = math.gcd(inputs, outputs)
    return Taps(
        lambda o: (o * inputs // outputs, -(-(o + 1) * inputs // outputs) - 1), outputs // common, inputs // common
    )


def _unfolded(call: Call) -> Field:
    """`F.unfold`: windows of an image (N, C, H, W) as columns (N, C k k, L)."""
    field, source = call.field, call.source
    if field.axes is None or field.axes.dims != (source.dim() - 2, source.dim() - 1):
        return field.unknown("a window over rearranged positions")
    names = (("kernel_size", None), ("dilation", 1), ("padding", 0), ("stride", 1))
    kernel, dilation, padding, stride = (_pair(call.argument(i + 1, *name)) for i, name in enumerate(names))
    sides = zip(source.shape[-2:], kernel, stride, padding, dilation, strict=True)
    h, w = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)
    last = call.output.dim() - 1
    rows, columns = _windows(kernel, stride, padding, dilation)
    return field.through(Axes((last, last), (h, w)), rows, columns)


# --- maps of another size -----------------------------------------------------------------------------------------


def _interpolated(call: Call) -> Field:
    mode, align = call.argument(3, "mode", "nearest"), call.argument(4, "align_corners")
    if call.argument(6, "antialias", False):
        return call.field.unknown("interpolation with antialiasing")
    count = call.source.dim() - 2
    before, after = call.source.shape[2:], call.output.shape[2:]
    factors: Any = call.argument(2, "scale_factor")
    if factors is None or call.argument(5, "recompute_scale_factor"):
        steps = [Fraction(m, n) for m, n in zip(before, after, strict=True)]
    else:
        factors = (factors,) * count if isinstance(factors, (int, float)) else factors
        steps = [1 / Fraction(factor).limit_denominator(1 << 12) for factor in factors]
    if align:
        steps = [Fraction(m - 1, n - 1) if n > 1 else Fraction(0) for m, n in zip(before, after, strict=True)]
    if mode == "area":
        return _over(call, [_portions(m, n) for m, n in zip(before, after, strict=True)])
    reach = {"nearest": None, "nearest-exact": None, "bilinear": 1, "linear": 1, "trilinear": 1, "bicubic": 2}
    if mode not in reach or 0 in steps:
        return call.field.unknown(f"interpolation of mode {mode}")
    half = Fraction(1, 2)

    def taps(step: Fraction) -> Taps:
        exact = step.denominator & (step.denominator - 1) == 0  # in floating point, too

        def of(o: int) -> Sequence[int]:
            if mode.startswith("nearest"):
                place = o * step if mode == "nearest" else (o + half) * step
                rounded = 0 if exact or place.denominator > 1 else 1
                return (math.floor(place) - rounded, math.floor(place))
            place = o * step if align else (o + half) * step - half
            beyond = reach[mode] or 1
            if place.denominator > 1:
                return (math.floor(place) - beyond + 1, math.floor(place) + beyond)
            rounded = 0 if exact else beyond  # on a unit the others have no weight, or but that of a rounding error
            return (int(place) - rounded, int(place) + rounded)

        return Taps(of, step.denominator, step.numerator)

    return _over(call, [taps(step) for step in steps])


def _shuffled(call: Call) -> Field:
    factor = call.argument(1, "upscale_factor") or call.argument(1, "downscale_factor")
    if call.name == "pixel_shuffle":
        taps = Taps(lambda o: (o // factor,), factor, 1)
    else:
        taps = _window(factor, factor, 0, 1)
    return _over(call, [taps, taps], mixes_channels=True)


def _padded(call: Call) -> Field:
    field, count = call.field, call.source.dim()
    pad, mode = call.argument(1, "pad"), call.argument(2, "mode", "constant")
    before = [pad[2 * (count - 1 - d)] if 2 * (count - 1 - d) < len(pad) else 0 for d in range(count)]
    after = [pad[2 * (count - 1 - d) + 1] if 2 * (count - 1 - d) < len(pad) else 0 for d in range(count)]
    taps = [
        _SAME if not b and not a else Taps(lambda o, b=b: (o - b,)) for b, a in zip(before, after, strict=True)
    ]
    moved = field.axes is not None and any(taps[d] is not _SAME for d in field.axes.dims)
    return _over(call, taps, turns=moved and mode in ("reflect", "circular"))


def _rolled(call: Call) -> Field:
    field, count = call.field, call.source.dim()
    shifts, dims = call.argument(1, "shifts"), call.argument(2, "dims")
    if dims is None or dims == ():
        return field.unknown("rolling over all dimensions")
    shifts, dims = _each(shifts, 1), _dims(dims, count)
    taps = [_SAME] * count
    for shift, d in zip(shifts, dims, strict=True):
        if shift:
            taps[d] = Taps(lambda o, shift=shift: (o - shift,))
    moved = field.axes is not None and any(taps[d] is not _SAME for d in field.axes.dims)
    return _over(call, taps, turns=moved)


def _repeated(call: Call) -> Field:
    """`repeat_interleave` by a whole number."""
    repeats, dim = call.argument(1, "repeats"), call.argument(2, "dim")
    if not isinstance(repeats, int) or dim is None:
        return call.field.unknown("repeating")
    taps = [_SAME] * call.source.dim()
    taps[dim] = Taps(lambda o: (o // repeats,), repeats, 1)
    return _over(call, taps)


# --- reductions and products --------------------------------------------------------------------------------------


def _reduction(call: Call) -> Field:
    place = 2 if call.name in ("norm", "vector_norm", "linalg_norm", "linalg_vector_norm") else 1
    dims, field, source = call.argument(place, "dim"), call.field, call.source
    if call.name in ("max", "min") and (dims is None or isinstance(dims, torch.Tensor)) and len(call.tensors) > 1:
        return _pointwise(call)
    reduced = set(_dims(dims, source.dim()))
    keep = call.argument(place + 1, "keepdim", False)
    if field.axes is None:
        return field
    axes: Axes | None = field.axes
    lost = reduced & set(field.axes.dims)
    if lost:
        field = field.without_bound(_POOLED)
        rows, columns = (1 if d in lost else n for d, n in zip(field.axes.dims, field.axes.sizes, strict=True))
        axes = replace(field.axes, sizes=(rows, columns)) if keep and not field.axes.merged else None
    elif not keep:
        axes = field.axes.moved(lambda d: d - sum(r < d for r in reduced))
    return replace(field, axes=axes)


def _product(call: Call) -> Field:
    """`matmul` and its kind."""
    a, b = call.tensors[-2:] if call.name in ("baddbmm", "addmm") else call.tensors[:2]
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
            return call.mixed(_PRODUCT)
        more = count - tensor.dim()
        placed.append(_spread(replace(one, axes=axes.moved(lambda d, more=more: d + more)), call.output.shape))
    within = all(d < count - 2 for one in placed if one.axes for d in one.axes.dims)
    if len(placed) > 1 and not within:
        return call.mixed(_PRODUCT)
    return union(placed)


def _einsum(call: Call) -> Field:
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
            return call.mixed(_PRODUCT)
        letters.append(own)
        placed.append(replace(field, axes=field.axes.moved(lambda d, term=term: right.index(term[d]))))
    if any(own != letters[0] for own in letters):
        return call.mixed(_PRODUCT)
    return union(placed)


def _attention(call: Call) -> Field:
    """Every query sees all keys; the result is laid out as the queries are."""
    query = call.field_of(call.source)
    return replace(call.mixed(_PRODUCT), axes=query.axes if query else None)


# --- other arrangements -------------------------------------------------------------------------------------------


def _permuted(call: Call) -> Field:
    field, count = call.field, call.source.dim()
    given = call.argument(1, "dims")
    order = [d % count for d in (given if isinstance(given, (tuple, list)) else call.args[1:])]
    return field if field.axes is None else replace(field, axes=field.axes.moved(order.index))


def _transposed(call: Call) -> Field:
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


def _moved(call: Call) -> Field:
    field, count = call.field, call.source.dim()
    source, goal = (_dims(call.argument(i + 1, name), count) for i, name in enumerate(("source", "destination")))
    rest = iter(d for d in range(count) if d not in source)
    placed = dict(zip(goal, source, strict=True))
    order = [placed[d] if d in placed else next(rest) for d in range(count)]
    return field if field.axes is None else replace(field, axes=field.axes.moved(order.index))


def _reshaped(call: Call) -> Field:
    return regrouped(call.field, tuple(call.source.shape), tuple(call.output.shape))


def _expanded(call: Call) -> Field:
    field, more = call.field, call.output.dim() - call.source.dim()
    if field.axes is None:
        return field
    return _spread(replace(field, axes=field.axes.moved(lambda d: d + more)), call.output.shape)


def _tiled(call: Call) -> Field:
    field = _expanded(call)
    fits = field.axes is not None and field.axes.fits(call.output.shape)
    return field if fits and not field.reason.endswith("spread over a map") else call.field.unknown("repeating")


def _indexed(call: Call) -> Field:
    index = call.args[1]
    return _taken(call.field, tuple(call.source.shape), index if isinstance(index, tuple) else (index,))


def _selected(call: Call) -> Field:
    dim, index = call.argument(1, "dim") % call.source.dim(), call.argument(2, "index")
    return _taken(call.field, tuple(call.source.shape), (*(slice(None),) * dim, index))


def _narrowed(call: Call) -> Field:
    dim, start, length = call.argument(1, "dim") % call.source.dim(), call.argument(2, "start"), call.argument(3, "length")
    return _taken(call.field, tuple(call.source.shape), (*(slice(None),) * dim, slice(start, start + length)))


def _taken(field: Field, shape: tuple[int, ...], index: tuple[Any, ...]) -> Field:
    """The field of a part of a tensor."""
    axes = field.axes
    if axes is None:
        return field
    used = sum(1 for i in index if i is not None and i is not Ellipsis)
    whole = [slice(None)] * (len(shape) - used)
    at = index.index(Ellipsis) if any(i is Ellipsis for i in index) else len(index)
    full = [*index[:at], *whole, *index[at + 1 :]]
    taps, prefix, place, goal = [_SAME, _SAME], axes.prefix, 0, 0
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
                    taps[side] = Taps(lambda o, start=start, step=step: (start + step * o,), 1, step)
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


def _joined(call: Call) -> Field:
    """`cat`: channels beside channels, or tokens before those of the map."""
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


def _stacked(call: Call) -> Field:
    along = call.argument(1, "dim", 0) % call.output.dim()
    field = call.field
    return field if field.axes is None else replace(field, axes=field.axes.moved(lambda d: d + (d >= along)))


def _unbound(call: Call) -> Field:
    along, field = call.argument(1, "dim", 0) % call.source.dim(), call.field
    if field.axes is None:
        return field
    if along in field.axes.dims:
        return field.unknown("one row of positions is taken")
    return replace(field, axes=field.axes.moved(lambda d: d - (d > along)))


def _divided(call: Call) -> Field:
    along = call.argument(2, "dim", 0) % call.source.dim()
    divided = call.field.axes is not None and along in call.field.axes.dims
    return call.field.unknown("positions are divided") if divided and _is_several(call) else call.field


def _is_several(call: Call) -> bool:
    return len(tree_leaves(call.result)) > 1


def _flipped(call: Call) -> Field:
    field, dims = call.field, set(_dims(call.argument(1, "dims"), call.source.dim()))
    return field.unknown("flipping") if field.axes is not None and dims & set(field.axes.dims) else field


_POINTWISE = frozenset(
    [
        *("relu", "relu6", "hardtanh", "gelu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "softplus"),
        *("elu", "leaky_relu", "prelu", "clamp", "clamp_min", "clamp_max", "clip", "mish", "selu", "celu", "softsign"),
        *("logsigmoid", "threshold", "hardshrink", "softshrink", "tanhshrink", "erf", "log", "log1p", "expm1", "sin"),
        *("cos", "sign", "floor", "ceil", "round", "where", "lerp", "addcdiv", "masked_fill", "nan_to_num"),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout"),
        *("feature_alpha_dropout", "add", "iadd", "radd", "sub", "isub", "rsub", "subtract", "mul", "imul", "rmul"),
        *("multiply", "div", "truediv", "itruediv", "rtruediv", "idiv", "divide", "neg", "negative", "positive", "pos"),
        *("exp", "exp2", "sqrt", "rsqrt", "pow", "ipow", "rpow", "square", "abs", "reciprocal", "maximum", "minimum"),
        *("addcmul", "contiguous", "to", "float", "half", "double", "bfloat16", "type", "type_as", "cpu", "cuda"),
        *("detach", "clone", "requires_grad", "copy", "local_response_norm", "channel_shuffle", "fill", "eq", "ne"),
        *("lt", "gt", "le", "ge", "logical_and", "logical_or", "logical_not", "invert", "bool", "data"),
    ]
)
_WITHOUT_DATA = frozenset(
    ["zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"]
    + ["new_zeros", "new_ones", "new_empty", "new_full", "new_tensor", "zero"]
)
_RULES: dict[str, Rule] = {
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], _convolution),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], _transposed_convolution),
    "depthwise_conv2d": _own_convolution,
    **dict.fromkeys(
        [f"{kind}_pool{n}d{more}" for kind in ("max", "avg", "lp") for n in (1, 2, 3) for more in ("", "_with_indices")],
        _pooling,
    ),
    **dict.fromkeys(
        [f"adaptive_{kind}_pool{n}d{more}" for kind in ("max", "avg") for n in (1, 2, 3) for more in ("", "_with_indices")],
        _adaptive,
    ),
    "unfold": _unfolded,
    **dict.fromkeys(["interpolate", "upsample"], _interpolated),
    **dict.fromkeys(["pixel_shuffle", "pixel_unshuffle"], _shuffled),
    "pad": _padded,
    "roll": _rolled,
    "repeat_interleave": _repeated,
    **dict.fromkeys(["mean", "sum", "amax", "amin", "var", "std", "norm", "var_mean", "std_mean"], _reduction),
    **dict.fromkeys(["logsumexp", "max", "min", "prod", "vector_norm", "linalg_norm"], _reduction),
    **dict.fromkeys(["linalg_vector_norm"], _reduction),
    **dict.fromkeys(["matmul", "rmatmul", "bmm", "mm", "baddbmm"], _product),
    "einsum": _einsum,
    **dict.fromkeys(
        ["scaled_dot_product_attention", "multi_head_attention_forward", "native_multi_head_attention"], _attention
    ),
    "group_norm": _group_norm,
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    **dict.fromkeys(["linear", "layer_norm", "rms_norm"], _last_dimensions),
    **dict.fromkeys(["softmax", "log_softmax", "softmin", "cumsum"], _along(1)),
    "normalize": _along(2, default=1, why=_NORMALISED),
    "permute": _permuted,
    **dict.fromkeys(["transpose", "swapaxes", "t", "T", "mT"], _transposed),
    **dict.fromkeys(["movedim", "moveaxis"], _moved),
    **dict.fromkeys(["view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as"], _reshaped),
    **dict.fromkeys(["expand", "expand_as", "broadcast_to"], _expanded),
    **dict.fromkeys(["repeat", "tile"], _tiled),
    "getitem": _indexed,
    "select": _selected,
    "narrow": _narrowed,
    **dict.fromkeys(["cat", "concat", "concatenate"], _joined),
    "stack": _stacked,
    "unbind": _unbound,
    **dict.fromkeys(["chunk", "split", "tensor_split"], _divided),
    "flip": _flipped,
}
_OF_ONE: frozenset[Rule] = frozenset(
    [_last_dimensions, _batch_norm, _instance_norm, _group_norm, _convolution, _own_convolution]
    + [_transposed_convolution, _pooling, _adaptive, _unfolded, _interpolated, _shuffled, _padded, _rolled, _repeated]
    + [_permuted, _transposed, _moved, _reshaped, _tiled, _indexed, _selected, _narrowed, _unbound, _divided, _flipped]
)
