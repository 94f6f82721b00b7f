"""From the recording of a network to its lean form: each recorded operation as a step, where all of them are known."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erf.gradient.lean.axes import MAP, Axes, viewed
from erf.gradient.lean.calls import Call, NoLeanForm, Value
from erf.gradient.lean.network import LeanNetwork, Node
from erf.gradient.lean.record import record
from erf.gradient.lean.steps.pointwise import (
    Activation,
    Add,
    Affine,
    ChannelMean,
    Clamp,
    Concatenate,
    Dense,
    LayerNorm,
    Linear,
    Multiply,
    ReLU,
    Slice,
)
from erf.gradient.lean.steps.spatial import (
    AveragePool,
    Convolution,
    GlobalMean,
    GlobalNorm,
    LargeDepthwise,
    MaxPool,
    Pad,
)
from erf.gradient.lean.steps.vectors import Gate, VectorStep

__all__ = ["lean_form"]

_aten = torch.ops.aten


def lean_form(model: nn.Module, layer: Any, images: Tensor) -> LeanNetwork:
    """The lean form of a network in eval mode, up to one feature map, for images of one size.

    It shares the network's parameters, but for convolutions that take in a normalisation.

    Args:
        model: In eval mode; left as it is.
        layer: As for `erf.gradient.contribution.feature_map`.
        images: (N, C, H, W), of which only shape, strides and type are used.

    Raises: ValueError if the network is in train mode; NoLeanForm if it has a step that is not known, such as
        attention, or as `record`.
    """
    if model.training:
        raise ValueError("lean_form() is for inference: call model.eval() first")
    recording = record(model, layer, images)
    reader = _Reader(recording.images)
    for call in recording.calls:
        reader.read(call)
    last = reader.known.get(recording.feature_map.number)
    if not isinstance(last, _Map) or last.axes != MAP or last.node == 0:
        raise NoLeanForm("its feature map is not one of the maps that are computed")
    return LeanNetwork(*_fold_affine(_needed(reader.nodes, last.node), last.node))


@dataclass(frozen=True)
class _Map:
    """A recorded value that is a feature map: the node that makes it, and its axes."""

    node: int
    axes: Axes


@dataclass(frozen=True)
class _Vector:
    """A recorded value that is a vector for each image: the calls that make it of means over whole maps.

    Attributes:
        value: The vector itself; of an expanded one, before it was.
        sources: Recorded values, their axes, and the nodes that make them.
        calls: From there to the vector.
        expanded: Whether it was expanded to the size of a map, and can only be a gate.
    """

    value: Value
    sources: tuple[tuple[Value, str, int], ...]
    calls: tuple[Call, ...] = ()
    expanded: bool = False


class _Reader:
    """Turns calls into nodes.

    Attributes:
        nodes: So far.
        known: What each recorded value is.
    """

    def __init__(self, images: Value):
        self.nodes: list[Node] = []
        self.known: dict[int, _Map | _Vector] = {images.number: _Map(0, MAP)}
        self._sizes: dict[int, dict[str, int]] = {0: dict(zip(MAP, images.size, strict=True))}
        self._dtype = images.dtype

    def read(self, call: Call) -> None:
        """Raises: NoLeanForm if there is no step for the call."""
        if any(value.dtype != self._dtype for value, _ in call.reads):
            raise NoLeanForm(f"{call.operation} works on another type of numbers than that of the images")
        kinds = [self.known[value.number] for value, _ in call.reads]
        if kinds and all(isinstance(kind, _Vector) for kind in kinds):
            self._read_vector(call, [kind for kind in kinds if isinstance(kind, _Vector)])
            return
        try:
            handler = _HANDLERS[call.operation]
        except KeyError:
            raise NoLeanForm(f"{call.operation} is none of its steps") from None
        if not handler(self, call, *call.args, **call.kwargs):
            raise NoLeanForm(f"{call.operation} is a step in other cases than this one: {_described(call)}")

    def map_of(self, value: Any) -> _Map | None:
        known = self.known.get(value.number) if isinstance(value, Value) else None
        return known if isinstance(known, _Map) else None

    def vector_of(self, value: Any) -> _Vector | None:
        known = self.known.get(value.number) if isinstance(value, Value) else None
        return known if isinstance(known, _Vector) else None

    def sizes(self, x: _Map) -> dict[str, int]:
        """Number of images, channels, rows and columns."""
        return self._sizes[x.node]

    def add(self, call: Call, step: Any, *sources: _Map | int, axes: Axes, number: int = 0, **sizes: int) -> bool:
        """A node for an output of a call; `sizes` are those of the letters that are not as in the first source."""
        nodes = tuple(source.node if isinstance(source, _Map) else source for source in sources)
        output = len(self.nodes) + 1
        self.nodes.append(Node(step, nodes, output))
        self._sizes[output] = {**self._sizes[nodes[0]], **sizes}
        value = call.outputs[number]
        if tuple(_extent(word, self._sizes[output]) for word in axes) != value.size:
            return False
        self.known[value.number] = _Map(output, axes)
        return True

    def same(self, call: Call, x: _Map | _Vector, axes: Axes | None = None) -> bool:
        """The output of a call is a known map, perhaps with its axes in another order."""
        self.known[call.outputs[0].number] = _Map(x.node, axes or x.axes) if isinstance(x, _Map) else x
        return True

    def add_vector(self, call: Call, step: Any, x: _Map) -> bool:
        """A node that makes one vector of a whole map, and the vector."""
        words = [word for word in ("N", "C") if word in x.axes]
        if len(words) != 2:
            return False
        output = len(self.nodes) + 1
        self.nodes.append(Node(step, (x.node,), output))
        self._sizes[output] = {**self._sizes[x.node], "H": 1, "W": 1}
        order = "".join(word for word in x.axes if word in words)
        self.known[call.outputs[0].number] = _Vector(call.outputs[0], ((call.outputs[0], order, output),))
        return True

    def gate(self, call: Call, operation: str, x: _Map, vector: _Vector) -> bool:
        """A node for the vector that the calls make, and one for its use on a map."""
        value, rank = vector.value, len(x.axes)
        order: list[int | None] = []
        for letter in MAP:
            axis = x.axes.index(letter) - rank + len(value.size) if letter in x.axes else -1
            order.append(axis if axis >= 0 and letter in "NC" else None)
        sizes = self.sizes(x)
        wanted = [1] * len(value.size)
        for letter, place in zip("NC", order[:2], strict=True):
            if place is not None:
                wanted[place] = sizes[letter]
        if len(value.size) > rank or any(n not in (1, m) for n, m in zip(value.size, wanted, strict=True)):
            return False
        sources = [(source, axes) for source, axes, _ in vector.sources]
        step = VectorStep(vector.calls, sources, value, order)
        output = len(self.nodes) + 1
        self.nodes.append(Node(step, tuple(node for _, _, node in vector.sources), output))
        self._sizes[output] = {"N": 1, "C": 1, "H": 1, "W": 1}
        return self.add(call, Gate(operation), x, output, axes=x.axes)

    def _read_vector(self, call: Call, kinds: Sequence[_Vector]) -> None:
        """A vector that is made of vectors alone."""
        if any(kind.expanded for kind in kinds):
            raise NoLeanForm(f"{call.operation} works on a vector that was expanded to a map")
        if call.operation == "aten::expand":
            self.known[call.outputs[0].number] = replace(kinds[0], expanded=True)
            return
        sources: dict[int, tuple[Value, str, int]] = {}
        calls: dict[int, Call] = {}
        for kind in kinds:
            sources.update((source[0].number, source) for source in kind.sources)
            calls.update((id(before), before) for before in kind.calls)
        in_order = sorted(calls.values(), key=lambda before: before.outputs[0].number)
        for value in call.outputs:
            self.known[value.number] = _Vector(value, tuple(sources.values()), (*in_order, call))


def _extent(word: str, sizes: dict[str, int]) -> int:
    product = 1
    for letter in word:
        product *= sizes[letter]
    return product


def _described(call: Call) -> str:
    parts = [*call.args, *(f"{key}={value}" for key, value in call.kwargs.items())]
    said = [
        f"{tuple(p.size if isinstance(p, Value) else p.shape)}" if isinstance(p, (Value, Tensor)) else str(p)
        for p in parts
    ]
    return ", ".join(said)


def _per_channel(reader: _Reader, x: _Map, constant: Any) -> Tensor | None:
    """A number, or a tensor that is the same for all images and pixels, as float64 (1,) or (C,)."""
    if isinstance(constant, (int, float)) and not isinstance(constant, bool):
        return torch.tensor([constant], dtype=torch.float64)
    if not isinstance(constant, Tensor) or constant.ndim > len(x.axes) or not constant.is_floating_point():
        return None
    for size, word in zip(reversed(constant.shape), reversed(x.axes), strict=False):
        if size != 1 and word != "C":
            return None
    flat = constant.detach().double().flatten()
    return flat if len(flat) in (1, reader.sizes(x)["C"]) else None


# Each handler takes the arguments of its operation, adds its nodes, and returns whether there is a step for them.


def _identity(reader: _Reader, call: Call, x: Value, *args: Any, **kwargs: Any) -> bool:
    return call.outputs[0].dtype == x.dtype and reader.same(call, reader.known[x.number])


def _convolution(
    reader: _Reader,
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
    if source is None or source.axes != MAP or transposed or not isinstance(weight, Tensor) or weight.ndim != 4:
        return False
    step: Dense | Convolution
    if set(weight.shape[2:]) == set(stride) == {1} and not any(padding):
        step = Dense(weight, bias, groups)
    else:
        pairs = [_pair(v) for v in (stride, padding, dilation)]
        step = Convolution(weight, bias, stride=pairs[0], padding=pairs[1], dilation=pairs[2], groups=groups)
    return _add_spatial(reader, call, step, source, channels=len(weight))


def _add_spatial(reader: _Reader, call: Call, step: Any, source: _Map, *, channels: int | None = None) -> bool:
    sizes = dict(reader.sizes(source))
    if hasattr(step, "geometry"):
        for letter, geometry in zip("HW", step.geometry, strict=True):
            sizes[letter] = geometry.output_size(sizes[letter])
    if channels is not None:
        sizes["C"] = channels
    return reader.add(call, step, source, axes=MAP, **sizes)


def _large_depthwise(reader: _Reader, call: Call, x: Value, weight: Any, bias: Any) -> bool:
    source = reader.map_of(x)
    if source is None or source.axes != MAP or not isinstance(weight, Tensor):
        return False
    return _add_spatial(reader, call, LargeDepthwise(weight, bias), source)


def _batch_norm(
    reader: _Reader, call: Call, x: Value, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any
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


def _layer_norm(
    reader: _Reader, call: Call, x: Value, shape: Sequence[int], weight: Any, bias: Any, eps: float
) -> bool:
    source = reader.map_of(x)
    if source is None or source.axes[-1] != "C" or len(shape) != 1:
        return False
    if isinstance(weight, Value) or isinstance(bias, Value):
        return False
    return reader.add(call, LayerNorm(weight, bias, eps), source, axes=source.axes)


def _pointwise(make: Callable[..., Any], reader: _Reader, call: Call, x: Value, *args: Any, **kwargs: Any) -> bool:
    """An operation on each number: the step is made of the arguments after the first."""
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
    return Activation(torch.square, lambda g, x: g * x * 2) if exponent == 2 else None


def _elu(alpha: float = 1, scale: float = 1, input_scale: float = 1) -> Activation | None:
    if scale != 1 or input_scale != 1:
        return None
    return Activation(partial(F.elu, alpha=alpha), lambda g, x: _aten.elu_backward(g, alpha, 1, 1, False, x))


def _activation(function: Callable[[Tensor], Tensor], gradient: Callable[..., Tensor], *, half: bool = False) -> Any:
    return partial(_pointwise, lambda: Activation(function, gradient, half=half))


def _binary(operation: str, reader: _Reader, call: Call, x: Any, y: Any, **kwargs: Any) -> bool:
    """A sum, difference, product or quotient of two maps, of a map and a vector, or of a map and numbers."""
    if kwargs.get("alpha", 1) != 1 or kwargs.get("rounding_mode") is not None:
        return False
    for first, second in ((x, y), (y, x)):
        source, vector = reader.map_of(first), reader.vector_of(second)
        if source is not None and vector is not None:
            return operation in ("add", "mul") and reader.gate(call, operation, source, vector)
    one, two = reader.map_of(x), reader.map_of(y)
    if one is not None and two is not None:
        return _two_maps(operation, reader, call, one, two)
    source = one or two
    numbers = None if source is None else _per_channel(reader, source, x if one is None else y)
    if source is None or numbers is None:
        return False
    step = _affine(operation, numbers, swapped=one is None)
    return step is not None and reader.add(call, step, source, axes=source.axes)


def _affine(operation: str, numbers: Tensor, *, swapped: bool) -> Affine | None:
    """A map and numbers, the map first unless swapped."""
    one, zero = torch.ones_like(numbers), torch.zeros_like(numbers)
    if operation == "add":
        return Affine(one, numbers)
    if operation == "sub":
        return Affine(-one, numbers) if swapped else Affine(one, -numbers)
    if operation == "mul":
        return Affine(numbers, zero)
    return None if swapped else Affine(1 / numbers, zero)


def _two_maps(operation: str, reader: _Reader, call: Call, one: _Map, two: _Map) -> bool:
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


def _reversed_sub(reader: _Reader, call: Call, x: Any, y: Any, **kwargs: Any) -> bool:
    return _binary("sub", reader, call, y, x, **kwargs)


def _addcmul(reader: _Reader, call: Call, shift: Any, x: Any, y: Any, *, value: float = 1) -> bool:
    source = reader.map_of(x) or reader.map_of(y)
    scale = y if reader.map_of(x) is not None else x
    if source is None or value != 1:
        return False
    numbers = [_per_channel(reader, source, v) for v in (scale, shift)]
    if numbers[0] is None or numbers[1] is None:
        return False
    scale, shift = torch.broadcast_tensors(numbers[0], numbers[1])
    return reader.add(call, Affine(scale, shift), source, axes=source.axes)


def _reduction(
    kind: str, reader: _Reader, call: Call, x: Value, dims: Sequence[int] | None, keepdim: bool = False, **kwargs: Any
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
    reader: _Reader, call: Call, x: Value, order: float = 2, dims: Any = None, keepdim: bool = False, **kwargs: Any
) -> bool:
    return order == 2 and _reduction("norm", reader, call, x, dims, keepdim, **kwargs)


def _permute(reader: _Reader, call: Call, x: Value, dims: Sequence[int]) -> bool:
    source = reader.map_of(x)
    return source is not None and reader.same(call, source, tuple(source.axes[dim] for dim in dims))


def _transpose(reader: _Reader, call: Call, x: Value, first: int, second: int) -> bool:
    source = reader.map_of(x)
    if source is None:
        return False
    axes = list(source.axes)
    axes[first], axes[second] = axes[second], axes[first]
    return reader.same(call, source, tuple(axes))


def _view(reader: _Reader, call: Call, x: Value, *args: Any, **kwargs: Any) -> bool:
    """Another shape of a map: `call` knows it, whatever it was asked for by."""
    source = reader.map_of(x)
    axes = None if source is None else viewed(source.axes, reader.sizes(source), call.outputs[0].size)
    return source is not None and axes is not None and reader.same(call, source, axes)


def _expand(reader: _Reader, call: Call, x: Value, size: Sequence[int], **kwargs: Any) -> bool:
    source = reader.map_of(x)
    return source is not None and call.outputs[0].size == x.size and reader.same(call, source)


def _mm(reader: _Reader, call: Call, x: Value, matrix: Any) -> bool:
    return _addmm(reader, call, None, x, matrix)


def _addmm(reader: _Reader, call: Call, bias: Any, x: Value, matrix: Any, **kwargs: Any) -> bool:
    source = reader.map_of(x)
    if source is None or len(source.axes) != 2 or source.axes[1] != "C" or isinstance(matrix, Value):
        return False
    if kwargs or not (bias is None or (isinstance(bias, Tensor) and bias.shape == matrix.shape[1:])):
        return False
    weight = matrix.t()
    return reader.add(call, Linear(weight, bias), source, axes=source.axes, C=len(weight))


def _cat(reader: _Reader, call: Call, tensors: Sequence[Any], dim: int = 0) -> bool:
    sources = [reader.map_of(x) for x in tensors]
    found = [x for x in sources if x is not None]
    if len(found) < len(sources) or len({x.axes for x in found}) != 1 or found[0].axes[dim] != "C":
        return False
    sizes = [reader.sizes(x) for x in found]
    if len({(s["N"], s["H"], s["W"]) for s in sizes}) != 1:
        return False
    channels = [s["C"] for s in sizes]
    return reader.add(call, Concatenate(channels), *found, axes=found[0].axes, C=sum(channels))


def _split(reader: _Reader, call: Call, x: Value, sizes: Any, dim: int = 0) -> bool:
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
    reader: _Reader, call: Call, x: Value, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
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


def _pad(reader: _Reader, call: Call, x: Value, padding: Sequence[int], value: float = 0) -> bool:
    source = reader.map_of(x)
    ends = [(padding[i], padding[i + 1]) for i in range(0, len(padding), 2)]  # of the last axis first
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


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _max_pool(
    reader: _Reader,
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
    pairs = [_pair(v) for v in (kernel, stride or kernel, padding, dilation)]
    step = MaxPool(kernel=pairs[0], stride=pairs[1], padding=pairs[2], dilation=pairs[3])
    return _add_spatial(reader, call, step, source)  # with ceil_mode where it makes no difference to the size


def _average_pool(
    reader: _Reader,
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
    pairs = [_pair(v) for v in (kernel, stride or kernel, padding)]
    step = AveragePool(kernel=pairs[0], stride=pairs[1], padding=pairs[2], count_padding=count_padding, divisor=divisor)
    return _add_spatial(reader, call, step, source)


_HANDLERS: dict[str, Callable[..., bool]] = {
    "aten::clone": _identity,
    "aten::detach": _identity,
    "aten::alias": _identity,
    "aten::_to_copy": _identity,
    "aten::convolution": _convolution,
    "replknet::depthwise_conv2d": _large_depthwise,
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
    "aten::mean": partial(_reduction, "mean"),
    "aten::linalg_vector_norm": _norm,
    "aten::permute": _permute,
    "aten::transpose": _transpose,
    "aten::view": _view,
    "aten::_unsafe_view": _view,
    "aten::_reshape_alias": _view,
    "aten::reshape": _view,
    "aten::unsqueeze": _view,
    "aten::squeeze": _view,
    "aten::expand": _expand,
    "aten::mm": _mm,
    "aten::addmm": _addmm,
    "aten::cat": _cat,
    "aten::split": _split,
    "aten::split_with_sizes": _split,
    "aten::slice": _slice,
    "aten::constant_pad_nd": _pad,
    "aten::max_pool2d_with_indices": _max_pool,
    "aten::avg_pool2d": _average_pool,
}


def _needed(nodes: Sequence[Node], last: int) -> list[Node]:
    """The nodes that a value depends on; others come of operations with several outputs."""
    wanted = {last}
    needed = []
    for node in reversed(nodes):
        if node.output in wanted:
            needed.append(node)
            wanted.update(node.inputs)
    return needed[::-1]


def _fold_affine(nodes: Sequence[Node], last: int) -> tuple[list[Node], int]:
    """Let convolutions do the work of the normalisations that alone use their output.

    Returns: The nodes that are left, and the value that is now the feature map.
    """
    uses = Counter(value for node in nodes for value in node.inputs)
    uses[last] += 1
    made_by = {node.output: node.step for node in nodes}
    same_as: dict[int, int] = {}
    kept: list[Node] = []
    for step, inputs, output in nodes:
        inputs = tuple(same_as.get(value, value) for value in inputs)
        before = made_by.get(inputs[0])
        if isinstance(step, Affine) and isinstance(before, (Convolution, Dense)) and uses[inputs[0]] == 1:
            before.fold(step)
            same_as[output] = inputs[0]
            uses[inputs[0]] = uses[output]  # who used the normalised map now uses that of the convolution
        else:
            kept.append(Node(step, inputs, output))
    return kept, same_as.get(last, last)
