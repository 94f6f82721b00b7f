"""The depthwise convolution on a GPU against float64 on the CPU, and PyTorch's compilers on the GPU.

Each test also runs on the CPU with its smallest cases, so that the tests themselves are tested without a GPU. On a GPU,
inputs are different in each run, and a failure names the seed.
"""

import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from replknet.ops import DepthwiseConv2d, depthwise_conv2d
from runkit.compute.device import exact_float32

# as in test_depthwise.py; tf32 keeps 10 bits of each factor, so a sum of deviation 1 is off by about 2^-11
TOLERANCE = {
    torch.float32: {"rtol": 1e-5, "atol": 1e-5},
    torch.float16: {"rtol": 1e-3, "atol": 1e-3},
    torch.bfloat16: {"rtol": 8e-3, "atol": 1e-3},
}
TF32_TOLERANCE = {"rtol": 2e-3, "atol": 5e-3}

# (N, C, H, W, kh, kw): borders in every direction, several tiles, maps smaller than the kernel, rectangular kernels
SMALL = [(1, 1, 7, 7, 3, 3), (3, 5, 7, 7, 13, 13), (2, 3, 14, 15, 27, 27), (2, 3, 21, 34, 5, 31), (0, 3, 20, 20, 7, 7)]
LARGE = [
    (1, 2, 33, 70, 31, 31),
    (1, 1, 66, 20, 51, 5),
    (1, 2, 20, 33, 5, 51),
    (1, 1, 40, 40, 63, 63),
    (4, 64, 56, 56, 31, 31),
    (1, 16, 256, 256, 31, 31),
    (2, 33, 257, 129, 27, 13),
    *((3, 7, side, side + 2, k, k) for side in (17, 28, 57, 113) for k in (3, 5, 7, 9, 13, 17, 21, 27, 29, 31, 51)),
]
ON_A_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=ON_A_GPU)])
def device(request) -> str:
    return request.param


@pytest.fixture
def generator(device) -> torch.Generator:
    """A generator with a new seed on a GPU; pytest shows the seed of a failing test."""
    generator = torch.Generator()
    if device == "cuda":
        sys.stderr.write(f"seed {generator.seed()}\n")
    return generator


@pytest.fixture
def no_kernel_left_out(caplog) -> Iterator[None]:
    """Assert that no kernel failed or was wrong, which is logged as a warning and hidden by PyTorch's own kernel."""
    with caplog.at_level("WARNING", logger="replknet"):
        yield
    assert not [record.getMessage() for record in caplog.records if record.name.startswith("replknet")]


def cases(device: str) -> list[tuple[int, ...]]:
    return [*SMALL, *LARGE] if device == "cuda" else SMALL


def draw(generator, shape, dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw input, filters, bias and gradient of the output on the CPU; outputs have a deviation of about 1."""
    n, c, h, w, kh, kw = shape
    sizes = ((n, c, h, w), (c, 1, kh, kw), (c,), (n, c, h, w))
    x, weight, bias, grad = (torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes)
    return tuple(t.to(dtype) for t in (x, weight / (kh * kw) ** 0.5, bias, grad))


def spoil_free_memory(device: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Fill with NaN the memory that the next results will be written to."""
    blocks = [torch.full(shape, float("nan"), device=device, dtype=dtype) for _ in range(3)]
    del blocks


def run(device, tensors, memory_format) -> list[Tensor]:
    """Output, and gradients of the input, the filters and the bias."""
    x, weight, bias, grad = (t.to(device) for t in tensors)
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    grad = grad.contiguous(memory_format=memory_format)
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    spoil_free_memory(device, x.shape, x.dtype)
    y = depthwise_conv2d(x, weight, bias)
    spoil_free_memory(device, x.shape, x.dtype)
    return [y.detach(), *torch.autograd.grad(y, (x, weight, bias), grad)]


def check(found: list[Tensor], tensors: tuple[Tensor, ...], tolerance: dict[str, float], case: str) -> None:
    """Compare with float64 on the CPU; gradients of filters, sums over all pixels, are scaled to a deviation of 1."""
    n, _, h, w = tensors[0].shape
    pixels = max(1.0, (n * h * w) ** 0.5)
    expected = run("cpu", [t.double() for t in tensors], torch.contiguous_format)
    names = ("output", "gradient to the input", "gradient to the filters", "gradient to the bias")
    for name, one, twin, scale in zip(names, found, expected, (1, 1, pixels, pixels), strict=True):
        torch.testing.assert_close(
            one.cpu().double() / scale,
            (twin / scale).to(one.dtype).double(),
            **tolerance,
            check_stride=False,
            msg=lambda message, name=name: f"{name} of {case}: {message}",
        )


@pytest.mark.usefixtures("no_kernel_left_out")
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_values_and_gradients(device, generator, dtype, memory_format):
    for shape in cases(device):
        tensors = draw(generator, shape, dtype)
        check(run(device, tensors, memory_format), tensors, TOLERANCE[dtype], f"{shape}")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("no_kernel_left_out")
def test_tf32_where_it_was_asked_for(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", True)
    generator = torch.Generator().manual_seed(1)
    for shape in cases("cuda"):
        tensors = draw(generator, shape, torch.float32)
        check(run("cuda", tensors, torch.contiguous_format), tensors, TF32_TOLERANCE, f"{shape}")


def test_views_that_are_not_contiguous(device, generator):
    x, weight, *_ = (t.to(device) for t in draw(generator, (2, 6, 40, 22, 13, 13), torch.float32))
    x, weight = x[:, ::2, 3:, ::2], weight[::2]
    torch.testing.assert_close(depthwise_conv2d(x, weight), depthwise_conv2d(x.contiguous(), weight.contiguous()))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_two_runs_give_the_same_bits(device, generator, dtype):
    for shape in ((2, 3, 28, 30, 27, 27), (1, 4, 57, 57, 31, 31)):
        tensors = draw(generator, shape, dtype)
        first, second = (run(device, tensors, torch.contiguous_format) for _ in range(2))
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")  # opcheck's own
def test_opcheck(device, generator):
    ops = torch.ops.replknet
    for dtype in (torch.float32, torch.bfloat16) if device == "cuda" else (torch.float32,):
        x, weight, bias, _ = (t.to(device) for t in draw(generator, (1, 2, 20, 18, 13, 7), dtype))
        needs = tuple(t.clone().requires_grad_() for t in (x, weight, bias))
        for arguments in ((x, weight, None), needs):
            torch.library.opcheck(ops.depthwise_conv2d.default, arguments)
        torch.library.opcheck(ops.depthwise_conv2d_input_grad.default, needs[:2])
        torch.library.opcheck(ops.depthwise_conv2d_weight_grad.default, (needs[0], x.clone().requires_grad_(), 13, 7))


class Net(nn.Module):
    """A network with a large kernel between two matrix products."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 1), DepthwiseConv2d(8, 13), nn.ReLU(), DepthwiseConv2d(8, 31), nn.Conv2d(8, 2, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.fixture
def exact() -> Iterator[None]:
    """Dense convolutions next to ours are not rounded to TF32, as in compiled code."""
    with exact_float32():
        yield


@pytest.mark.usefixtures("exact")
def test_compile_and_export(device, generator):
    torch.manual_seed(3)
    net = Net().to(device)
    x = torch.randn(2, 3, 28, 26, generator=generator).to(device)
    expected = net(x)
    (gradient,) = torch.autograd.grad(expected.square().sum(), net.layers[3].weight)
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="inductor" if device == "cuda" else "aot_eager", fullgraph=True)
    found = compiled(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    (its_gradient,) = torch.autograd.grad(found.square().sum(), net.layers[3].weight)
    torch.testing.assert_close(its_gradient, gradient, rtol=1e-3, atol=1e-3)
    program = torch.export.export(net, (x,))
    torch.testing.assert_close(program.module()(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_captured_graph_replays():
    """The kernels allocate and launch nothing that a CUDA graph cannot record."""
    x = torch.randn(1, 8, 64, 64, device="cuda")
    weight = torch.randn(8, 1, 31, 31, device="cuda") / 31
    expected = depthwise_conv2d(x, weight)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = depthwise_conv2d(x, weight)
    y.zero_()
    graph.replay()
    torch.testing.assert_close(y, expected)
