"""Kernels are compared with PyTorch's convolution before their first use, tested with fake kernels on CPU tensors."""

import logging

import pytest
import torch
import torch.nn.functional as F

from replknet.ops import depthwise_conv2d_reference
from replknet.ops.cuda import kernels, proof


def right(x, weight, bias):
    padding = (weight.shape[2] // 2, weight.shape[3] // 2)
    return F.conv2d(x, weight, bias, padding=padding, groups=x.shape[1])


def one_pixel_off(x, weight, bias):
    return right(x, weight, bias).roll(1, 3)


def without_bias(x, weight, bias):
    return right(x, weight, None)


def not_a_number(x, weight, bias):
    return right(x, weight, bias) * torch.nan


def wrong_last_column(x, weight, bias):
    y = right(x, weight, bias)
    y[..., -1] = 0
    return y


@pytest.fixture
def use(monkeypatch):
    """Replace the kernels by a fake one, and count its calls."""
    monkeypatch.setattr(kernels, "_left_out", {"Triton"})
    monkeypatch.setattr(proof, "_proven", set())

    def put(fake):
        shapes = []

        def counted(x, weight, bias):
            shapes.append(tuple(x.shape))
            return fake(x, weight, bias)

        monkeypatch.setattr(kernels, "_forward_nvrtc", counted)
        return shapes

    return put


def inputs(shape=(2, 3, 20, 24), taps=(7, 9), dtype=torch.float32):
    torch.manual_seed(0)
    return (
        torch.randn(shape, dtype=dtype),
        torch.randn(shape[1], 1, *taps, dtype=dtype),
        torch.randn(shape[1]).to(dtype),
    )


def test_a_right_kernel_is_compared_once_for_each_variant(use, caplog):
    shapes = use(right)
    x, weight, bias = inputs((1, 2, 90, 24))
    for _ in range(3):
        kernels.forward(x, weight, bias)
    assert shapes == [(1, 2, 71, 24), *[(1, 2, 90, 24)] * 3]
    for other in (inputs((1, 2, 90, 24), (9, 9)), inputs((1, 2, 90, 24), dtype=torch.bfloat16)):
        shapes.clear()
        kernels.forward(*other)
        kernels.forward(*other)
        assert shapes == [(1, 2, 71, 24), *[(1, 2, 90, 24)] * 2]
    assert not caplog.records


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("fake", [one_pixel_off, without_bias, not_a_number, wrong_last_column])
def test_a_wrong_kernel_is_left_out_with_one_warning(use, caplog, fake, dtype):
    shapes = use(fake)
    x, weight, bias = inputs(dtype=dtype)
    with caplog.at_level(logging.WARNING):
        found = [kernels.forward(x, weight, bias) for _ in range(3)]
    assert len(shapes) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "NVRTC" in caplog.text
    assert "7 x 9" in caplog.text
    expected = depthwise_conv2d_reference(x.double(), weight.double(), bias.double())
    for y in found:
        assert (y.double() - expected).abs().max() < 0.02 * expected.abs().max()


def test_a_kernel_that_is_wrong_for_one_size_alone(use, caplog):
    use(lambda x, weight, bias: right(x, weight, bias) * (2 if weight.shape[2] == 9 else 1))
    kernels.forward(*inputs())
    assert not caplog.records
    x, weight, bias = inputs(taps=(9, 9))
    with caplog.at_level(logging.WARNING):
        y = kernels.forward(x, weight, bias)
    assert len(caplog.records) == 1
    torch.testing.assert_close(y, depthwise_conv2d_reference(x, weight, bias), rtol=1e-4, atol=1e-4)


def test_rounding_of_tf32_passes_where_it_was_asked_for(use, monkeypatch, caplog):
    use(lambda x, weight, bias: right(x, weight, bias) * (1 + 1e-3))
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "high")
    kernels.forward(*inputs())
    assert not caplog.records
    monkeypatch.setattr(torch, "get_float32_matmul_precision", lambda: "highest")
    kernels.forward(*inputs())
    assert len(caplog.records) == 1


def test_an_environment_variable_turns_the_kernels_off(use, monkeypatch, caplog):
    shapes = use(right)
    monkeypatch.setenv("REPLKNET_CUDA_KERNELS", "0")
    x, weight, bias = inputs()
    torch.testing.assert_close(
        kernels.forward(x, weight, bias), depthwise_conv2d_reference(x, weight, bias), rtol=1e-4, atol=1e-4
    )
    assert not shapes
    assert not caplog.records
    monkeypatch.setenv("REPLKNET_CUDA_KERNELS", "1")
    kernels.forward(x, weight, bias)
    assert shapes


@pytest.mark.parametrize("scalar", [0, 1, 2, 3])
def test_the_small_input_gets_the_tile_of_the_large_one(scalar):
    for n, c, h, w in ((1, 1, 5, 9), (64, 1, 30, 30), (2, 20, 56, 56), (1, 512, 200, 7), (8, 96, 300, 500)):
        for kh, kw in ((7, 7), (13, 13), (31, 31), (51, 5), (63, 63)):
            tiles = [
                kernels.choose_tile(scalar, tensor_cores=scalar != 0, planes=n * c, height=h, width=w, kh=kh, kw=kw)
                for n, c, h, w in ((n, c, h, w), proof.small_shape((n, c, h, w)))
            ]
            assert tiles[0] == tiles[1]
