"""The families with a lean form are those in the documentation, and the lean form is used only if it pays."""

import re
from pathlib import Path

import pytest
import timm
import torch
from torch import nn

import replknet  # noqa: F401  registers its networks
from erf.gradient.lean.calls import NoLeanForm
from erf.gradient.lean.prepare import prepare
from erf.gradient.lean.proof import why_not_faster
from erf.gradient.lean.read import lean_form
from erf.gradient.positions import CENTRE

_PAGE = Path(__file__).parents[4] / "docs" / "exactness.md"
_ROW = re.compile(r"^\| `(\w+)` \| (lean|plain) \| (lean|plain) \|$", re.M)


def documented():
    return [match.groups() for match in _ROW.finditer(_PAGE.read_text(encoding="utf-8"))]


def test_the_page_lists_networks_of_each_kind():
    rows = [row[1:] for row in documented()]
    assert {("lean", "lean"), ("plain", "lean"), ("plain", "plain")} == set(rows)
    assert len(rows) >= 15


@pytest.mark.sweep
@pytest.mark.parametrize(("name", "small", "large"), documented())
def test_the_form_is_the_documented_one(name, small, large):
    model = timm.create_model(name).eval()
    try:
        lean = lean_form(model, "last", torch.zeros(1, 3, 224, 224))
    except NoLeanForm:
        assert (small, large) == ("plain", "plain")
        return
    forms = ["plain" if why_not_faster(lean, side, side) else "lean" for side in (224, 736)]
    assert [small, large] == forms


class Gated(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.gate = gate
        self.conv = nn.Conv2d(3, 4, 3, stride=4)

    def forward(self, x):
        x = self.conv(x)
        if self.gate == "map":
            return x * x.sigmoid()
        return x * x.mean((2, 3), keepdim=True).sigmoid() if self.gate == "vector" else x


@pytest.mark.parametrize(
    ("gate", "side", "form"),
    [
        ("vector", 128, "plain"),
        ("vector", 736, "lean"),
        ("map", 128, "plain"),
        ("map", 736, "plain"),
        (None, 128, "lean"),
        (None, 736, "lean"),
    ],
)
def test_the_lean_form_is_used_only_where_it_is_faster(gate, side, form):
    torch.manual_seed(0)
    prepared = prepare(Gated(gate).eval())
    prepared.network.choose(torch.zeros(1, 3, side, side), CENTRE)
    said = prepared.as_dict()
    assert said["form"] == form
    assert ("not faster" in said["form_reason"]) == (form == "plain")
