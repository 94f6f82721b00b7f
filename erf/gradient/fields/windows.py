"""Functions that look at a window around each position: convolutions, poolings, padding and resizing."""

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from erf.gradient.fields.calls import POOLED, SAME, Call, dims_of, one_each, pair_of, shifted, windows_over
from erf.gradient.fields.field import Axes, Field, Taps

__all__ = [
    "adaptive",
    "convolution",
    "interpolated",
    "own_convolution",
    "padded",
    "pooling",
    "repeated",
    "rolled",
    "shuffled",
    "transposed_convolution",
    "unfolded",
]


def _window(kernel: int, stride: int, padding: int, dilation: int) -> Taps:
    reach = dilation * (kernel - 1)
    return Taps(lambda i: (i * stride - padding, i * stride - padding + reach), 1, stride)


def _spatial(name: str) -> int:
    """Number of spatial dimensions of a PyTorch function: the digit in its name."""
    return next(int(letter) for letter in name if letter.isdigit() and letter in "123")


def convolution(call: Call) -> Field:
    count = _spatial(call.name)
    kernel = tuple(call.argument(1, "weight").shape[2:])
    stride, dilation = (
        one_each(call.argument(place, name, 1), count) for place, name in ((3, "stride"), (5, "dilation"))
    )
    padding = call.argument(4, "padding", 0)
    if padding == "same":
        padding = tuple(d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True))
    padding = one_each(0 if padding == "valid" else padding, count)
    return windows_over(call, _windows(kernel, stride, padding, dilation), mixes_channels=True)


def _windows(
    kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
) -> list[Taps]:
    sides = zip(kernel, stride, padding, dilation, strict=True)
    return [SAME if (k, s, p) == (1, 1, 0) else _window(k, s, p, d) for k, s, p, d in sides]


def own_convolution(call: Call) -> Field:
    kernel = pair_of(call.argument(1, "weight").shape[-2:])
    return windows_over(call, _windows(kernel, (1, 1), (kernel[0] // 2, kernel[1] // 2), (1, 1)))


def transposed_convolution(call: Call) -> Field:
    count = _spatial(call.name)
    kernel = tuple(call.argument(1, "weight").shape[2:])
    places = ((3, "stride", 1), (4, "padding", 0), (7, "dilation", 1))
    stride, padding, dilation = (one_each(call.argument(*place), count) for place in places)

    def taps(k: int, s: int, p: int, d: int) -> Taps:
        return Taps(lambda o: [(o + p - d * j) // s for j in range(k) if (o + p - d * j) % s == 0], s, 1)

    return windows_over(
        call, [taps(*side) for side in zip(kernel, stride, padding, dilation, strict=True)], mixes_channels=True
    )


def pooling(call: Call) -> Field:
    count = _spatial(call.name)
    place = 2 if call.name.startswith("lp") else 1  # norm_type is the second argument
    kernel = one_each(call.argument(place, "kernel_size"), count)
    stride = call.argument(place + 1, "stride") or kernel
    padding = 0 if call.name.startswith("lp") else call.argument(3, "padding", 0)
    dilation = call.argument(4, "dilation", 1) if call.name.startswith("max") else 1
    sides = (kernel, one_each(stride or kernel, count), one_each(padding, count), one_each(dilation, count))
    return windows_over(call, _windows(*sides))


def adaptive(call: Call) -> Field:
    count = _spatial(call.name)
    before, after = call.source.shape[-count:], call.output.shape[-count:]
    field, first = call.field, call.source.dim() - count
    pooled = {first + i for i in range(count) if after[i] == 1 < before[i]}
    taps = [_portions(m, n) for m, n in zip(before, after, strict=True)]
    found = windows_over(call, taps)
    return found.without_bound(POOLED) if field.axes is not None and pooled & set(field.axes.dims) else found


def _portions(inputs: int, outputs: int) -> Taps:
    """How adaptive pooling divides a side into parts, which may overlap by one unit."""
    if inputs == outputs:
        return SAME
    common = math.gcd(inputs, outputs)
    return Taps(
        lambda o: (o * inputs // outputs, -(-(o + 1) * inputs // outputs) - 1), outputs // common, inputs // common
    )


def unfolded(call: Call) -> Field:
    """`F.unfold`: windows of a map (N, C, h, w) as columns (N, C k k, L); or a tensor's own `unfold` of a dimension."""
    field, source, last = call.field, call.source, call.output.dim() - 1
    if call.output.dim() > source.dim():
        dim, size, step = (
            call.argument(1, "dimension") % source.dim(),
            call.argument(2, "size"),
            call.argument(3, "step"),
        )
        if field.axes is None:
            return field
        taps = [_window(size, step, 0, 1) if d == dim else SAME for d in field.axes.dims]
        h, w = (call.output.shape[d] for d in field.axes.dims)
        if field.axes.merged:
            return field.unknown("a window over merged positions")
        return field.through(replace(field.axes, sizes=(h, w)), *taps)
    if field.axes is None or field.axes.dims != (source.dim() - 2, source.dim() - 1):
        return field.unknown("a window over rearranged positions")
    names = (("kernel_size", None), ("dilation", 1), ("padding", 0), ("stride", 1))
    kernel, dilation, padding, stride = (pair_of(call.argument(i + 1, *name)) for i, name in enumerate(names))
    sides = zip(source.shape[-2:], kernel, stride, padding, dilation, strict=True)
    h, w = ((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sides)
    rows, columns = _windows(kernel, stride, padding, dilation)
    return field.through(Axes((last, last), (h, w)), rows, columns)


def interpolated(call: Call) -> Field:
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
        return windows_over(call, [_portions(m, n) for m, n in zip(before, after, strict=True)])
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
            rounded = 0 if exact else beyond  # exactly on a unit, neighbours weigh nothing or a rounding error
            return (int(place) - rounded, int(place) + rounded)

        return Taps(of, step.denominator, step.numerator)

    return windows_over(call, [taps(step) for step in steps])


def shuffled(call: Call) -> Field:
    factor = call.argument(1, "upscale_factor") or call.argument(1, "downscale_factor")
    shuffled_up = call.name == "pixel_shuffle"
    taps = Taps(lambda o: (o // factor,), factor, 1) if shuffled_up else _window(factor, factor, 0, 1)
    return windows_over(call, [taps, taps], mixes_channels=True)


def padded(call: Call) -> Field:
    """`F.pad`; a negative amount crops."""
    field, count = call.field, call.source.dim()
    pad, mode = call.argument(1, "pad"), call.argument(2, "mode", "constant")
    pairs = {count - 1 - i // 2: (pad[i], pad[i + 1]) for i in range(0, len(pad), 2)}
    taps = [shifted(pairs[d][0]) if d in pairs else SAME for d in range(count)]
    changed = field.axes is not None and any(any(pairs.get(d, (0, 0))) for d in field.axes.dims)
    return windows_over(call, taps, turns=changed and mode in ("reflect", "circular", "replicate"))


def rolled(call: Call) -> Field:
    """`torch.roll`."""
    field, count = call.field, call.source.dim()
    shifts, dims = call.argument(1, "shifts"), call.argument(2, "dims")
    if dims is None or dims == ():
        return field.unknown("rolling over all dimensions")
    taps = [SAME] * count
    for shift, d in zip(one_each(shifts, 1), dims_of(dims, count), strict=True):
        taps[d] = shifted(shift)
    changed = field.axes is not None and any(taps[d] is not SAME for d in field.axes.dims)
    return windows_over(call, taps, turns=changed)


def repeated(call: Call) -> Field:
    """`repeat_interleave` by a whole number."""
    repeats, dim = call.argument(1, "repeats"), call.argument(2, "dim")
    if not isinstance(repeats, int) or dim is None:
        return call.field.unknown("repeating")
    taps = [SAME] * call.source.dim()
    taps[dim] = Taps(lambda o: (o // repeats,), repeats, 1)
    return windows_over(call, taps)
