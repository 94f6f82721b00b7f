"""The gradient of batch normalisation, which PyTorch gets wrong for some strides (seen in torch 2.14 on CPU)."""

import copy

import pytest
import torch
from support import randomize_norms
from torch import nn

from erf.gradient.batchnorm import guard_batch_norms
from erf.gradient.contribution import central_gradients

_SHAPE = (1, 8, 4, 5)
_STRIDES = {
    "contiguous": (160, 20, 5, 1),
    "contiguous, stride 1 over the batch": (1, 20, 5, 1),
    "channels-last": (160, 1, 40, 8),
    "channels-last, stride 1 over the batch": (1, 1, 40, 8),
    "channels-last, stride 8 over the batch": (8, 1, 40, 8),
    "channels-last, stride 0 over the batch": (0, 1, 40, 8),
    "channels-last, part of a larger batch": (1120, 1, 40, 8),
    "neither": (160, 20, 1, 4),
}


def _laid_out(x, strides):
    return torch.empty_strided(x.shape, strides, dtype=x.dtype).copy_(x)


@pytest.mark.parametrize("of_gradient", _STRIDES.values(), ids=_STRIDES)
@pytest.mark.parametrize("of_input", _STRIDES.values(), ids=_STRIDES)
@pytest.mark.parametrize("make", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_the_gradient_is_right_whatever_the_strides(make, of_input, of_gradient):
    torch.manual_seed(0)
    norm = randomize_norms(make(8, affine=True).eval()).requires_grad_(False)
    x, grad = torch.randn(_SHAPE), torch.randn(_SHAPE)
    exact = x.double().requires_grad_()
    (want,) = torch.autograd.grad(copy.deepcopy(norm).double()(exact), exact, grad.double())
    mine = _laid_out(x, of_input).requires_grad_()
    y = norm(mine)
    guard_batch_norms(y)
    (got,) = torch.autograd.grad(y, mine, _laid_out(grad, of_gradient))
    torch.testing.assert_close(got.double(), want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("of_gradient", ["contiguous", "channels-last", "neither"])
@pytest.mark.parametrize("of_input", ["contiguous", "channels-last", "neither"])
def test_what_pytorch_gets_right_keeps_its_bits(of_input, of_gradient):
    torch.manual_seed(0)
    norm = randomize_norms(nn.BatchNorm2d(8).eval()).requires_grad_(False)
    grad = _laid_out(torch.randn(_SHAPE), _STRIDES[of_gradient])
    x = _laid_out(torch.randn(_SHAPE), _STRIDES[of_input]).requires_grad_()
    (own,) = torch.autograd.grad(norm(x), x, grad)
    y = norm(x)
    guard_batch_norms(y)
    (guarded,) = torch.autograd.grad(y, x, grad)
    assert torch.equal(own, guarded)


class Flattened(nn.Module):
    """A normalisation followed by tokens, as at the end of a stage of VAN."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.mix = nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Linear(8, 8)

    def forward(self, x):
        y = self.norm(self.conv(x))
        tokens = self.mix(y.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).reshape(y.shape)


@pytest.mark.parametrize("batch", [1, 2])
def test_the_map_of_a_network_that_flattens_after_a_normalisation(batch):
    torch.manual_seed(0)
    model = randomize_norms(Flattened().eval())
    images = torch.randn(batch, 3, 16, 20)
    found = central_gradients(model, images).maps
    exact = images.double().requires_grad_()
    central = copy.deepcopy(model).double()(exact)[:, :, 4, 5].relu().sum()
    (gradient,) = torch.autograd.grad(central, exact)
    want = gradient.relu().sum(1)
    assert (found - want).norm() < 1e-5 * want.norm()


def test_the_graph_is_freed_after_the_backward_pass():
    import gc
    import weakref

    norm = nn.BatchNorm2d(8).eval().requires_grad_(False)
    x = torch.randn(_SHAPE, requires_grad=True)
    between = x * 2
    alive = weakref.ref(between)
    y = norm(between).sum()
    guard_batch_norms(y)
    torch.autograd.grad(y, x)
    del between, y
    gc.collect()
    assert alive() is None
