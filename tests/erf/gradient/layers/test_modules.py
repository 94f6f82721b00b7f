"""The walk over modules is equal to that of PyTorch, and computing a map needs no other."""

import timm
import torch
from torch import nn

import replknet  # noqa: F401  registers the networks
from erf.gradient.contribution import central_gradients
from erf.gradient.layers.capture import find_module
from erf.gradient.layers.modules import modules_of, parameters_of
from erf.gradient.lean.prepare import prepare


def shared_and_empty():
    """A network with a module that occurs twice, one that is None, and a parameter that two modules share."""
    net = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    net[2].weight = net[1].weight
    net.add_module("again", net[0])
    net.register_module("nothing", None)
    net[0].register_parameter("nothing", None)
    return net


def test_modules_and_their_order_are_those_of_pytorch():
    scripted = nn.Sequential(nn.Conv2d(3, 4, 1), torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))))
    for net in (shared_and_empty(), scripted, timm.create_model("replknet3n"), timm.create_model("regnety_002")):
        assert modules_of(net) == list(net.modules())
        for name, module in net.named_modules(remove_duplicate=False):
            assert find_module(net, name) is module
        found = {id(parameter) for parameter in parameters_of(modules_of(net))}
        assert net is scripted or found == {id(parameter) for parameter in net.parameters()}
    assert find_module(scripted, "0.weight") is None
    assert find_module(scripted, "2") is None


def test_a_map_does_not_pass_over_all_modules_again_and_again(monkeypatch):
    """`nn.Module.modules` took a fifth of the time of a small network's map."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Softmax(1)).eval()  # which has no lean form
    prepared = prepare(net, layer="2").network
    x = torch.randn(1, 3, 16, 16)
    expected = central_gradients(prepared, x, layer="2").maps

    def refuse(*args, **kwargs):
        raise AssertionError("another walk over all modules")

    for name in ("modules", "named_modules", "parameters", "named_parameters", "buffers", "named_buffers"):
        monkeypatch.setattr(nn.Module, name, refuse)
    assert torch.equal(central_gradients(prepared, x, layer="2").maps, expected)
    assert prepared.form == "plain"
