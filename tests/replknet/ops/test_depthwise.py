"""The depthwise convolution against a slow reference: values, gradients, layouts, messages, and PyTorch's compilers."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from replknet.ops import DepthwiseConv2d, depthwise_conv2d, depthwise_conv2d_reference
from replknet.ops.cpu import direct, tables
from replknet.ops.cpu import forms as cpu
from replknet.ops.layout import as_format

# Inputs are unit normal and filters normal with deviation 1 / sqrt(taps), so answers have deviation about 1. float32
# carries 6e-8 of relative error through sums of up to 2601 taps in any order; a Fourier transform spreads the error of
# the largest value over all. The 16-bit types are accumulated in float32 and rounded once: half a unit in their last
# place, 2^-9 and 2^-12 relative, plus what the order of the float32 sums leaves.
TOLERANCE = {
    torch.float64: {"rtol": 1e-11, "atol": 1e-11},
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.bfloat16: {"rtol": 8e-3, "atol": 1e-3},
    torch.float16: {"rtol": 1e-3, "atol": 1e-3},
}
BATCHES, CHANNELS, SIDES, KERNELS = (1, 3), (1, 5, 64), (7, 32, 33, 130), (3, 5, 7, 13, 27, 29, 31, 51)
OP = torch.ops.replknet.depthwise_conv2d
OP_INPUT_GRAD = torch.ops.replknet.depthwise_conv2d_input_grad
OP_WEIGHT_GRAD = torch.ops.replknet.depthwise_conv2d_weight_grad


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20220313)


def make(generator, n, c, h, w, kh, kw, dtype=torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Input, filters and bias of one case."""
    x = torch.randn(n, c, h, w, generator=generator, dtype=torch.float64)
    weight = torch.randn(c, 1, kh, kw, generator=generator, dtype=torch.float64) / (kh * kw) ** 0.5
    bias = torch.randn(c, generator=generator, dtype=torch.float64)
    return x.to(dtype), weight.to(dtype), bias.to(dtype)


def weight_grad_reference(x: Tensor, grad: Tensor, kh: int, kw: int) -> Tensor:
    """Gradient of the filters by definition, in float64: (C, 1, kh, kw)."""
    h, w = x.shape[2:]
    padded = F.pad(x.double(), [kw // 2] * 2 + [kh // 2] * 2)
    rows = [torch.einsum("nchjw,nchw->cj", padded[:, :, i : i + h].unfold(3, w, 1), grad.double()) for i in range(kh)]
    return torch.stack(rows, 1)[:, None]


def some_channels(c: int) -> list[int]:
    """The channels that are compared: the slow reference would take minutes for all 64, and channels do not mix."""
    return sorted({0, c // 2, c - 1})


# ---------------------------------------------------------------- values


def test_reference_is_the_convolution_of_pytorch(generator):
    x, weight, bias = make(generator, 2, 3, 9, 11, 5, 7)
    expected = F.conv2d(x, weight, bias, padding="same", groups=3)
    torch.testing.assert_close(depthwise_conv2d_reference(x, weight, bias), expected, rtol=1e-13, atol=1e-13)


def test_impulse_shows_the_filter_turned(generator):
    """The output for a single 1 in the middle of a map is exactly the filter turned by 180 degrees."""
    _, weight, _ = make(generator, 1, 4, 1, 1, 31, 31, torch.float32)
    x = torch.zeros(1, 4, 61, 61)
    x[:, :, 30, 30] = 1
    y = depthwise_conv2d(x, weight)
    torch.testing.assert_close(y[0, :, 15:46, 15:46], weight[:, 0].flip(1, 2), **TOLERANCE[torch.float32])


@pytest.mark.parametrize("k", KERNELS)
@pytest.mark.parametrize("side", SIDES)
def test_forward_and_gradients_over_the_grid(generator, side, k):
    for n in BATCHES:
        for c in CHANNELS:
            if side == 130 and ((n, c) not in {(1, 5), (3, 1), (1, 64)} or (c == 64 and k not in (13, 31))):
                continue  # the slow twin takes a second each; every form of the table is met by what remains
            check_both_formats(generator, n, c, side, k)


def check_both_formats(generator, n, c, side, k) -> None:
    """Compare output and gradients in both memory formats with the slow reference, which is computed once."""
    x, weight, bias = make(generator, n, c, side, side, k, k, torch.float32)
    grad = torch.randn(x.shape, generator=generator)
    pick = some_channels(c)
    x64, w64, b64, g64 = (t.double() for t in (x[:, pick], weight[pick], bias[pick], grad[:, pick]))
    scale = side * n**0.5  # a sum of n * side^2 products of unit normals
    expected = {
        "answer": depthwise_conv2d_reference(x64, w64, b64),
        "x": depthwise_conv2d_reference(g64, w64.flip(2, 3)),
        "weight": weight_grad_reference(x64, g64, k, k) / scale,
        "bias": g64.sum((0, 2, 3)) / scale,
    }
    for memory_format in (torch.contiguous_format, torch.channels_last):
        inputs = [t.clone(memory_format=f).requires_grad_() for t, f in (
            (x, memory_format), (weight, torch.preserve_format), (bias, torch.preserve_format))]  # fmt: skip
        y = depthwise_conv2d(*inputs)
        y.backward(grad.to(memory_format=memory_format))
        found = {
            "answer": y.detach()[:, pick],
            "x": inputs[0].grad[:, pick],
            "weight": inputs[1].grad[pick] / scale,
            "bias": inputs[2].grad[pick] / scale,
        }
        for what, actual in found.items():
            said = f"{what}, n={n} c={c} side={side} k={k} {memory_format}"
            torch.testing.assert_close(
                actual.double(),
                expected[what],
                **TOLERANCE[torch.float32],
                check_stride=False,
                msg=lambda m, said=said: f"{said}: {m}",
            )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("h", "w", "kh", "kw"), [(33, 20, 51, 5), (20, 33, 5, 51), (9, 40, 13, 29), (56, 57, 31, 31)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_dtypes_and_rectangular_kernels(generator, dtype, h, w, kh, kw, memory_format):
    x, weight, bias = make(generator, 2, 6, h, w, kh, kw, dtype)
    x = x.to(memory_format=memory_format)
    y = depthwise_conv2d(x, weight, bias)
    expected = depthwise_conv2d_reference(x.double(), weight.double(), bias.double()).to(dtype)
    torch.testing.assert_close(y, expected, **TOLERANCE[dtype])
    grad = torch.randn(x.shape, generator=generator, dtype=torch.float64).to(dtype)
    actual = OP_WEIGHT_GRAD(x, grad, kh, kw)
    scale = (2 * h * w) ** 0.5
    expected = (weight_grad_reference(x, grad, kh, kw) / scale).to(dtype)
    torch.testing.assert_close((actual.double() / scale).to(dtype), expected, **TOLERANCE[dtype])


def test_training_shapes(generator):
    """Small networks in training: maps much and slightly smaller than the kernel, complete blocks and remainders."""
    shapes = [(32, 8, 24, 31), (32, 8, 12, 29), (64, 16, 6, 27), (64, 32, 3, 13)]
    shapes += [(32, 5, 16, 31), (16, 5, 20, 29)]
    shapes += [(3, 24, 7, 29), (1, 130, 14, 31), (5, 24, 14, 29), (2, 600, 7, 13), (1, 48, 16, 29)]
    for n, c, side, k in shapes:
        x, weight, _ = make(generator, n, c, side, side, k, k, torch.float32)
        grad = torch.randn(x.shape, generator=generator)
        ends = [0, 1, c - 1]
        for memory_format in (torch.contiguous_format, torch.channels_last):
            xf, gf = x.to(memory_format=memory_format), grad.to(memory_format=memory_format)
            expected = depthwise_conv2d_reference(x[:, ends].double(), weight[ends].double())
            torch.testing.assert_close(
                depthwise_conv2d(xf, weight)[:, ends].double(), expected, **TOLERANCE[torch.float32], check_stride=False
            )
            scale = side * n**0.5
            whole = OP_WEIGHT_GRAD(xf, gf, k, k)
            assert whole.is_contiguous()
            actual = whole[ends].double() / scale
            expected = weight_grad_reference(x[:, ends], grad[:, ends], k, k) / scale
            torch.testing.assert_close(actual, expected, **TOLERANCE[torch.float32])


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize(("h", "w", "kh", "kw"), [(12, 17, 29, 31), (20, 19, 31, 29), (7, 5, 3, 13)])
@pytest.mark.parametrize("form", ["toeplitz", "fft"])
def test_forms_that_one_processor_takes_are_right_on_every_one(generator, form, h, w, kh, kw, memory_format):
    """The tables choose these forms for training batches on processors with short vectors; they are tested on all."""
    x, weight, bias = make(generator, 16, 6, h, w, kh, kw, torch.float32)
    x = x.to(memory_format=memory_format)
    expected = depthwise_conv2d_reference(x.double(), weight.double(), bias.double())
    y = cpu._FORWARD[form](x, weight, bias)
    assert y.stride() == x.stride()
    torch.testing.assert_close(y.double(), expected, **TOLERANCE[torch.float32])
    grad = torch.randn(x.shape, generator=generator).to(memory_format=memory_format)
    scale = (16 * h * w) ** 0.5
    taps = cpu._WEIGHT_GRAD[form](x, grad, kh, kw) / scale
    torch.testing.assert_close(
        taps.double(), weight_grad_reference(x, grad, kh, kw) / scale, **TOLERANCE[torch.float32]
    )


def test_rows_of_a_capability_serve_no_other_processor(monkeypatch):
    shape = (64, 32, 32, 32)
    forms = {}
    for capability in ("AVX2", "AVX512"):
        for compiled in (False, True):
            monkeypatch.setattr(tables, "CAPABILITY", capability)
            monkeypatch.setattr(tables.direct, "ready", lambda compiled=compiled: compiled)
            choose = tables.select_form.__wrapped__  # without its cache
            forms[capability, compiled] = choose("forward", torch.float32, torch.channels_last, shape, 31, 31)
    assert forms == {
        ("AVX2", False): "fft",
        ("AVX2", True): "direct",
        ("AVX512", False): "stock",
        ("AVX512", True): "direct",
    }


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("h", "w", "kh", "kw"), [(3, 3, 13, 13), (20, 5, 5, 13), (10, 20, 51, 5)])
def test_padding_longer_than_the_map_is_cropped(generator, dtype, h, w, kh, kw):
    """PyTorch's contiguous kernel is hundreds of times slower there; taps that meet only padding are left out."""
    x, weight, bias = make(generator, 2, 32, h, w, kh, kw, dtype)
    widened = dtype in tables.WIDENED
    form = cpu.select("forward", x, kh, kw)
    assert form == ("float32" if widened else "cropped") or (form == "direct" and direct.ready())  # it skips such taps
    expected = depthwise_conv2d_reference(x.double(), weight.double(), bias.double()).to(dtype)
    torch.testing.assert_close(depthwise_conv2d(x, weight, bias), expected, **TOLERANCE[dtype])


def test_frozen_filters_where_pytorch_is_fastest_leave_the_gradient_to_it(generator):
    """With frozen filters, the operator adds no overhead where PyTorch's own kernels are chosen."""
    x, weight, _ = make(generator, 1, 64, 32, 32, 3, 3, torch.float32)
    x.requires_grad_()
    y = depthwise_conv2d(x, weight)
    assert "Convolution" in type(y.grad_fn).__name__
    weight.requires_grad_()
    assert "Convolution" not in type(depthwise_conv2d(x, weight).grad_fn).__name__
    expected = depthwise_conv2d_reference(x.detach().double(), weight.detach().double())
    torch.testing.assert_close(y.detach().double(), expected, **TOLERANCE[torch.float32])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("channels", [4, 16, 48])
def test_bfloat16_with_few_channels_returns(generator, channels):
    """oneDNN 3.13 never returns for these shapes with up to 16 channels; they are computed in another way."""
    x, weight, _ = make(generator, 1, channels, 20, 33, 5, 17, torch.bfloat16)
    y = depthwise_conv2d(x.to(memory_format=torch.channels_last), weight)
    expected = depthwise_conv2d_reference(x, weight)
    torch.testing.assert_close(y, expected, **TOLERANCE[torch.bfloat16], check_stride=False)


def test_empty_batch():
    x, weight = torch.zeros(0, 3, 5, 5, requires_grad=True), torch.zeros(3, 1, 7, 7, requires_grad=True)
    y = depthwise_conv2d(x, weight)
    assert y.shape == (0, 3, 5, 5)
    y.sum().backward()
    torch.testing.assert_close(weight.grad, torch.zeros(3, 1, 7, 7))


# ---------------------------------------------------------------- gradients


@pytest.mark.parametrize(("h", "w", "kh", "kw"), [(4, 5, 3, 5), (3, 4, 7, 5)])
def test_first_and_second_gradients(generator, h, w, kh, kw):
    inputs = tuple(t.requires_grad_() for t in make(generator, 2, 2, h, w, kh, kw))
    assert torch.autograd.gradcheck(OP, inputs)
    assert torch.autograd.gradgradcheck(OP, inputs)
    x, weight, bias = inputs
    assert torch.autograd.gradcheck(depthwise_conv2d_reference, inputs)
    assert torch.autograd.gradcheck(depthwise_conv2d, (x, weight, bias))


def test_frozen_filters_keep_no_activation(generator):
    """With frozen filters, the input is not kept for the backward pass: receptive fields need no activations."""
    x, weight, _ = make(generator, 1, 3, 40, 40, 31, 31, torch.float32)
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape) or t, lambda t: t):
        OP(x.requires_grad_(), weight, None)
    assert kept == [weight.shape]


# ---------------------------------------------------------------- layouts


@pytest.mark.parametrize("k", [3, 13, 31])
def test_output_keeps_the_format_and_the_fake_agrees(generator, k):
    x, weight, _ = make(generator, 2, 24, 30, 31, k, k, torch.float32)
    wide = torch.randn(2, 24, 30, 62, generator=generator)[..., ::2]
    last = x.to(memory_format=torch.channels_last)
    for value in (x, last, wide, last[:, 4:20], x[:, 4:20], x.transpose(2, 3)):
        filters = weight[: value.shape[1]]
        y = OP(value, filters, None)
        fake = OP(value.to("meta"), filters.to("meta"), None)
        want = torch.contiguous_format if value.stride(1) != 1 else torch.channels_last
        assert y.is_contiguous(memory_format=want)
        planned = torch.empty_strided(value.shape, value.stride(), device="meta")
        assert OP(planned, filters.to("meta"), None).stride() == y.stride()
        assert fake.shape == y.shape
        torch.testing.assert_close(y, OP(value.contiguous(), filters, None), **TOLERANCE[torch.float32])


def test_image_permuted_to_a_batch_of_one_is_channels_last(generator):
    """`permute(2, 0, 1)[None]` has an unusual batch stride, for which PyTorch's own convolution is slow."""
    image = torch.randn(40, 41, 16, generator=generator)
    x = image.permute(2, 0, 1)[None]
    weight = torch.randn(16, 1, 31, 31, generator=generator) / 31
    assert as_format(x, torch.channels_last).stride() == (40 * 41 * 16, 1, 41 * 16, 16)
    y = depthwise_conv2d(x, weight)
    assert y.is_contiguous(memory_format=torch.channels_last)
    expected = depthwise_conv2d_reference(x.double(), weight.double())
    torch.testing.assert_close(y.double(), expected, **TOLERANCE[torch.float32])


def test_caller_keeps_its_tensors(generator):
    for case in ((1, 4, 40, 40, 31, 31), (16, 4, 7, 7, 13, 13)):
        x, weight, bias = make(generator, *case, torch.float32)
        copies = [t.clone() for t in (x, weight, bias)]
        depthwise_conv2d(x, weight, bias)
        OP_WEIGHT_GRAD(x, x, *case[4:])
        for tensor, copy in zip((x, weight, bias), copies, strict=True):
            assert torch.equal(tensor, copy)


# ---------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("x", "weight", "bias", "message"),
    [
        (torch.zeros(3, 8, 8), torch.zeros(3, 1, 3, 3), None, r"x has shape \(3, 8, 8\).*x\[None\]"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.int32), torch.zeros(3, 1, 3, 3), None, "x has dtype torch.int32"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(4, 1, 3, 3), None, r"weight has shape \(4, 1, 3, 3\).*\(3, 1, kh, kw\)"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(3, 3, 3, 3), None, r"weight has shape \(3, 3, 3, 3\)"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(3, 1, 3), None, r"weight has shape \(3, 1, 3\)"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(3, 1, 4, 3), None, "the kernel is 4×3; both sides must be odd"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(3, 1, 3, 65), None, "the kernel is 3×65; .*between 1 and 63"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(3, 1, 3, 3), torch.zeros(4), r"bias has shape \(4,\).*\(3,\)"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(3, 1, 3, 3).double(), None, "weight has dtype torch.float64 but x"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(3, 1, 3, 3), torch.zeros(3).half(), "bias has dtype torch.float16"),
        (torch.zeros(1, 3, 8, 8, device="meta"), torch.zeros(3, 1, 3, 3), None, "weight is on cpu but x is on meta"),
    ],
)
def test_messages(x, weight, bias, message):
    with pytest.raises(ValueError, match=message):
        depthwise_conv2d(x, weight, bias)
    with pytest.raises(ValueError, match=message):
        depthwise_conv2d_reference(x, weight, bias)


def test_messages_of_the_weight_gradient_and_the_module():
    x = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"x has shape \(1, 3, 8, 8\) and grad \(1, 3, 8, 7\)"):
        OP_WEIGHT_GRAD(x, x[..., :7], 3, 3)
    with pytest.raises(ValueError, match=r"x has dtype torch.float32 and grad torch.float16"):
        OP_WEIGHT_GRAD(x, x.half(), 3, 3)
    with pytest.raises(ValueError, match="the kernel is 2×3"):
        OP_WEIGHT_GRAD(x, x, 2, 3)
    with pytest.raises(ValueError, match="the kernel is 8×8"):
        DepthwiseConv2d(3, 8)


# ---------------------------------------------------------------- module


def test_module_is_a_drop_in(generator):
    ours = DepthwiseConv2d(6, (31, 5))
    theirs = nn.Conv2d(6, 6, (31, 5), padding=(15, 2), groups=6)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert isinstance(ours, nn.Conv2d)
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        assert getattr(ours, name) == getattr(theirs, name)
    x = torch.randn(2, 6, 40, 40, generator=generator)
    torch.testing.assert_close(ours(x), theirs(x), **TOLERANCE[torch.float32])
    assert DepthwiseConv2d(6, 31, bias=False).bias is None
    assert DepthwiseConv2d(6, 31, device="meta", dtype=torch.bfloat16).weight.dtype == torch.bfloat16


class Net(nn.Module):
    """A network with a depthwise layer among others."""

    def __init__(self) -> None:
        super().__init__()
        self.dw = DepthwiseConv2d(8, 31)
        self.pw = nn.Conv2d(8, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pw(self.dw(x).relu())


def check_trains(net: nn.Module, twin: nn.Module, x: Tensor) -> None:
    """Check that a transformed network has the same output and gradients as the plain one."""
    y, expected = net(x), twin(x)
    torch.testing.assert_close(y, expected, **TOLERANCE[torch.float32])
    (y**2).sum().backward()
    (expected**2).sum().backward()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-3)


@pytest.fixture
def nets() -> tuple[Net, Net]:
    torch.manual_seed(7)
    net, twin = Net(), Net()
    twin.load_state_dict(net.state_dict())
    return net, twin


# PyTorch's own, raised by the annotations in nn.Conv2d.__init__ and by torch.jit being deprecated
quiet_script = pytest.mark.filterwarnings(
    "ignore:The TorchScript type system doesn't support instance-level annotations:UserWarning",
    "ignore:.*torch.jit.*is deprecated",
)


@quiet_script
def test_fx_then_script(nets, generator):
    net, twin = nets
    x = torch.randn(2, 8, 20, 20, generator=generator)
    traced = torch.fx.symbolic_trace(net)
    check_trains(traced, twin, x)
    twin.zero_grad()
    net.zero_grad()
    check_trains(torch.jit.script(traced), twin, x)


@quiet_script
def test_script_and_trace(nets, generator):
    net, twin = nets
    x = torch.randn(2, 8, 20, 20, generator=generator)
    check_trains(torch.jit.script(net), twin, x)
    twin.zero_grad()
    net.zero_grad()
    check_trains(torch.jit.trace(net, x), twin, x)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_compile_without_a_graph_break(nets, generator, backend, memory_format):
    net, twin = nets
    x = torch.randn(2, 8, 20, 20, generator=generator).to(memory_format=memory_format)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend=backend, fullgraph=True)
    check_trains(compiled, twin, x)


def test_export(nets, generator):
    net, _ = nets
    x = torch.randn(2, 8, 20, 20, generator=generator)
    program = torch.export.export(net, (x,))
    assert any(node.target is OP.default for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x), net(x), **TOLERANCE[torch.float32])


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # opcheck's own
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
def test_opcheck(generator, memory_format):
    for dtype in (torch.float32, torch.bfloat16):
        x, weight, bias = make(generator, 2, 4, 12, 11, 7, 5, dtype)
        x = x.to(memory_format=memory_format)
        needs = [t.clone().requires_grad_() for t in (x, weight, bias)]
        for arguments in ((x, weight, bias), (x, weight, None), tuple(needs)):
            torch.library.opcheck(OP.default, arguments)
        torch.library.opcheck(OP_INPUT_GRAD.default, (x, weight))
        torch.library.opcheck(OP_INPUT_GRAD.default, tuple(needs[:2]))
        torch.library.opcheck(OP_WEIGHT_GRAD.default, (x, x.clone(), 7, 5))
        torch.library.opcheck(OP_WEIGHT_GRAD.default, (needs[0], x.clone().requires_grad_(), 7, 5))


def test_autocast(generator):
    x, weight, bias = make(generator, 1, 4, 20, 20, 13, 13, torch.float32)
    weight.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = OP(x, weight, bias)
        assert depthwise_conv2d(x[..., :3, :3], weight, bias).dtype == torch.bfloat16
    assert y.dtype == torch.bfloat16
    expected = depthwise_conv2d_reference(x.bfloat16(), weight.detach().bfloat16(), bias.bfloat16())
    torch.testing.assert_close(y.detach(), expected, **TOLERANCE[torch.bfloat16])
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert OP(x.double(), weight.double(), None).dtype == torch.float64


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_flops_are_counted_as_for_a_stock_convolution(device):
    ours, theirs = DepthwiseConv2d(4, 31, device=device), nn.Conv2d(4, 4, 31, padding=15, groups=4, device=device)
    x = torch.zeros(2, 4, 20, 20, device=device, requires_grad=True)
    nominal = 2 * x.numel() * 31 * 31
    for net in (ours, theirs):
        with FlopCounterMode(display=False) as counter:
            y = net(x)
        assert counter.get_total_flops() == nominal
        with FlopCounterMode(display=False) as counter:
            y.sum().backward()
        if net is ours:  # PyTorch's formula for the backward of a grouped convolution counts other work
            assert counter.get_total_flops() == 2 * nominal


FRESH = """
import sys, torch, timm
before = set(sys.modules)
import replknet.ops as ops
new = set(sys.modules) - before
print("loaded", *{name.split(".")[0] for name in new} & {"triton", "cuda", "matplotlib"})
print("started", "replknet.ops.cuda.triton_kernels" in new or torch.cuda.is_initialized())
from torch.utils.flop_counter import FlopCounterMode
counter = FlopCounterMode(display=False)
layer = ops.DepthwiseConv2d(4, 31, device="meta")
with counter:
    layer(torch.zeros(1, 4, 20, 20, device="meta"))
print("flops", counter.get_total_flops())
"""


@pytest.fixture(scope="module")
def fresh() -> dict[str, str]:
    """Output of a process that imports the operator after PyTorch and timm, and nothing else."""
    done = subprocess.run([sys.executable, "-c", FRESH], check=True, capture_output=True, encoding="utf-8")
    return {key: value for key, _, value in (line.partition(" ") for line in done.stdout.splitlines())}


def test_flops_of_a_counter_made_before_the_first_import(fresh):
    """A counter copies the table of formulas when it is created; our formulas still reach it."""
    assert int(fresh["flops"]) == 2 * 4 * 400 * 961


def test_import_starts_nothing(fresh):
    """Importing the operator loads neither Triton nor CUDA, beyond what torch and timm load themselves."""
    assert (fresh["loaded"], fresh["started"]) == ("", "False")
