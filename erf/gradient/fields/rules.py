"""How PyTorch's functions change the fields of their arguments: a table by function name.

The result of a function that is not in the table has an unknown field; nothing is guessed.
"""

from collections.abc import Callable

from erf.gradient.fields import arranging, mixing, windows
from erf.gradient.fields.calls import Call, pointwise
from erf.gradient.fields.field import Field

__all__ = ["field_of_result"]

Rule = Callable[[Call], Field]


def field_of_result(call: Call) -> Field | None:
    """What the result of a function sees of the image; None if it does not depend on the image."""
    seeing = call.seeing
    if not seeing or call.name in _WITHOUT_DATA:
        return None
    if call.name in _CONVERTING:  # the type may be taken from another tensor, whose numbers do not matter
        return call.field_of(call.source)
    if call.name in _POINTWISE:
        return pointwise(call)
    rule = _RULES.get(call.name)
    if rule is None:
        return call.field.unknown(f"the function {call.name}")
    if rule not in _OF_SEVERAL and (len(seeing) > 1 or seeing[0][0] is not call.source):
        return call.field.unknown(f"the function {call.name} of several tensors")
    return rule(call)


_POINTWISE = frozenset(  # whatever the order of dimensions; dropout of whole channels only multiplies each element
    [
        *("relu", "relu6", "hardtanh", "gelu", "silu", "hardswish", "hardsigmoid", "sigmoid", "tanh", "softplus"),
        *("elu", "leaky_relu", "clamp", "clamp_min", "clamp_max", "clip", "mish", "selu", "celu", "softsign"),
        *("logsigmoid", "threshold", "hardshrink", "softshrink", "tanhshrink", "erf", "log", "log1p", "expm1", "sin"),
        *("cos", "sign", "floor", "ceil", "round", "where", "lerp", "addcdiv", "masked_fill", "nan_to_num"),
        *("dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_dropout"),
        *("feature_alpha_dropout", "add", "iadd", "radd", "sub", "isub", "rsub", "subtract", "mul", "imul", "rmul"),
        *("multiply", "div", "truediv", "itruediv", "rtruediv", "idiv", "divide", "neg", "negative", "positive", "pos"),
        *("exp", "exp2", "sqrt", "rsqrt", "pow", "ipow", "rpow", "square", "abs", "reciprocal", "maximum", "minimum"),
        *("addcmul", "contiguous", "float", "half", "double", "bfloat16", "type", "cpu", "cuda"),
        *("detach", "clone", "requires_grad", "copy", "fill", "eq", "ne"),
        *("lt", "gt", "le", "ge", "logical_and", "logical_or", "logical_not", "invert", "bool", "data"),
    ]
)
_CONVERTING = frozenset(["to", "type_as"])
_WITHOUT_DATA = frozenset(
    [
        *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
        *("new_zeros", "new_ones", "new_empty", "new_full", "new_tensor", "zero"),
    ]
)
_POOLS = [(n, more) for n in (1, 2, 3) for more in ("", "_with_indices")]
_RULES: dict[str, Rule] = {
    **dict.fromkeys(["conv1d", "conv2d", "conv3d"], windows.convolution),
    **dict.fromkeys(["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"], windows.transposed_convolution),
    "depthwise_conv2d": windows.own_convolution,
    **dict.fromkeys([f"{kind}_pool{n}d{more}" for kind in ("max", "avg", "lp") for n, more in _POOLS], windows.pooling),
    **dict.fromkeys(
        [f"adaptive_{kind}_pool{n}d{more}" for kind in ("max", "avg") for n, more in _POOLS], windows.adaptive
    ),
    "unfold": windows.unfolded,
    **dict.fromkeys(["interpolate", "upsample"], windows.interpolated),
    **dict.fromkeys(["pixel_shuffle", "pixel_unshuffle"], windows.shuffled),
    "pad": windows.padded,
    "roll": windows.rolled,
    "repeat_interleave": windows.repeated,
    **dict.fromkeys(["mean", "sum", "amax", "amin", "var", "std", "var_mean", "std_mean"], mixing.reduction),
    **dict.fromkeys(["logsumexp", "max", "min", "prod", *mixing.NORMS], mixing.reduction),
    **dict.fromkeys(["matmul", "rmatmul", "bmm", "mm", "baddbmm"], mixing.product),
    "einsum": mixing.einsum,
    **dict.fromkeys(
        ["scaled_dot_product_attention", "multi_head_attention_forward", "native_multi_head_attention"],
        mixing.attention,
    ),
    **dict.fromkeys(["local_response_norm", "channel_shuffle"], mixing.channels),
    "prelu": mixing.by_channel,
    "group_norm": mixing.group_norm,
    "instance_norm": mixing.instance_norm,
    "batch_norm": mixing.batch_norm,
    **dict.fromkeys(["linear", "layer_norm", "rms_norm"], mixing.last_dimensions),
    **dict.fromkeys(["softmax", "log_softmax", "softmin", "cumsum"], mixing.along(1)),
    "normalize": mixing.along(2, default=1, why=mixing.NORMALISED),
    "permute": arranging.permuted,
    **dict.fromkeys(["transpose", "swapaxes", "t", "T", "mT"], arranging.transposed),
    **dict.fromkeys(["movedim", "moveaxis"], arranging.moved),
    **dict.fromkeys(["view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "view_as"], arranging.reshaped),
    **dict.fromkeys(["expand", "expand_as", "broadcast_to"], arranging.expanded),
    **dict.fromkeys(["repeat", "tile"], arranging.tiled),
    "getitem": arranging.indexed,
    "select": arranging.selected,
    "narrow": arranging.narrowed,
    **dict.fromkeys(["cat", "concat", "concatenate"], arranging.joined),
    "stack": arranging.stacked,
    "unbind": arranging.unbound,
    **dict.fromkeys(["chunk", "split", "tensor_split"], arranging.divided),
    "flip": arranging.flipped,
}
_OF_SEVERAL = frozenset(
    [mixing.product, mixing.einsum, mixing.attention, mixing.reduction, arranging.joined, arranging.stacked]
)
