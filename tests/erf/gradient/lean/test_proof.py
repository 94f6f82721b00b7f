"""The lean form is used only if it gives the same map as the plain one, and the form that was used is recorded."""

import logging
import re

import pytest
import timm
import torch
from support import randomize_norms
from torch import nn

from erf.gradient.contribution import central_gradients
from erf.gradient.lean import proof
from erf.gradient.lean.prepare import prepare
from erf.gradient.lean.steps.pointwise import ReLU
from erf.gradient.positions import CENTRE, Position

SMALL = dict(dims=(8, 16, 24, 32), depths=(1, 1, 1, 1), kernel_sizes=(7, 5, 5, 3))


def replknet():
    return randomize_norms(timm.create_model("replknet31b", **SMALL)).eval()


def warnings_of(caplog):
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_lean_form_that_is_right_is_used_without_a_word(caplog):
    model = randomize_norms(timm.create_model("resnet18")).eval()
    prepared = prepare(model)
    assert prepared.as_dict() == {"form": None, "form_reason": None}
    central_gradients(prepared.network, torch.randn(1, 3, 96, 96))
    assert prepared.as_dict()["form"] == "lean"
    said = re.search(r"differs from the plain form by (\S+) in float32", prepared.as_dict()["form_reason"])
    assert said is not None
    assert float(said[1]) < 1e-5
    assert not warnings_of(caplog)


@pytest.mark.parametrize("off", [1.001, 1.00001])
@pytest.mark.parametrize("make", [lambda: randomize_norms(timm.create_model("resnet18")).eval(), replknet])
def test_a_lean_form_that_is_wrong_is_left_out_with_one_warning(make, off, monkeypatch, caplog):
    """With a slightly wrong backward pass of ReLU, every map is the plain one, also for other sizes and positions."""
    right = ReLU.backward
    monkeypatch.setattr(ReLU, "backward", lambda self, grad, kept: (right(self, grad, kept)[0] * off,))
    model = make()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    prepared = prepare(model)
    twin = make()
    twin.load_state_dict(before)
    for size, position in ((96, CENTRE), (96, Position(0.25, 0.5)), (64, CENTRE)):
        x = torch.randn(1, 3, size, size)
        expected = central_gradients(twin, x, position=position).maps
        found = central_gradients(prepared.network, x, position=position).maps
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.max().item())
    assert prepared.as_dict()["form"] == "plain"
    assert "differs by" in prepared.as_dict()["form_reason"]
    assert len(warnings_of(caplog)) == 1
    assert "plain form, which is slower" in warnings_of(caplog)[0]


def test_a_merged_network_that_is_not_the_same_is_not_used(caplog):
    """If a hook on a module that merging removes changes the map, the network runs unmodified."""
    model = replknet()
    model.stages[0].blocks[0].large_kernel.small_conv.register_forward_hook(lambda module, args, output: 3 * output)
    x = torch.randn(1, 3, 96, 96)
    expected = central_gradients(model, x).maps
    prepared = prepare(model)
    found = central_gradients(prepared.network, x).maps
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.max().item())
    assert prepared.as_dict()["form"] == "plain"
    assert len(warnings_of(caplog)) == 1


def test_steps_that_depend_on_the_size_are_not_used(monkeypatch):
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)

        def forward(self, x):
            return self.second(x) if x.shape[-1] > 100 else self.first(x)

    model = Branches().eval()
    x = torch.randn(1, 3, 128, 128)
    found = central_gradients(prepare(model).network, x).maps
    torch.testing.assert_close(found, central_gradients(model, x).maps)


def test_a_network_that_takes_no_small_images_is_compared_at_its_size():
    class Picky(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 129)

        def forward(self, x):
            return self.conv(x)

    x = torch.randn(1, 3, 132, 132)
    prepared = prepare(Picky().eval(), layer="conv")
    central_gradients(prepared.network, x)
    assert "132 x 132" in prepared.as_dict()["form_reason"]


def test_nothing_is_proven_by_a_map_of_zeros():
    conv = nn.Conv2d(3, 4, 1)
    nn.init.zeros_(conv.weight)
    prepared = prepare(nn.Sequential(conv).eval(), layer="0")
    assert not central_gradients(prepared.network, torch.randn(1, 3, 64, 64), layer="0").maps.any()
    assert prepared.as_dict()["form"] == "plain"
    assert "zero" in prepared.as_dict()["form_reason"]


@pytest.mark.parametrize("plain", [False, True])
def test_the_network_can_be_left_as_it_is(plain):
    model = replknet()
    modules = [(name, type(module), module.training) for name, module in model.named_modules()]
    wanted = [(name, parameter.requires_grad, parameter.stride()) for name, parameter in model.named_parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(1, 3, 96, 96)
    expected = central_gradients(model, x).maps
    prepared = prepare(model, plain=plain, in_place=False)
    found = central_gradients(prepared.network, x).maps
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * expected.max().item())
    assert modules == [(name, type(module), module.training) for name, module in model.named_modules()]
    assert wanted == [(name, p.requires_grad, p.stride()) for name, p in model.named_parameters()]
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_map_that_rounding_alone_does_not_explain_is_compared_in_float64(monkeypatch):
    monkeypatch.setitem(proof._SAME, torch.float32, 0.0)
    prepared = prepare(randomize_norms(timm.create_model("resnet18")).eval())
    central_gradients(prepared.network, torch.randn(1, 3, 96, 96))
    assert prepared.as_dict()["form"] == "lean"
    assert re.search(
        r"differs from the plain form by \S+ in float64 and \S+ in float32", prepared.as_dict()["form_reason"]
    )


def test_it_says_that_the_plain_form_was_asked_for():
    assert prepare(replknet(), plain=True).as_dict() == {"form": "plain", "form_reason": "asked for"}


def test_in_reduced_precision_the_lean_form_is_no_less_exact(monkeypatch):
    x = torch.randn(1, 3, 96, 96).bfloat16()
    prepared = prepare(randomize_norms(timm.create_model("resnet18")).eval().bfloat16())
    central_gradients(prepared.network, x)
    assert prepared.as_dict()["form"] == "lean"
    monkeypatch.setattr(proof, "_WORSE", 0)  # a lean form that is less exact by any amount
    prepared = prepare(randomize_norms(timm.create_model("resnet18")).eval().bfloat16())
    central_gradients(prepared.network, x)
    assert prepared.as_dict()["form"] == "plain"
    assert "in bfloat16 its map differs from float64 by" in prepared.as_dict()["form_reason"]
