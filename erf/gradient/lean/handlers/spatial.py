"""Operations on neighbourhoods of pixels, and on whole maps.

Each handler takes the arguments of its operation, adds its nodes, and returns whether there is a step for them.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from erf.gradient.fields.calls import pair_of
from erf.gradient.lean.axes import MAP
from erf.gradient.lean.calls import Call, Value
from erf.gradient.lean.reader import Handler, Map, Reader
from erf.gradient.lean.steps.pointwise import ChannelMean, Dense
from erf.gradient.lean.steps.spatial import (
    AveragePool,
    Convolution,
    GlobalMean,
    GlobalNorm,
    LargeDepthwise,
    MaxPool,
    Pad,
)

__all__ = ["HANDLERS"]


def _convolution(
    reader: Reader,
    call: Call,
    x: Value,
    weight: Any,
    bias: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> bool:
    source = reader.map_of(x)
    if source is None or source.axes != MAP or transposed or not _are_constants(weight, bias) or weight.ndim != 4:
        return False
    step: Dense | Convolution
    if set(weight.shape[2:]) == set(stride) == {1} and not any(padding):
        step = Dense(weight, bias, groups)
    else:
        pairs = [pair_of(v) for v in (stride, padding, dilation)]
        step = Convolution(weight, bias, stride=pairs[0], padding=pairs[1], dilation=pairs[2], groups=groups)
    return _add_spatial(reader, call, step, source, channels=len(weight))


def _are_constants(weight: Any, bias: Any) -> bool:
    """Whether a weight, and a bias or None, do not depend on the images."""
    return isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor))


def _add_spatial(reader: Reader, call: Call, step: Any, source: Map, *, channels: int | None = None) -> bool:
    sizes = dict(reader.sizes(source))
    if hasattr(step, "geometry"):
        for letter, geometry in zip("HW", step.geometry, strict=True):
            sizes[letter] = geometry.output_size(sizes[letter])
    if channels is not None:
        sizes["C"] = channels
    return reader.add(call, step, source, axes=MAP, **sizes)


def _large_depthwise(reader: Reader, call: Call, x: Value, weight: Any, bias: Any) -> bool:
    source = reader.map_of(x)
    if source is None or source.axes != MAP or not _are_constants(weight, bias):
        return False
    return _add_spatial(reader, call, LargeDepthwise(weight, bias), source)


def _pad(reader: Reader, call: Call, x: Value, padding: Sequence[int], value: float = 0) -> bool:
    source = reader.map_of(x)
    ends = [(padding[i], padding[i + 1]) for i in range(0, len(padding), 2)]  # the last axis comes first
    if source is None or value != 0 or min(padding) < 0:
        return False
    by_letter = {"H": (0, 0), "W": (0, 0)}
    for pair, word in zip(ends, reversed(source.axes), strict=False):
        if any(pair) and word not in by_letter:
            return False
        if any(pair):
            by_letter[word] = pair
    step = Pad((by_letter["H"], by_letter["W"]))
    sizes = reader.sizes(source)
    height, width = (g.output_size(sizes[letter]) for g, letter in zip(step.geometry, "HW", strict=True))
    return reader.add(call, step, source, axes=source.axes, H=height, W=width)


def _max_pool(
    reader: Reader,
    call: Call,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
) -> bool:
    source = reader.map_of(x)
    if source is None or source.axes != MAP:
        return False
    pairs = [pair_of(v) for v in (kernel, stride or kernel, padding, dilation)]
    step = MaxPool(kernel=pairs[0], stride=pairs[1], padding=pairs[2], dilation=pairs[3])
    return _add_spatial(reader, call, step, source)  # with ceil_mode only where it does not change the size


def _average_pool(
    reader: Reader,
    call: Call,
    x: Value,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil_mode: bool = False,
    count_padding: bool = True,
    divisor: int | None = None,
) -> bool:
    source = reader.map_of(x)
    if source is None or source.axes != MAP:
        return False
    pairs = [pair_of(v) for v in (kernel, stride or kernel, padding)]
    step = AveragePool(kernel=pairs[0], stride=pairs[1], padding=pairs[2], count_padding=count_padding, divisor=divisor)
    return _add_spatial(reader, call, step, source)


def _reduction(
    kind: str, reader: Reader, call: Call, x: Value, dims: Sequence[int] | None, keepdim: bool = False, **kwargs: Any
) -> bool:
    """A mean, sum or norm over the whole map, or a mean over the channels."""
    source = reader.map_of(x)
    if source is None or not dims or kwargs.get("dtype") is not None:
        return False
    letters = "".join(sorted("".join(source.axes[dim] for dim in dims)))
    if letters == "HW":
        return reader.add_vector(call, GlobalNorm() if kind == "norm" else GlobalMean(), source)
    if letters == "C" and keepdim and kind == "mean":
        return reader.add(call, ChannelMean(reader.sizes(source)["C"]), source, axes=source.axes, C=1)
    return False


def _norm(
    reader: Reader, call: Call, x: Value, order: float = 2, dims: Any = None, keepdim: bool = False, **kwargs: Any
) -> bool:
    return order == 2 and _reduction("norm", reader, call, x, dims, keepdim, **kwargs)


HANDLERS: dict[str, Handler] = {
    "aten::convolution": _convolution,
    "replknet::depthwise_conv2d": _large_depthwise,
    "aten::mean": partial(_reduction, "mean"),
    "aten::linalg_vector_norm": _norm,
    "aten::constant_pad_nd": _pad,
    "aten::max_pool2d_with_indices": _max_pool,
    "aten::avg_pool2d": _average_pool,
}
