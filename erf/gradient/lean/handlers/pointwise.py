"""Operations on the channels of each pixel.

Each handler takes the arguments of its operation, adds its nodes, and returns whether there is a step for them.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from erf.gradient.lean.calls import Call, Value
from erf.gradient.lean.reader import Handler, Map, Reader, per_channel
from erf.gradient.lean.steps.pointwise import Activation, Add, Affine, Clamp, LayerNorm, Linear, Multiply, ReLU

__all__ = ["HANDLERS"]

_aten = torch.ops.aten


def _batch_norm(
    reader: Reader, call: Call, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any
) -> bool:
    source = reader.map_of(x)
    training, eps = (rest[0], rest[2]) if isinstance(rest[0], bool) else (False, rest[1])
    if source is None or source.axes[1:2] != ("C",) or training or mean is None or variance is None:
        return False
    if any(isinstance(v, Value) for v in (weight, bias, mean, variance)):
        return False
    scale = (variance.double() + eps).rsqrt()
    shift = -mean.double() * scale
    if weight is not None:
        scale, shift = scale * weight.double(), shift * weight.double()
    if bias is not None:
        shift = shift + bias.double()
    return reader.add(call, Affine(scale, shift), source, axes=source.axes)


def _layer_norm(reader: Reader, call: Call, x: Value, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> bool:
    source = reader.map_of(x)
    if source is None or source.axes[-1] != "C" or len(shape) != 1:
        return False
    if isinstance(weight, Value) or isinstance(bias, Value):
        return False
    return reader.add(call, LayerNorm(weight, bias, eps), source, axes=source.axes)


def _pointwise(make: Callable[..., Any], reader: Reader, call: Call, x: Value, *args: Any, **kwargs: Any) -> bool:
    """An elementwise operation; the step is built from the arguments after the first."""
    source = reader.map_of(x)
    step = None if source is None else make(*args, **kwargs)
    return source is not None and step is not None and reader.add(call, step, source, axes=source.axes)


def _gelu(approximate: str = "none") -> Activation:
    return Activation(
        partial(F.gelu, approximate=approximate), partial(_aten.gelu_backward, approximate=approximate), half=True
    )


def _hardtanh(low: float = -1, high: float = 1) -> Clamp:
    return Clamp(low, high, at_bounds=False)


def _clamp(low: Any = None, high: Any = None) -> Clamp | None:
    bounds = (-float("inf") if low is None else low, float("inf") if high is None else high)
    return Clamp(*bounds, at_bounds=True) if all(isinstance(v, (int, float)) for v in bounds) else None


def _leaky_relu(slope: float = 0.01) -> Activation:
    return Activation(
        partial(F.leaky_relu, negative_slope=slope), lambda g, x: _aten.leaky_relu_backward(g, x, slope, False)
    )


def _power(exponent: Any) -> Activation | None:
    return (
        Activation(torch.square, lambda g, x: g * x * 2)
        if isinstance(exponent, (int, float)) and exponent == 2
        else None
    )


def _elu(alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Activation | None:
    if scale != 1 or input_scale != 1:
        return None
    return Activation(partial(F.elu, alpha=alpha), lambda g, x: _aten.elu_backward(g, alpha, 1, 1, False, x))


def _activation(function: Callable[[Tensor], Tensor], gradient: Callable[..., Tensor], *, half: bool = False) -> Any:
    return partial(_pointwise, lambda: Activation(function, gradient, half=half))


def _binary(operation: str, reader: Reader, call: Call, x: Any, y: Any, **kwargs: Any) -> bool:
    """A sum, difference, product or quotient of two maps, of a map and a vector, or of a map and constants."""
    if kwargs.get("alpha", 1) != 1 or kwargs.get("rounding_mode") is not None:
        return False
    for first, second in ((x, y), (y, x)):
        source, vector = reader.map_of(first), reader.vector_of(second)
        if source is not None and vector is not None:
            known = operation in ("add", "mul") or (operation == "sub" and first is x)
            return known and reader.gate(call, operation, source, vector)
    one, two = reader.map_of(x), reader.map_of(y)
    if one is not None and two is not None:
        return _two_maps(operation, reader, call, one, two)
    source = one or two
    numbers = None if source is None else per_channel(reader, source, x if one is None else y)
    if source is None or numbers is None:
        return False
    step = _affine(operation, numbers, swapped=one is None)
    return step is not None and reader.add(call, step, source, axes=source.axes)


def _affine(operation: str, numbers: Tensor, *, swapped: bool) -> Affine | None:
    """The step for a map and constants. The map is the first operand unless `swapped`."""
    one, zero = torch.ones_like(numbers), torch.zeros_like(numbers)
    if operation == "add":
        return Affine(one, numbers)
    if operation == "sub":
        return Affine(-one, numbers) if swapped else Affine(one, -numbers)
    if operation == "mul":
        return Affine(numbers, zero)
    return None if swapped else Affine(1 / numbers, zero)


def _two_maps(operation: str, reader: Reader, call: Call, one: Map, two: Map) -> bool:
    sizes = [reader.sizes(x) for x in (one, two)]
    channels = (sizes[0]["C"], sizes[1]["C"])
    same = all(sizes[0][letter] == sizes[1][letter] for letter in "NHW")
    if one.axes != two.axes or not same or (channels[0] != channels[1] and 1 not in channels):
        return False
    step: Any
    if operation in ("add", "sub"):
        step = Add(channels, 1.0 if operation == "add" else -1.0)
    elif operation == "mul":
        step = Multiply(channels)
    else:
        return False
    return reader.add(call, step, one, two, axes=one.axes, C=max(channels))


def _reversed_sub(reader: Reader, call: Call, x: Any, y: Any, **kwargs: Any) -> bool:
    return _binary("sub", reader, call, y, x, **kwargs)


def _addcmul(reader: Reader, call: Call, shift: Any, x: Any, y: Any, *, value: float = 1) -> bool:
    source = reader.map_of(x) or reader.map_of(y)
    scale = y if reader.map_of(x) is not None else x
    if source is None or value != 1:
        return False
    numbers = [per_channel(reader, source, v) for v in (scale, shift)]
    if numbers[0] is None or numbers[1] is None:
        return False
    scale, shift = torch.broadcast_tensors(numbers[0], numbers[1])
    return reader.add(call, Affine(scale, shift), source, axes=source.axes)


def _mm(reader: Reader, call: Call, x: Value, matrix: Any) -> bool:
    return _addmm(reader, call, None, x, matrix)


def _addmm(reader: Reader, call: Call, bias: Any, x: Value, matrix: Any, **kwargs: Any) -> bool:
    source = reader.map_of(x)
    if source is None or len(source.axes) != 2 or source.axes[1] != "C" or isinstance(matrix, Value):
        return False
    if kwargs or not (bias is None or (isinstance(bias, Tensor) and bias.shape == matrix.shape[1:])):
        return False
    weight = matrix.t()
    return reader.add(call, Linear(weight, bias), source, axes=source.axes, C=len(weight))


HANDLERS: dict[str, Handler] = {
    "aten::native_batch_norm": _batch_norm,
    "aten::_native_batch_norm_legit_no_training": _batch_norm,
    "aten::native_layer_norm": _layer_norm,
    "aten::relu": partial(_pointwise, ReLU),
    "aten::hardtanh": partial(_pointwise, _hardtanh),
    "aten::clamp": partial(_pointwise, _clamp),
    "aten::clamp_min": partial(_pointwise, _clamp),
    "aten::gelu": partial(_pointwise, _gelu),
    "aten::leaky_relu": partial(_pointwise, _leaky_relu),
    "aten::elu": partial(_pointwise, _elu),
    "aten::pow": partial(_pointwise, _power),
    "aten::silu": _activation(F.silu, _aten.silu_backward, half=True),
    "aten::hardswish": _activation(F.hardswish, _aten.hardswish_backward),
    "aten::hardsigmoid": _activation(F.hardsigmoid, _aten.hardsigmoid_backward),
    "aten::mish": _activation(F.mish, _aten.mish_backward),
    "aten::sigmoid": _activation(torch.sigmoid, lambda g, x: _aten.sigmoid_backward(g, x.sigmoid())),
    "aten::tanh": _activation(torch.tanh, lambda g, x: _aten.tanh_backward(g, x.tanh())),
    "aten::add": partial(_binary, "add"),
    "aten::sub": partial(_binary, "sub"),
    "aten::rsub": _reversed_sub,
    "aten::mul": partial(_binary, "mul"),
    "aten::div": partial(_binary, "div"),
    "aten::addcmul": _addcmul,
    "aten::mm": _mm,
    "aten::addmm": _addmm,
}
