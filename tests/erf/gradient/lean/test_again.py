"""Hidden layers that are recomputed: which are chosen, and that the map stays the same."""

import pytest
import timm
import torch

from erf.gradient.contribution import central_gradients
from erf.gradient.lean import again
from erf.gradient.lean.again import DenseActivation, choose_again, put_together
from erf.gradient.lean.handlers.pointwise import _gelu
from erf.gradient.lean.node import Node
from erf.gradient.lean.read import lean_form
from erf.gradient.lean.steps.pointwise import Dense, ReLU

BIG, SMALL = (512, 512), (8, 8)


def dense(channels, width):
    return Dense(torch.zeros(width, channels, 1, 1), None)


def block(channels, first, activation=None):
    """A convolution that widens four times, an activation, and one that narrows; value numbers from `first` on."""
    wide, narrow = dense(channels, 4 * channels), dense(4 * channels, channels)
    return [
        Node(wide, (first,), first + 1),
        Node(activation or _gelu(), (first + 1,), first + 2),
        Node(narrow, (first + 2,), first + 3),
    ]


def blocks(activation=None):
    return [node for i in range(20) for node in block(64, 3 * i, activation)]


def chosen(nodes, size=BIG):
    sizes = dict.fromkeys({value for node in nodes for value in (*node.inputs, node.output)}, size)
    return choose_again(nodes, sizes, nodes[-1].output)


def test_the_ones_that_save_most_for_their_work_are_chosen():
    """With twenty equal blocks, the allowed share of additional work suffices for one of them, but not for two."""
    wide = blocks()
    assert chosen(wide) == {2}
    cheap = block(32, 60)
    assert chosen([*wide, *cheap]) == {62, 2}


@pytest.mark.parametrize(
    ("nodes", "size"),
    [
        pytest.param(blocks(), SMALL, id="small"),
        pytest.param(blocks(ReLU()), BIG, id="only bits are kept"),
        pytest.param(block(64, 0), BIG, id="too much of the work"),
        pytest.param([*blocks(), *(Node(ReLU(), (3 * i + 1,), 99 - i) for i in range(20))], BIG, id="used elsewhere"),
    ],
)
def test_what_is_not_chosen(nodes, size):
    assert chosen(nodes, size) == frozenset()


def test_a_chosen_activation_takes_in_its_convolution():
    nodes = put_together(block(8, 0), frozenset({2}))
    assert [(type(node.step), node.inputs, node.output) for node in nodes] == [
        (DenseActivation, (0,), 2),
        (Dense, (2,), 3),
    ]
    nodes = block(8, 0)
    assert put_together(nodes, frozenset()) == nodes


@pytest.mark.parametrize("name", ["replknet3n", "convnext_atto"])
def test_the_map_is_the_same(name, monkeypatch):
    torch.manual_seed(0)
    model = timm.create_model(name).eval().double()
    x = torch.randn(2, 3, 96, 64, dtype=torch.float64)
    expected = central_gradients(lean_form(model, "last", x), x)
    monkeypatch.setattr(again, "_WORTH_BYTES", 1)
    monkeypatch.setattr(again, "_MOST_WORK", 1.0)
    made = []
    monkeypatch.setattr(again.DenseActivation, "__init__", _counted(again.DenseActivation.__init__, made))
    found = central_gradients(lean_form(model, "last", x), x)
    assert len(made) > 5
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-9, atol=1e-12 * expected.maps.max().item())


def _counted(function, calls):
    def wrapped(self, *args):
        calls.append(args)
        function(self, *args)

    return wrapped
