"""Theoretical receptive fields: closed forms, published values, and the spread of NaN through networks."""

import pytest
import timm
import torch
from support import Function
from torch import nn
from torch.nn import functional as F

import replknet  # noqa: F401 registers the networks
from erf.gradient.contribution import LayerError, contribution_map, feature_map
from erf.gradient.positions import CENTRE
from erf.gradient.provenance import describe_units
from erf.gradient.theoretical import theoretical_field
from replknet.ops import DepthwiseConv2d


class Features(nn.Module):
    """A network of any layers, whose map is their output."""

    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.eval()

    def forward_features(self, x):
        return self.layers(x)


class Residual(nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return x + self.layers(x)


@pytest.mark.parametrize(
    ("layers", "side", "stride"),
    [
        ([nn.Conv2d(3, 4, 5)], 5, 1),
        ([nn.Conv2d(3, 4, 3, padding=1) for _ in range(1)] + [nn.Conv2d(4, 4, 3) for _ in range(4)], 11, 1),
        ([nn.Conv2d(3, 4, 3, dilation=4)], 9, 1),
        ([nn.Conv2d(3, 4, 7, stride=2, padding=3), nn.MaxPool2d(3, 2, 1)], 11, 4),
        ([nn.AvgPool2d(2), nn.Conv2d(3, 4, 1), nn.ReLU(inplace=True), nn.BatchNorm2d(4)], 2, 2),
        ([Residual(nn.Conv2d(3, 3, 3, padding="same"), nn.GELU())], 3, 1),
        ([DepthwiseConv2d(3, 31), nn.Conv2d(3, 4, 2, 2), DepthwiseConv2d(4, 13)], 31 + 1 + 2 * 12, 2),
        ([Function(lambda x: x * x.mean(1, keepdim=True))], 1, 1),  # over channels: pointwise
    ],
)
def test_fields_known_on_paper(layers, side, stride):
    field = theoretical_field(Features(*layers), (64, 64))
    assert field.side_px == (side, side)
    assert field.stride_px == (stride, stride)


def test_sides_of_their_own():
    field = theoretical_field(Features(nn.Conv2d(3, 4, (3, 7), stride=(1, 2), padding=(1, 0))), (64, 64))
    assert field.side_px == (3, 7)
    assert field.stride_px == (1, 2)
    assert field.first_px == (-1, 0)
    assert field.covers((5, 10)) == [[4, 6], [20, 26]]


def test_explicit_padding_moves_the_field():
    field = theoretical_field(Features(Function(lambda x: F.pad(x, (2, 0, 1, 5))), nn.Conv2d(3, 4, 3)), (64, 64))
    assert field.first_px == (-1, -2)
    assert field.side_px == (3, 3)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("resnet18", 435),
        ("resnet101", 971),
        ("vgg16", 212),
        ("mobilenetv2_100", 491),
        ("inception_v3", 1311),
        ("hrnet_w18_small", 583),
    ],
)
def test_fields_of_known_networks(name, side):
    """As published (Araujo et al. 2019) or counted for these variants."""
    with torch.device("meta"):
        model = timm.create_model(name).eval()
    assert theoretical_field(model, (256, 256)).side_px == (side, side)


def test_field_of_replknet_by_the_formula():
    """1 + sum of (kernel - 1) times the stride so far: the stem and transitions, then each stage's large kernels."""
    with torch.device("meta"):
        model = timm.create_model("replknet31b").eval()
    field = theoretical_field(model, (256, 256))
    stem = 2 * 1 + 2 * 2 + 2 * 2
    stages = sum(d * (k - 1) * s for d, k, s in zip((2, 2, 18, 2), (31, 29, 27, 13), (4, 8, 16, 32), strict=True))
    transitions = 2 * 4 + 2 * 8 + 2 * 16
    assert field.side_px == (1 + stem + stages + transitions,) * 2


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_lite0", "regnetx_002"])
@pytest.mark.parametrize("layer", ["last", 2])
def test_the_field_is_where_nan_reaches_the_unit(name, layer):
    """NaN spreads to everything that depends on it: a row of NaN reaches the unit only if it lies in the field."""
    model = timm.create_model(name).eval()
    height = 1024
    field = theoretical_field(model, (height, 64), layer=layer)
    with torch.no_grad():
        unit = feature_map(model, torch.zeros(1, 3, height, 64), layer=layer).shape[-2] // 2
        (first, last), _ = field.covers((unit, 0))
        assert 0 < first < last < height - 1

        def reached(rows):
            x = torch.zeros(1, 3, height, 64)
            x[:, :, rows] = float("nan")
            return bool(feature_map(model, x, layer=layer)[:, :, unit].isnan().any())

        assert not reached(slice(0, first))
        assert reached(slice(first, first + 1))
        assert reached(slice(last, last + 1))
        assert not reached(slice(last + 1, None))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("efficientnet_b0", "no bound: pooling over the whole image"),
        ("convnextv2_atto", "no bound: pooling over the whole image"),
        ("vit_tiny_patch16_224", "no bound: attention"),
        ("swin_tiny_patch4_window7_224", "no bound: attention"),
    ],
)
def test_fields_without_bound_say_why(name, reason):
    model = timm.create_model(name).eval()
    field = theoretical_field(model, (224, 224))
    assert field.reason.startswith(reason)
    assert field.side_px is field.stride_px is field.first_px is field.covers((0, 0)) is None


def test_the_network_is_left_as_it_was():
    model = timm.create_model("resnet18").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    theoretical_field(model, (64, 64))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not hasattr(model.conv1.weight, "_receptive_field")
    with pytest.raises(LayerError, match="layer9"):
        theoretical_field(model, (64, 64), layer="layer9")


class OtherwiseWithoutData(nn.Module):
    """A network that takes another path for tensors without data."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 5, padding=2)

    def forward(self, x):
        return self.large(x) if type(x) is torch.Tensor else self.small(x)


def test_a_field_that_the_map_reaches_beyond_is_not_known():
    model = OtherwiseWithoutData().eval()
    field = theoretical_field(model, (32, 32))
    assert field.side_px == (3, 3)
    total = contribution_map(model, torch.randn(1, 3, 32, 32)).numpy()
    for map_of_run, reason in ((total, "not known: the map reaches beyond what was followed"), (None, None)):
        said = describe_units((32, 32), (32, 32), [CENTRE], field, total=map_of_run)["theoretical_field"]
        assert said["reason"] == reason
        assert (said["side_px"] is None) == (said["covers_px"] is None) == (reason is not None)
    within = contribution_map(model.small, torch.randn(1, 3, 32, 32)).numpy()
    assert describe_units((32, 32), (32, 32), [CENTRE], field, total=within)["theoretical_field"]["side_px"] == (3, 3)
