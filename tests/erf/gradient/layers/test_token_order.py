"""Tokens whose positions cannot be followed: their order is determined by experiment, or refused."""

import pytest
import torch
from torch import nn

import erf
from erf.gradient.contribution import Layer, LayerError

SIZE = 64


class Tokens(nn.Module):
    """Patches as tokens in some order, with other tokens before and after them, gathered so that nobody can follow."""

    def __init__(self, patch=(4, 4), order=None, before=0, after=0):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, patch, patch)
        self.before = nn.Parameter(torch.randn(1, before, 6))
        self.after = nn.Parameter(torch.randn(1, after, 6))
        self.layer = nn.Linear(6, 6)
        self.order = order

    def forward(self, x):
        x = self.stem(x).flatten(2).transpose(1, 2)
        order = torch.arange(x.shape[1]) if self.order is None else self.order
        x = torch.gather(x, 1, order[None, :, None].expand_as(x))
        x = torch.cat([self.before.expand(len(x), -1, -1), x, self.after.expand(len(x), -1, -1)], 1)
        return self.layer(x).mean(1)


class Gathered(Tokens):
    """The same patches, gathered so that their positions can be followed."""

    def forward(self, x):
        return self.layer(self.stem(x).flatten(2).transpose(1, 2)).mean(1)


def expected_map(model, x, token):
    """The map of one token of the layer by plain autograd."""
    x = x.clone().requires_grad_()
    kept = []
    with model.layer.register_forward_hook(lambda module, args, output: kept.append(output)):
        model(x)
    (gradient,) = torch.autograd.grad(kept[0][:, token].relu().sum(), x)
    return gradient.relu().sum(1).mean(0)


@pytest.mark.parametrize("patch", [2, 4, 8, 16])
@pytest.mark.parametrize(("before", "after"), [(0, 0), (0, 1), (0, 2), (1, 1), (5, 0)])
def test_tokens_before_and_after_those_of_the_map_are_left_out(patch, before, after):
    torch.manual_seed(0)
    model = Tokens((patch, patch), before=before, after=after).eval().double()
    x, side = torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64), SIZE // patch
    expected = expected_map(model, x, before + side // 2 * side + side // 2)
    for layer in (Layer("layer"), Layer("layer", layout="NLC"), Layer("layer", layout="NLC", prefix_tokens=before)):
        found = erf.contribution_map(model, x, layer=layer)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def raster(side):
    return torch.arange(side * side).view(side, side)


def snake(side):
    rows = raster(side)
    rows[1::2] = rows[1::2].flip(1)
    return rows.flatten()


def windows(side, window):
    return raster(side).view(side // window, window, side // window, window).permute(0, 2, 1, 3).flatten()


ORDERS = {
    "there and back": snake,
    "windows of 2": lambda side: windows(side, 2),
    "windows of 4": lambda side: windows(side, 4),
    "column by column": lambda side: raster(side).T.flatten(),
    "begun elsewhere": lambda side: raster(side).flatten().roll(3),
    "backwards": lambda side: raster(side).flatten().flip(0),
    "pairs exchanged": lambda side: raster(side).flatten().view(-1, 2).flip(1).flatten(),
}


@pytest.mark.parametrize("side", [8, 16, 32])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("layout", [None, "NLC"])
def test_tokens_in_another_order_are_refused(order, side, layout):
    torch.manual_seed(0)
    model = Tokens((SIZE // side, SIZE // side), order=ORDERS[order](side)).eval()
    with pytest.raises(LayerError, match=r"cannot be told; say so.*\(--layout\)"):
        erf.contribution_map(model, torch.randn(1, 3, SIZE, SIZE), layer=Layer("layer", layout=layout), plain=True)


@pytest.mark.parametrize("kind", [Tokens, Gathered])
@pytest.mark.parametrize("patch", [(8, 2), (2, 8), (4, 8)])
@pytest.mark.parametrize("plain", [False, True])
def test_patches_that_are_not_square(kind, patch, plain):
    torch.manual_seed(0)
    model = kind(patch).eval().double()
    h, w = (SIZE // side for side in patch)
    x = torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64)
    expected = expected_map(model, x, h // 2 * w + w // 2)
    for layout in ("NLC", f"NLC:{h}x{w}"):
        found = erf.contribution_map(model, x, layer=Layer("layer", layout=layout), plain=plain)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_what_is_said_of_the_grid_is_taken_at_its_word():
    torch.manual_seed(0)
    model = Tokens(order=snake(16), before=1, after=1).eval().double()
    x = torch.randn(1, 3, SIZE, SIZE, dtype=torch.float64)
    found = erf.contribution_map(model, x, layer=Layer("layer", layout="NLC:16x16", prefix_tokens=1))
    torch.testing.assert_close(found, expected_map(model, x, 1 + 8 * 16 + 8), rtol=1e-9, atol=0)
    with pytest.raises(LayerError, match=r"gives 2 tokens more than 16 × 16; say how many come before .*prefix"):
        erf.contribution_map(model, x, layer=Layer("layer", layout="NLC:16x16"))
    with pytest.raises(LayerError, match="gives 258 tokens, too few for NLC:17x17"):
        erf.contribution_map(model, x, layer=Layer("layer", layout="NLC:17x17"))
    for wrong in ("NLC:", "NLC:16", "NLC:0x4", "NHWC:4x4", "NLC:ax4"):
        with pytest.raises(LayerError, match="NLC:14x14"):
            Layer("layer", layout=wrong)


class TalkingHeads(nn.Module):
    """A convolution over attention matrices, which have as many rows and columns as there are patches."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 16, 16)
        self.heads = nn.Conv2d(2, 2, 1)

    def forward(self, x):
        x = nn.functional.adaptive_avg_pool2d(self.stem(x), 4).flatten(2).unflatten(1, (2, 4))
        return self.heads((x.transpose(2, 3) @ x).softmax(-1)).mean((1, 2, 3))


def test_a_matrix_of_attention_is_no_map():
    with pytest.raises(LayerError, match="cannot be told"):
        erf.contribution_map(TalkingHeads().eval(), torch.randn(1, 3, SIZE, SIZE), layer="heads")
