"""Theoretical receptive field: all input pixels that a unit of a feature map can depend on, whatever the weights.

A network is run once on a tensor without data. Every function it calls on the way is looked up in a short table that
says which units of its input each unit of its output depends on: windows of convolutions and poolings widen the field
(Araujo et al. 2019, doi:10.23915/distill.00021), pointwise functions keep it, global pooling and attention remove its
bound. A function that is not in the table ends the search: the field is then unknown, never guessed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
)
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from erf.gradient.contribution import feature_map

__all__ = ["TheoreticalField", "theoretical_field"]


@dataclass(frozen=True)
class TheoreticalField:
    """What the units of a map see of the image, (down, across) each.

    Attributes:
        side_px: Pixels, borders of the image not considered; None if `reason` is given.
        stride_px: Pixels between the fields of neighbouring units; None as above.
        first_px: First pixel that unit (0, 0) sees, negative where it begins outside of the image; None as above.
        reason: Why there is no size: 'no bound: ...' or 'not known: ...'; None if there is.
    """

    side_px: tuple[int, int] | None
    stride_px: tuple[int, int] | None
    first_px: tuple[int, int] | None
    reason: str | None = None

    def covers(self, unit: tuple[int, int]) -> list[list[int]] | None:
        """First and last pixel down, first and last across, that a unit sees; some may lie outside of the image."""
        if self.side_px is None or self.stride_px is None or self.first_px is None:
            return None
        first = [start + stride * i for start, stride, i in zip(self.first_px, self.stride_px, unit, strict=True)]
        return [[begin, begin + side - 1] for begin, side in zip(first, self.side_px, strict=True)]


def theoretical_field(
    model: nn.Module, size: tuple[int, int], *, layer: str | int = "last", channels: int = 3
) -> TheoreticalField:
    """Theoretical receptive field of a feature map's units.

    Args:
        model: Network in eval mode, any of timm or of one's own; not run on data and not changed.
        size: (height, width) of the image in pixels.
        layer: As for `erf.gradient.contribution.feature_map`.

    Raises: LayerError as `feature_map`.
    """
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True), _Watch():
        weight = next(model.parameters(), torch.empty(0))
        x = torch.empty(1, channels, *size, device=weight.device, dtype=weight.dtype)
        _set_field(x, _Field((1, 1), (0, 0), (0, 0), (2, 3)))
        try:
            field = _field_of(feature_map(model, x, layer=layer))
        except _Unknown as error:
            return TheoreticalField(None, None, None, f"not known: {error}")
        except (DataDependentOutputException, DynamicOutputShapeException):
            return TheoreticalField(None, None, None, "not known: the network's path depends on its data")
    if field is not None and field.unbounded:
        return TheoreticalField(None, None, None, f"no bound: {field.unbounded}")
    if field is None or field.dims is None:
        return TheoreticalField(None, None, None, "not known: the map is no longer laid out as an image")
    side = (field.last[0] - field.first[0] + 1, field.last[1] - field.first[1] + 1)
    return TheoreticalField(side, field.stride, field.first)


# --- fields -------------------------------------------------------------------------------------------------------


class _Unknown(Exception):
    """A function of which nothing is known."""


@dataclass(frozen=True)
class _Field:
    """Unit i of a tensor sees pixels stride * i + first to stride * i + last of the image, along both sides."""

    stride: tuple[int, int]
    first: tuple[int, int]
    last: tuple[int, int]
    dims: tuple[int, int] | None  # which dimensions of the tensor run over height and width; None: they were merged
    unbounded: str = ""  # why there is no bound

    def widened(
        self, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int]
    ) -> "_Field":
        """The field after a window has run over the tensor."""
        first = tuple(f - s * p for f, s, p in zip(self.first, self.stride, padding, strict=True))
        reach = (s * (d * (k - 1) - p) for s, d, k, p in zip(self.stride, dilation, kernel, padding, strict=True))
        last = tuple(end + r for end, r in zip(self.last, reach, strict=True))
        steps = tuple(a * b for a, b in zip(self.stride, stride, strict=True))
        return replace(self, stride=_pair(steps), first=_pair(first), last=_pair(last))


def _pair(value: Any) -> tuple[int, int]:
    """Two whole numbers from one or two, as PyTorch takes them."""
    values = (value, value) if isinstance(value, int) else tuple(value)
    return (int(values[0]), int(values[-1]))


def _field_of(value: Any) -> _Field | None:
    return getattr(value, "_receptive_field", None)


def _set_field(value: Any, field: _Field) -> None:
    for tensor in tree_leaves(value):
        if isinstance(tensor, torch.Tensor):
            tensor._receptive_field = field  # type: ignore[attr-defined]


def _union(fields: Sequence[_Field]) -> _Field:
    """Field of a unit that depends on units of several tensors at the same place."""
    if unbounded := [field for field in fields if field.unbounded]:
        reasons = dict.fromkeys(reason for field in unbounded for reason in field.unbounded.split("; "))
        return replace(unbounded[0], unbounded="; ".join(reasons))
    one = fields[0]
    if any((field.stride, field.dims) != (one.stride, one.dims) for field in fields):
        raise _Unknown("maps of different resolution or layout are combined")
    first = tuple(min(field.first[i] for field in fields) for i in range(2))
    last = tuple(max(field.last[i] for field in fields) for i in range(2))
    return replace(one, first=_pair(first), last=_pair(last))


# --- what functions do --------------------------------------------------------------------------------------------

_POSITION_PRODUCT = "attention, or another product of positions"
Rule = Callable[[_Field, tuple[Any, ...], dict[str, Any], Any], _Field]


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, name: str, default: Any = None) -> Any:
    return args[place] if place < len(args) else kwargs.get(name, default)


def _convolution(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    weight = _argument(args, kwargs, 1, "weight")
    stride, padding, dilation = (
        _argument(args, kwargs, place, name, default)
        for place, name, default in ((3, "stride", 1), (4, "padding", 0), (5, "dilation", 1))
    )
    kernel, dilation = _pair(weight.shape[-2:]), _pair(dilation)
    if padding == "same":
        padding = [d * (k - 1) // 2 for d, k in zip(dilation, kernel, strict=True)]
    return field.widened(kernel, _pair(stride), _pair(0 if padding == "valid" else padding), dilation)


def _own_convolution(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    kernel = _pair(_argument(args, kwargs, 1, "weight").shape[-2:])
    return field.widened(kernel, (1, 1), (kernel[0] // 2, kernel[1] // 2), (1, 1))


def _pooling(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    kernel = _pair(_argument(args, kwargs, 1, "kernel_size"))
    stride = _argument(args, kwargs, 2, "stride") or kernel
    padding = _argument(args, kwargs, 3, "padding", 0)
    return field.widened(kernel, _pair(stride), _pair(padding), _pair(kwargs.get("dilation", 1)))


def _max_pooling(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    return _pooling(field, args, {**kwargs, "dilation": _argument(args, kwargs, 4, "dilation", 1)}, result)


def _padding(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    pad, mode = _argument(args, kwargs, 1, "pad"), _argument(args, kwargs, 2, "mode", "constant")
    if field.dims is None:
        raise _Unknown("padding where positions were merged")
    if mode != "constant":
        raise _Unknown(f"padding of mode {mode}")
    dimensions = args[0].dim()
    before = [pad[2 * (dimensions - 1 - d)] if 2 * (dimensions - 1 - d) < len(pad) else 0 for d in field.dims]
    moved = [s * p for s, p in zip(field.stride, before, strict=True)]
    first, last = ((a - m, b - n) for (a, b), (m, n) in ((field.first, moved), (field.last, moved)))
    return replace(field, first=first, last=last)


def _reduction(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    dims = _argument(args, kwargs, 1, "dim")
    count = args[0].dim()
    reduced = set(range(count)) if dims is None else {d % count for d in ([dims] if isinstance(dims, int) else dims)}
    if field.dims is None or reduced & set(field.dims):
        return replace(field, unbounded="pooling over the whole image")
    keep = _argument(args, kwargs, 2, "keepdim", False)
    return field if keep else replace(field, dims=_pair([d - sum(r < d for r in reduced) for d in field.dims]))


def _adaptive(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    return field if result.shape == args[0].shape else replace(field, unbounded="pooling over the whole image")


def _position_product(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    return replace(field, unbounded=_POSITION_PRODUCT)


def _whole_norm(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    return replace(field, unbounded="normalisation over the whole image")


def _permuted(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    order = args[1] if isinstance(args[1], (tuple, list)) else args[1:]
    order = [d % args[0].dim() for d in order]
    return field if field.dims is None else replace(field, dims=_pair([order.index(d) for d in field.dims]))


def _transposed(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    a, b = (d % args[0].dim() for d in args[1:3])
    swap = {a: b, b: a}
    return field if field.dims is None else replace(field, dims=_pair([swap.get(d, d) for d in field.dims]))


def _reshaped(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    same = field.dims is not None and args[0].dim() == result.dim() and args[0].shape == result.shape
    return field if same else replace(field, dims=None)


def _indexed(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    indices = args[1] if isinstance(args[1], tuple) else (args[1],)
    if field.dims is None or Ellipsis in indices or any(i is None for i in indices):
        raise _Unknown("indexing")
    if any(d < len(indices) and indices[d] != slice(None) for d in field.dims):
        raise _Unknown("indexing of positions")
    dropped = [d for d, index in enumerate(indices) if isinstance(index, int)]
    return replace(field, dims=_pair([d - sum(r < d for r in dropped) for d in field.dims]))


def _first_tensor(value: Any) -> torch.Tensor:
    return next(leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor))


def _parts(place: int) -> Rule:
    """Rule of functions that join or divide tensors along the dimension that is their argument at `place`."""

    def rule(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
        before, after = (_first_tensor(part) for part in (args, result))
        along = _argument(args, kwargs, place, "dim", 0) % before.dim()
        if field.dims is not None and (along in field.dims or before.dim() != after.dim()):
            raise _Unknown("joining or dividing along positions")
        return field

    return rule


def _pointwise_last(field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    """Functions over the last dimension, which then must hold channels."""
    if field.dims is not None and args[0].dim() - 1 in field.dims:
        return replace(field, unbounded=_POSITION_PRODUCT)
    return field


_POINTWISE = (
    *("relu", "relu6", "hardtanh", "gelu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "softplus", "mish"),
    *("elu", "leaky_relu", "prelu", "clamp", "clamp_min", "dropout", "feature_dropout", "batch_norm"),
    *("add", "iadd", "sub", "isub", "rsub", "mul", "imul", "div", "truediv", "neg", "exp", "sqrt", "rsqrt", "pow"),
    *("square", "abs", "reciprocal", "maximum", "minimum", "addcmul", "contiguous"),
    *("to", "float", "type", "type_as", "detach", "clone", "requires_grad"),
)
_RULES: dict[str, Rule] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _own_convolution,
    "max_pool2d": _max_pooling,
    "avg_pool2d": _pooling,
    "pad": _padding,
    **dict.fromkeys(["mean", "sum", "amax", "amin", "var", "std", "norm", "var_mean", "logsumexp"], _reduction),
    **dict.fromkeys(["adaptive_avg_pool2d", "adaptive_max_pool2d"], _adaptive),
    **dict.fromkeys(
        ["scaled_dot_product_attention", "matmul", "bmm", "einsum", "multi_head_attention_forward", "baddbmm"],
        _position_product,
    ),
    **dict.fromkeys(["group_norm", "instance_norm"], _whole_norm),
    **dict.fromkeys(["linear", "layer_norm", "rms_norm", "softmax", "normalize"], _pointwise_last),
    "permute": _permuted,
    **dict.fromkeys(["transpose", "swapaxes"], _transposed),
    **dict.fromkeys(["view", "reshape", "flatten", "unflatten", "expand", "squeeze", "unsqueeze", "roll"], _reshaped),
    "getitem": _indexed,
    **dict.fromkeys(["cat", "concat", "stack", "unbind"], _parts(1)),
    **dict.fromkeys(["chunk", "split"], _parts(2)),
}


class _Watch(TorchFunctionMode):
    """Follows fields through every function of PyTorch that is called."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not any(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(result)):
            return result
        fields = [field for leaf in tree_leaves((args, kwargs)) if (field := _field_of(leaf)) is not None]
        if not fields:
            return result
        name = getattr(func, "__name__", str(func)).strip("_")  # in place or not, operator or method
        _set_field(result, _apply(name, _union(fields), args, kwargs, result))
        return result


def _apply(name: str, field: _Field, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> _Field:
    if field.unbounded:
        if _RULES.get(name) is not _position_product or _POSITION_PRODUCT in field.unbounded:
            return field
        return replace(field, unbounded=f"{field.unbounded}; {_POSITION_PRODUCT}")  # a network may have both
    if name in _RULES:
        return _RULES[name](field, args, kwargs, result)
    if name in _POINTWISE:
        return field
    raise _Unknown(f"the function {name}")
