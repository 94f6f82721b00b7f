"""Each step alone, in float64: its output equals PyTorch's operation, and its gradient finite differences."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck

from erf.gradient.lean.again import DenseActivation
from erf.gradient.lean.handlers.pointwise import HANDLERS, _elu, _gelu, _leaky_relu, _power
from erf.gradient.lean.steps import pointwise as pointwise_steps
from erf.gradient.lean.steps.pointwise import (
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
from erf.gradient.lean.steps.vectors import Gate

C = 6


def numbers(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def activation(name):
    return HANDLERS[f"aten::{name}"].args[0]()


def pointwise():
    """Name, step, channels of the inputs, and the same operation in PyTorch."""
    scale, shift, weight, bias = numbers(C), numbers(C), numbers(8, C, 1, 1), numbers(8)
    grouped = numbers(4, 3, 1, 1)
    yield "affine", Affine(scale, shift), [C], lambda x: x * scale[:, None, None] + shift[:, None, None]
    yield "scalar", Affine(scale[:1], shift[:1]), [C], lambda x: x * scale[0] + shift[0]
    yield "dense", Dense(weight, bias), [C], lambda x: F.conv2d(x, weight, bias)
    yield "linear", Linear(weight[:, :, 0, 0], bias), [C], lambda x: F.conv2d(x, weight, bias)
    yield "dense in groups", Dense(grouped, None, 2), [C], lambda x: F.conv2d(x, grouped, groups=2)
    yield "relu", ReLU(), [C], F.relu
    yield "relu6", Clamp(0, 0.5, at_bounds=False), [C], lambda x: F.hardtanh(x, 0, 0.5)
    yield "clamp", Clamp(-0.5, float("inf"), at_bounds=True), [C], lambda x: x.clamp(min=-0.5)
    yield "gelu", _gelu(), [C], F.gelu
    yield "gelu by tanh", _gelu("tanh"), [C], lambda x: F.gelu(x, approximate="tanh")
    yield (
        "gelu after dense",
        DenseActivation(Dense(weight, bias), _gelu()),
        [C],
        lambda x: F.gelu(F.conv2d(x, weight, bias)),
    )
    yield "leaky relu", _leaky_relu(0.2), [C], lambda x: F.leaky_relu(x, 0.2)
    yield "elu", _elu(0.7), [C], lambda x: F.elu(x, 0.7)
    yield "square", _power(2), [C], torch.square
    for name in ("silu", "hardswish", "hardsigmoid", "mish", "sigmoid", "tanh"):
        yield name, activation(name), [C], getattr(F, name)
    yield "layer norm", LayerNorm(scale, shift, 1e-3), [C], lambda x: _normalised(x, scale, shift)
    yield "layer norm, bare", LayerNorm(None, None, 1e-3), [C], lambda x: _normalised(x, None, None)
    yield "add", Add((C, C)), [C, C], torch.add
    yield "add one channel", Add((C, 1)), [C, 1], torch.add
    yield "subtract", Add((1, C), -1.0), [1, C], torch.sub
    yield "multiply", Multiply((C, C)), [C, C], torch.mul
    yield "multiply by one channel", Multiply((1, C)), [1, C], torch.mul
    yield "channel mean", ChannelMean(C), [C], lambda x: x.mean(1, keepdim=True)
    yield "concatenate", Concatenate([2, 3, 1]), [2, 3, 1], lambda *x: torch.cat(x, 1)
    yield "slice", Slice(C, 1, 4), [C], lambda x: x[:, 1:4]


def _normalised(x, weight, bias):
    return F.layer_norm(x.permute(0, 2, 3, 1), (C,), weight, bias, 1e-3).permute(0, 3, 1, 2)


def spatial():
    """Name, step, and the same operation in PyTorch."""
    weight, bias, deep, large = numbers(4, 3, 3, 2), numbers(4), numbers(C, 1, 3, 3), numbers(C, 1, 13, 5)
    options = dict(stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2)
    yield "convolution", Convolution(weight, bias, **options), lambda x: F.conv2d(x, weight, bias, **options)
    options_deep = dict(stride=(2, 2), padding=(1, 1), dilation=(1, 1), groups=C)
    yield "depthwise", Convolution(deep, None, **options_deep), lambda x: F.conv2d(x, deep, None, **options_deep)
    yield "large depthwise", LargeDepthwise(large, None), lambda x: F.conv2d(x, large, padding=(6, 2), groups=C)
    yield "pad", Pad(((1, 2), (0, 3))), lambda x: F.pad(x, (0, 3, 1, 2))
    pool = dict(kernel=(3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 1))
    yield "max pool", MaxPool(**pool), lambda x: F.max_pool2d(x, (3, 2), (2, 1), (1, 0))
    for inside in (True, False):
        average = dict(kernel=(3, 3), stride=(2, 1), padding=(1, 1), count_padding=inside, divisor=None)
        yield (
            f"average pool, {inside}",
            AveragePool(**average),
            lambda x, inside=inside: F.avg_pool2d(x, 3, (2, 1), 1, False, inside),
        )
    divided = dict(kernel=(2, 2), stride=(2, 2), padding=(0, 0), count_padding=True, divisor=3)
    yield "average pool by three", AveragePool(**divided), lambda x: F.avg_pool2d(x, 2, divisor_override=3)
    yield "global mean", GlobalMean(), lambda x: x.mean((2, 3), keepdim=True)
    yield "global norm", GlobalNorm(), lambda x: torch.linalg.vector_norm(x, dim=(2, 3), keepdim=True)


def as_function(forward, backward):
    """A step as a function that autograd differentiates with the step's own backward pass."""

    class Step(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *inputs):
            y, ctx.kept = forward(*(x.contiguous(memory_format=torch.channels_last) for x in inputs))
            return y.clone()

        @staticmethod
        def backward(ctx, grad):
            return backward(grad.contiguous(memory_format=torch.channels_last), ctx.kept)

    return Step.apply


def check(function, expected, inputs):
    torch.testing.assert_close(function(*inputs), expected(*inputs), rtol=1e-12, atol=1e-12)
    assert gradcheck(function, [x.requires_grad_() for x in inputs])


@pytest.mark.parametrize(("step", "channels", "expected"), [pytest.param(*p[1:], id=p[0]) for p in pointwise()])
def test_pointwise_steps(step, channels, expected):
    def forward(*inputs):
        n, _, height, width = inputs[0].shape
        keep = [torch.empty(n, height, width, c, dtype=dtype).permute(0, 3, 1, 2) for c, dtype in step.keeps(*inputs)]
        return step.forward(*inputs, keep=keep), keep

    check(as_function(forward, step.backward), expected, [numbers(2, c, 3, 4) for c in channels])


@pytest.mark.parametrize(("step", "expected"), [pytest.param(*p[1:], id=p[0]) for p in spatial()])
def test_spatial_steps(step, expected):
    x = numbers(2, C, 7, 8)
    padding = tuple(getattr(geometry, "padding", (0, 0)) for geometry in step.geometry)
    function = as_function(lambda x: step.forward(x, padding), step.backward)
    check(function, expected, [x])
    sizes = tuple(geometry.output_size(n) for geometry, n in zip(step.geometry, x.shape[2:], strict=True))
    assert function(x).shape[2:] == sizes


@pytest.mark.parametrize("shape", [(2, C, 1, 1), (2, 1, 1, 1), (1, C, 1, 1)])
@pytest.mark.parametrize(("operation", "expected"), [("mul", torch.mul), ("add", torch.add), ("sub", torch.sub)])
def test_gates(operation, expected, shape):
    step = Gate(operation)
    check(as_function(step.forward, step.backward), expected, [numbers(2, C, 3, 4), numbers(*shape)])


def test_the_norm_of_nothing_has_no_gradient():
    step = GlobalNorm()
    x = torch.zeros(1, 2, 3, 3)
    y, kept = step.forward(x, ((0, 0), (0, 0)))
    assert not step.backward(torch.ones_like(y), kept).any()


def test_half_precision_is_kept_only_of_float32():
    for dtype, kept in ((torch.float32, torch.float16), (torch.float64, torch.float64)):
        assert _gelu().keeps(torch.zeros(1, 2, 1, 1, dtype=dtype)) == ((2, kept),)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", [1, 8, 13])
def test_signs_take_a_bit_a_number(channels, dtype):
    """The gradient is equal to autograd's, which is zero if the input is 0 or NaN."""
    x, grad = (numbers(1, channels, 5, 3).to(dtype).contiguous(memory_format=torch.channels_last) for _ in range(2))
    x[0, 0, :3, 0] = torch.tensor([0.0, -0.0, float("nan")])
    step = ReLU()
    (kept,) = step.keeps(x)
    assert kept == ((channels + 7) // 8, torch.uint8)
    keep = torch.empty(1, 5, 3, kept.channels, dtype=kept.dtype).permute(0, 3, 1, 2)
    step.forward(x, keep=[keep])
    assert torch.equal(step.backward(grad, [keep])[0], grad * (x > 0))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")
@pytest.mark.parametrize("kind", [Dense, Linear])
@pytest.mark.parametrize("strides", ["every second number", "expanded"])
def test_biases_of_any_strides_are_added_by_onednn(kind, strides, monkeypatch):
    monkeypatch.setattr(pointwise_steps, "ONEDNN_IS_FASTER", True)
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(24, 40, generator=generator)
    bias = torch.randn(48, generator=generator)[::2] if strides != "expanded" else torch.tensor([0.5]).expand(24)
    x = torch.randn(2, 40, 9, 11, generator=generator).contiguous(memory_format=torch.channels_last)
    step = kind(weight if kind is Linear else weight[:, :, None, None], bias)
    with pointwise_steps.as_for_large_images():
        assert pointwise_steps._is_for_onednn(x, step.weight)
        y = step.forward(x, keep=())
    torch.testing.assert_close(y, F.conv2d(x, weight[:, :, None, None], bias), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")
@pytest.mark.parametrize("kind", [Dense, Linear])
def test_products_by_onednn_are_those_of_pytorch(kind, monkeypatch):
    """These products are used only on some processors."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(24, 40, generator=generator)
    bias = torch.randn(24, generator=generator)
    x, grad = (
        torch.randn(2, channels, 9, 11, generator=generator).contiguous(memory_format=torch.channels_last)
        for channels in (40, 24)
    )
    step = kind(weight if kind is Linear else weight[:, :, None, None], bias)
    for on in (True, False):
        monkeypatch.setattr(pointwise_steps, "ONEDNN_IS_FASTER", on)
        monkeypatch.setattr(pointwise_steps, "_FEW", 0)
        assert pointwise_steps._is_for_onednn(x, step.weight) == on
        assert not pointwise_steps._is_for_onednn(x.double(), step.weight)
        assert not pointwise_steps._is_for_onednn(x.contiguous(), step.weight)
        y = step.forward(x, keep=())
        (to_x,) = step.backward(grad, ())
        torch.testing.assert_close(y, F.conv2d(x, weight[:, :, None, None], bias), rtol=1e-5, atol=1e-5)
        expected = torch.einsum("ndhw,dc->nchw", grad, weight)
        torch.testing.assert_close(to_x, expected, rtol=1e-5, atol=1e-5, check_stride=False)
