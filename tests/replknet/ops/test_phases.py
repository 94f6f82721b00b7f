"""Dilated depthwise convolution by phases: values and gradients equal to PyTorch's, and use for this case only."""

import copy

import pytest
import timm
import torch
from torch import nn

from erf.gradient.theoretical import theoretical_field
from replknet.ops.phases import PhasedConv2d, use_phases
from replknet.optimize import optimize


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    ("channels", "kernel", "dilation", "height", "width"),
    [
        (4, 7, (3, 3), 20, 33),
        (3, 5, (2, 2), 7, 9),
        (2, 3, (2, 3), 5, 4),
        (6, 7, (3, 3), 2, 2),
        (2, (3, 5), (1, 2), 8, 8),
    ],
)
def test_phases_are_the_convolution(channels, kernel, dilation, height, width, memory_format):
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = tuple(d * (k // 2) for d, k in zip(dilation, sides, strict=True))
    plain = nn.Conv2d(channels, channels, kernel, padding=padding, dilation=dilation, groups=channels).double()
    phased = use_phases(nn.Sequential(copy.deepcopy(plain)))[0]
    assert type(phased) is PhasedConv2d
    x = torch.randn(2, channels, height, width).double().contiguous(memory_format=memory_format).requires_grad_()
    y = x.detach().clone().requires_grad_()
    expected, found = plain(x), phased(y)
    grad = torch.randn_like(expected)
    expected.backward(grad)
    found.backward(grad)
    for a, b in ((found, expected), (y.grad, x.grad), (phased.weight.grad, plain.weight.grad)):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"dilation": 1, "padding": 1},
        {"padding": 1},
        {"padding_mode": "reflect"},
        {"groups": 2},
        {"kernel_size": 2},
    ],
    ids=str,
)
def test_other_convolutions_stay_as_they_are(options):
    conv = nn.Conv2d(4, 4, **({"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 4} | options))
    assert type(use_phases(conv)) is nn.Conv2d


def test_who_follows_the_steps_of_a_network_sees_one_convolution():
    model = timm.create_model("van_b0").eval()
    before = theoretical_field(copy.deepcopy(model), (64, 64))
    optimize(model)
    assert sum(type(module) is PhasedConv2d for module in model.modules()) == 13
    assert theoretical_field(model, (64, 64)) == before
