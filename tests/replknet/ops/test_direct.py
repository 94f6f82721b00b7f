"""The compiled CPU kernels: values against float64, threads, and cases in which they are not used."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from replknet.ops import depthwise_conv2d
from replknet.ops.cpu import direct, tables

pytest.importorskip("llvmlite")

# Rounding of float32 sums of up to 961 products of unit normals over the root of their number
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(20220313)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Enable the kernels, whatever the environment says."""
    monkeypatch.delenv(direct.SWITCH, raising=False)


def expected_of(x: Tensor, grad: Tensor, weight: Tensor, bias: Tensor) -> list[Tensor]:
    """Output, gradient of the input and gradient of the filters, by PyTorch in float64."""
    x, grad, weight, bias = (t.double() for t in (x, grad, weight, bias))
    padding = [weight.shape[2] // 2, weight.shape[3] // 2]
    groups = x.shape[1]
    y = F.conv2d(x, weight, bias, padding=padding, groups=groups)
    gradients = torch.ops.aten.convolution_backward(
        grad, x, weight, None, [1, 1], padding, [1, 1], False, [0, 0], groups, [True, True, False]
    )
    return [y, gradients[0], gradients[1]]


SHAPES = [
    (2, 13, 20, 33, 31, 31),  # a rest of channels, an odd number of rows
    (1, 8, 7, 7, 27, 27),  # most taps meet padding
    (3, 16, 14, 5, 5, 51),
    (1, 9, 1, 1, 3, 3),
    (2, 24, 40, 41, 13, 29),  # more rows than one band of the gradient to the filters
    (1, 8, 3, 17, 1, 7),
]


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "sliced", "turned"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values(generator, shape, layout):
    n, c, h, w, kh, kw = shape

    def maps() -> Tensor:
        if layout == "sliced":  # every other column of a part of the channels
            return torch.randn(n, c + 3, h, 2 * w, generator=generator)[:, 2:-1, :, ::2]
        if layout == "turned":
            return torch.randn(n, c, w, h, generator=generator).transpose(2, 3)
        made = torch.randn(n, c, h, w, generator=generator)
        return made.contiguous(memory_format=torch.channels_last) if layout == "nhwc" else made

    x, grad = maps(), maps()
    weight = (torch.randn(c, 1, kw, kh, generator=generator) / (kh * kw) ** 0.5).transpose(2, 3)
    bias = torch.randn(2 * c, generator=generator)[::2]
    y, to_x, to_weight = expected_of(x, grad, weight, bias)
    found = direct.forward(x, weight, bias)
    assert found.is_contiguous(memory_format=torch.channels_last if layout == "nhwc" else torch.contiguous_format)
    torch.testing.assert_close(found.double(), y, **TOLERANCE)
    torch.testing.assert_close(direct.input_grad(grad, weight).double(), to_x, **TOLERANCE)
    scale = (n * h * w) ** 0.5
    found = direct.weight_grad(x, grad, kh, kw)
    torch.testing.assert_close(found.double() / scale, to_weight / scale, **TOLERANCE)


def test_number_of_threads_changes_no_bit(generator):
    x, weight = torch.randn(3, 37, 20, 21, generator=generator), torch.randn(37, 1, 9, 11, generator=generator)
    threads = torch.get_num_threads()
    try:
        found = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append([direct.forward(x, weight, None), direct.weight_grad(x, x, 9, 11)])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_a_negative_view_is_read_with_its_sign(generator):
    """PyTorch marks such a view instead of negating it; a kernel that reads memory must respect the mark."""
    x = torch.view_as_complex(torch.randn(1, 8, 9, 9, 2, generator=generator)).conj().imag
    assert x.is_neg()
    weight = torch.randn(8, 1, 3, 3, generator=generator)
    expected = F.conv2d(x, weight, padding=1, groups=8)
    torch.testing.assert_close(direct.forward(x, weight, None), expected, **TOLERANCE)


@pytest.mark.skipif(
    tables.CAPABILITY not in ("AVX2", "AVX512"), reason="the tables take the kernels with AVX2 and AVX-512 alone"
)
def test_operator_uses_them_under_autograd(generator):
    x = torch.randn(1, 16, 40, 40, generator=generator).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(16, 1, 31, 31, generator=generator) / 31, torch.randn(16, generator=generator)
    assert {tables.select(purpose, x, 31, 31) for purpose in ("forward", "input_grad", "weight_grad")} == {"direct"}
    grad = torch.randn(x.shape, generator=generator).contiguous(memory_format=torch.channels_last)
    needs = [t.clone().requires_grad_() for t in (x, weight, bias)]
    y = depthwise_conv2d(*needs)
    y.backward(grad)
    expected = expected_of(x, grad, weight, bias)
    for found, right, scale in zip((y.detach(), needs[0].grad, needs[1].grad), expected, (1, 1, 40), strict=True):
        torch.testing.assert_close(found.double() / scale, right / scale, **TOLERANCE)


def test_switch_and_missing_library_leave_them_out(monkeypatch):
    assert direct.ready.__wrapped__()
    monkeypatch.setenv(direct.SWITCH, "0")
    assert not direct.ready.__wrapped__()
    monkeypatch.delenv(direct.SWITCH)
    monkeypatch.setattr(direct.importlib.util, "find_spec", lambda name: None)
    assert not direct.ready.__wrapped__()


def test_wrong_kernels_are_left_out_with_a_warning(monkeypatch, caplog):
    def off_by_one(kernels, x, weight, bias, *, turned):
        return right(kernels, x, weight, bias, turned=turned).roll(1, 3)

    right = direct._convolve
    monkeypatch.setattr(direct, "_convolve", off_by_one)
    assert not direct.ready.__wrapped__()
    assert "left out: they differ from float64" in caplog.text


def test_what_cannot_be_compiled_is_left_out_with_a_warning(monkeypatch, caplog):
    def fails():
        raise RuntimeError("no such instruction")

    monkeypatch.setattr(direct, "_compile", fails)
    assert not direct.ready.__wrapped__()
    assert "left out: no such instruction" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_the_default_type_of_pytorch_makes_no_difference(dtype: torch.dtype, generator: torch.Generator) -> None:
    x, weight = torch.randn(1, 64, 40, 40, generator=generator), torch.randn(64, 1, 31, 31, generator=generator)
    expected = F.conv2d(x.double(), weight.double(), padding=15, groups=64)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        direct.ready.cache_clear()
        found = depthwise_conv2d(x, weight)
    finally:
        torch.set_default_dtype(before)
    assert (found.double() - expected).norm() < 1e-5 * expected.norm()


def test_the_default_device_of_pytorch_makes_no_difference(generator: torch.Generator) -> None:
    x, weight = torch.randn(1, 64, 40, 40, generator=generator), torch.randn(64, 1, 31, 31, generator=generator)
    expected = F.conv2d(x.double(), weight.double(), padding=15, groups=64)
    with torch.device("meta"):
        direct.ready.cache_clear()
        found = depthwise_conv2d(x, weight)
    assert (found.double() - expected).norm() < 1e-5 * expected.norm()


def test_a_broken_library_leaves_them_out_with_a_warning(monkeypatch, caplog):
    def fails():
        raise ImportError("cannot load libllvmlite.so")

    monkeypatch.setattr(direct, "_compile", fails)
    assert not direct.ready.__wrapped__()
    assert "cannot load libllvmlite.so" in caplog.text
