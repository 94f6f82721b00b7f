"""The record in results of the code that computed large depthwise convolutions."""

import importlib.util
from importlib import metadata

import pytest
import torch
from torch import nn

from replknet.ops.cpu import direct
from replknet.used_kernels import describe_kernels, has_large_depthwise

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("layer", "large"),
    [
        (nn.Conv2d(4, 4, 11, groups=4), True),
        (nn.Conv2d(4, 4, (5, 51), groups=4), True),
        (nn.Conv2d(4, 4, 9, groups=4), False),
        (nn.Conv2d(4, 4, 13), False),
    ],
)
def test_large_depthwise_kernels_have_eleven_pixels(layer, large):
    assert has_large_depthwise(nn.Sequential(nn.ReLU(), layer)) == large


def test_other_networks_and_devices_say_nothing():
    assert describe_kernels(CPU, large_depthwise=False) == {}
    assert describe_kernels(torch.device("cuda"), large_depthwise=True) == {}


def test_pytorch_unless_the_compiled_kernels_were_asked_for(monkeypatch):
    pytorch = {"depthwise_kernels": {"compiled": False, "llvmlite": None}}
    direct.ready.cache_clear()
    assert describe_kernels(CPU, large_depthwise=True) == pytorch
    assert direct.ready.cache_info().currsize == 0  # nothing was compiled to find out
    if importlib.util.find_spec("llvmlite") is None:
        return
    assert direct.ready()
    version = metadata.version("llvmlite")
    assert describe_kernels(CPU, large_depthwise=True) == {"depthwise_kernels": {"compiled": True, "llvmlite": version}}
    assert describe_kernels(CPU, large_depthwise=True, plain=True) == pytorch
    monkeypatch.setenv(direct.SWITCH, "0")
    direct.ready.cache_clear()
    assert not direct.ready()
    assert describe_kernels(CPU, large_depthwise=True) == pytorch
    direct.ready.cache_clear()
