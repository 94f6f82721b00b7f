"""Random networks: the map of the lean form equals that of plain autograd in float64.

Each network is a random graph of steps with branches, slices, sums and concatenations. Images are large enough that
the windows of the maps differ, which small images do not show.
"""

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import erf
from erf.gradient.lean import kept
from erf.gradient.lean.steps.pointwise import Slice
from replknet.ops import DepthwiseConv2d

KINDS = ("convolution", "dilated", "depthwise", "large", "pointwise", "relu", "gelu", "norm", "layer norm")
KINDS += ("slice", "slice", "join", "sum", "difference", "pool", "stride", "mean")
NETWORKS, PARTS = 60, 6


class RandomNet(nn.Module):
    """Values are maps; each step reads one or two earlier maps of the present size. Unused maps reach the output."""

    def __init__(self, seed: int):
        super().__init__()
        chance = random.Random(seed)
        self.steps: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = []
        self.layers = nn.ModuleDict()
        self._channels, self._halvings = [3], [0]
        self._add("convolution", [0], nn.Conv2d(3, chance.choice([4, 8, 17]), 3, padding=1), halvings=0)
        for _ in range(chance.randint(5, 14)):
            self._add_one(chance)
        used = {value for _, inputs, _ in self.steps for value in inputs}
        present = [v for v in range(1, len(self._channels)) if self._halvings[v] == self._halvings[-1]]
        self.ends = [v for v in present if v not in used] or present[-1:]
        self.head = nn.Conv2d(sum(self._channels[v] for v in self.ends), 8, 1)
        self.last = nn.Conv2d(8, 6, chance.choice([1, 3]))

    def _add(self, kind, inputs, layer=None, *, channels=None, details=(), halvings=None):
        if layer is not None:
            self.layers[str(len(self.steps))] = layer
        self.steps.append((kind, tuple(inputs), tuple(details)))
        self._channels.append(getattr(layer, "out_channels", None) or channels or self._channels[inputs[0]])
        self._halvings.append(self._halvings[inputs[0]] if halvings is None else halvings)

    def _add_one(self, chance: random.Random) -> None:
        present = [v for v in range(1, len(self._channels)) if self._halvings[v] == self._halvings[-1]]
        x, y = chance.choice(present[-4:]), chance.choice(present)
        kind, channels = chance.choice(KINDS), self._channels[x]
        if kind == "convolution":
            self._add(
                kind, [x], nn.Conv2d(channels, chance.choice([1, 4, 8]), 5, padding=2, bias=chance.random() < 0.5)
            )
        elif kind == "dilated":
            reach = chance.choice([2, 8, 16, 32])
            self._add(kind, [x], nn.Conv2d(channels, 4, 3, padding=reach, dilation=reach))
        elif kind == "depthwise":
            height, width = chance.choice([1, 3, 7]), chance.choice([3, 13])
            padding = (height // 2, width // 2)
            self._add(kind, [x], nn.Conv2d(channels, channels, (height, width), padding=padding, groups=channels))
        elif kind == "large":
            self._add(kind, [x], DepthwiseConv2d(channels, chance.choice([13, 31])))
        elif kind == "pointwise":
            self._add(kind, [x], nn.Conv2d(channels, chance.choice([4, 8, 64]), 1))
        elif kind == "norm":
            norm = nn.BatchNorm2d(channels)
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            self._add(kind, [x], norm)
        elif kind == "layer norm":
            self._add(kind, [x], nn.LayerNorm(channels))
        elif kind == "slice" and channels > 1:
            count = chance.randint(1, channels - 1)
            start = chance.randint(0, channels - count)
            self._add(kind, [x], channels=count, details=(start, start + count))
        elif kind == "join":
            self._add(kind, [x, y], channels=channels + self._channels[y])
        elif kind in ("sum", "difference") and self._channels[y] in (1, channels):
            self._add(kind, [x, y])
        elif kind in ("pool", "stride") and self._halvings[x] < 3:
            layer = nn.MaxPool2d(3, 2, 1) if kind == "pool" else nn.Conv2d(channels, 8, 3, stride=2, padding=1)
            self._add(kind, [x], layer, halvings=self._halvings[x] + 1)
        elif kind == "mean":
            self._add(kind, [x], channels=1)
        elif kind in ("relu", "gelu"):
            self._add(kind, [x])

    def forward(self, image: Tensor) -> Tensor:
        values = [image]
        for number, (kind, inputs, details) in enumerate(self.steps):
            given = [values[value] for value in inputs]
            values.append(self._run(kind, given, details, str(number)))
        return self.last(self.head(torch.cat([values[v] for v in self.ends], 1)).relu())

    def _run(self, kind: str, given: list[Tensor], details: tuple[int, ...], number: str) -> Tensor:
        x = given[0]
        if kind == "layer norm":
            return self.layers[number](x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if number in self.layers:
            return self.layers[number](x)
        if kind == "slice":
            return x[:, details[0] : details[1]]
        if kind == "join":
            return torch.cat(given, 1)
        if kind in ("sum", "difference"):
            return x + given[1] if kind == "sum" else x - given[1]
        return x.mean(1, keepdim=True) if kind == "mean" else {"relu": F.relu, "gelu": F.gelu}[kind](x)


def map_of(model: nn.Module, x: Tensor) -> Tensor:
    """The definition of the map, in float64."""
    x = x.double().requires_grad_()
    features = model.double()(x)
    features[:, :, features.shape[2] // 2, features.shape[3] // 2].relu().sum().backward()
    model.float()
    return x.grad.relu().sum(1).mean(0)


def check(model: nn.Module, x: Tensor) -> str:
    """Compare the map with its definition, and return the form in which the network ran."""
    expected = map_of(model, x)
    found = erf.contribution_map(model, x)
    assert (found - expected).norm() <= 1e-3 * expected.norm()  # GELU's input is kept in half precision
    return kept._kept[0].prepared.as_dict()["form"]


@pytest.mark.parametrize("part", range(PARTS))
def test_random_networks(part):
    forms = []
    for seed in range(part, NETWORKS, PARTS):
        torch.manual_seed(seed)
        model = RandomNet(seed).eval()
        size = random.Random(seed).choice([(200, 160), (230, 133), (64, 224), (128, 128)])
        forms.append(check(model, torch.randn(1 + seed % 2, 3, *size)))
    assert forms.count("lean") > len(forms) / 2


class SliceBesideReLU(nn.Module):
    """A ReLU and a slice of the same map, each read by a wide convolution: both leave one run of pointwise steps."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.of_relu = nn.Conv2d(8, 8, 3, padding=32, dilation=32)
        self.of_slice = nn.Conv2d(4, 8, 3, padding=32, dilation=32)
        self.of_map = nn.Conv2d(8, 8, 3, padding=64, dilation=64)
        self.last = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = self.stem(x)
        active, part = x.relu(), x[:, :4]
        y = self.of_relu(active) + self.of_slice(part)
        return self.last((y + self.of_map(x)).relu())


@pytest.mark.parametrize("side", [64, 256])
def test_an_output_that_is_part_of_an_input_is_not_overwritten_by_another_output(side):
    torch.manual_seed(0)
    assert check(SliceBesideReLU().eval(), torch.randn(1, 3, side, side)) == "lean"
    assert Slice(8, 0, 4).forward(torch.zeros(1, 8, 2, 2), keep=())._is_view()  # otherwise this tests nothing


class TwoBranches(nn.Module):
    """A 1×1 convolution whose GELU comes after another branch, large enough to be computed again."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 32, 3, padding=1)
        self.dense, self.spatial = nn.Conv2d(32, 256, 1), nn.Conv2d(32, 256, 3, padding=1)
        self.wide, self.last = nn.Conv2d(256, 1024, 1), nn.Conv2d(1024, 16, 1)

    def forward(self, x):
        x = self.stem(x)
        a, b = self.dense(x), self.spatial(x)
        return self.last(F.relu(self.wide(F.gelu(a) + b)))


def test_an_activation_in_another_run_than_its_convolution():
    torch.manual_seed(0)
    assert check(TwoBranches().eval(), torch.randn(1, 3, 256, 256)) == "lean"


class BiasFromImage(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.weight = nn.Conv2d(3, 8, 3, padding=1), nn.Parameter(torch.randn(8, 8, 3, 3))

    def forward(self, x):
        x = self.stem(x)
        return F.conv2d(x, self.weight, x.mean((2, 3)).flatten(), padding=1)


def test_a_bias_that_depends_on_the_image_has_no_lean_form():
    torch.manual_seed(0)
    assert check(BiasFromImage().eval(), torch.randn(1, 3, 64, 64)) == "plain"


class NearZeroOfTheDerivative(nn.Module):
    """SiLU where its derivative is close to zero, so that small images see little but its change."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 16, 5, padding=2), nn.Conv2d(16, 8, 5, padding=2)
        with torch.no_grad():
            self.first.bias.fill_(-1.2784645)
            self.first.weight.mul_(0.3)

    def forward(self, x):
        return self.last(F.silu(self.first(x)))


@pytest.mark.parametrize("contrast", [1, 0.1, 0.01, 0.003])
def test_half_precision_of_the_derivative_has_a_bounded_error(contrast):
    torch.manual_seed(0)
    assert check(NearZeroOfTheDerivative().eval(), contrast * torch.randn(1, 3, 96, 96)) == "lean"


class PowerPerChannel(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.power = nn.Conv2d(3, 8, 3), nn.Parameter(torch.rand(1, 8, 1, 1) + 1)

    def forward(self, x):
        return self.stem(x).clamp(min=1e-6).pow(self.power)


def test_arguments_of_another_kind_than_expected_have_no_lean_form():
    torch.manual_seed(0)
    assert check(PowerPerChannel().eval(), torch.randn(1, 3, 64, 64)) == "plain"
