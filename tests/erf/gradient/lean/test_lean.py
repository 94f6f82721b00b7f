"""The lean form of a network against autograd on the network itself: the same map, for less memory and work."""

import pytest
import timm
import torch
from support import randomize_norms
from timm.layers.conv2d_same import Conv2dSame
from torch import nn

from erf.gradient.contribution import LayerError, central_gradients, contribution_maps
from erf.gradient.lean import network as lean_network
from erf.gradient.lean.calls import NoLeanForm
from erf.gradient.lean.network import LeanNetwork
from erf.gradient.lean.prepare import prepare
from erf.gradient.lean.read import lean_form
from erf.gradient.lean.steps.geometry import Geometry
from erf.gradient.positions import CENTRE


def trained_like(name, **kwargs):
    """A network in float64 whose normalisations and residual branches are not the identity."""
    model = randomize_norms(timm.create_model(name, **kwargs))
    return model.double().eval()


@pytest.mark.parametrize(
    ("name", "kwargs", "height", "width"),
    [
        ("replknet31b", dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1)), 64, 96),
        ("replknet31b", dict(dims=(8, 16, 24, 32), depths=(1, 1, 2, 1), kernel_sizes=(7, 5, 5, 3)), 256, 224),
        ("resnet18", {}, 96, 96),
        ("resnet50", {}, 96, 128),
        ("resnext50_32x4d", {}, 96, 64),
        ("vgg11_bn", dict(mlp_ratio=0.01), 64, 64),
    ],
)
def test_in_float64_the_map_is_the_plain_one(name, kwargs, height, width):
    model = trained_like(name, **kwargs)
    x = torch.randn(2, 3, height, width, dtype=torch.float64)
    expected = central_gradients(model, x)
    prepared = prepare(model)
    assert isinstance(prepared.network.choose(x, CENTRE), LeanNetwork)
    found = central_gradients(prepared.network, x)
    assert prepared.as_dict()["form"] == "lean"
    assert expected.maps.sum() > 0
    assert found.feature_size == expected.feature_size
    assert ((found.maps - expected.maps).norm() / expected.maps.norm()) < 1e-12


def test_in_float32_half_precision_for_gelu_costs_little():
    model = trained_like("replknet31b", dims=(16, 16, 24, 32), depths=(1, 1, 2, 1))
    x = torch.randn(1, 3, 96, 96, dtype=torch.float64)
    expected = contribution_maps(model, x)
    found = contribution_maps(prepare(model.float()).network, x.float())
    assert ((found - expected).norm() / expected.norm()) < 5e-4


@pytest.mark.parametrize("layer", ["layer3", "layer2.0.conv1", "layer1.1.act2", 2, "-2"])
def test_every_layer_has_a_lean_form(layer):
    model = trained_like("resnet18")
    x = torch.randn(1, 3, 160, 160, dtype=torch.float64)
    expected = central_gradients(model, x, layer=layer)
    found = central_gradients(lean_form(model, layer, x), x)
    assert found.feature_size == expected.feature_size
    torch.testing.assert_close(found.maps, expected.maps, rtol=1e-9, atol=1e-12 * expected.maps.max().item())


@pytest.mark.parametrize("size", [33, 40, 47, 64])
@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(3, 4, 5, stride=3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=2, dilation=2)],
        [nn.Conv2d(3, 4, 4, stride=2), nn.BatchNorm2d(4), nn.GELU(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(4, 2, (3, 1))],
        [nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3, padding=1, groups=3), nn.ReLU(inplace=True), nn.Conv2d(6, 4, 1)],
        [nn.Conv2d(3, 4, 3), nn.AvgPool2d(3, 2, 1), nn.SiLU(), nn.AvgPool2d(3, 1, 1, count_include_pad=False)],
        [nn.ZeroPad2d((0, 1, 3, 2)), nn.Conv2d(3, 4, 3, stride=2), nn.ReLU6(), Conv2dSame(4, 4, 5, stride=3)],
        [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1, padding=3), nn.Conv2d(4, 4, 1, padding=70), nn.Conv2d(4, 4, 2, 7)],
        [nn.ReLU(), nn.MaxPool2d(2), nn.Identity(), nn.Conv2d(3, 2, 7, padding=3), nn.GELU("tanh"), nn.Dropout(0.5)],
    ],
)
def test_strides_borders_and_paddings(layers, size):
    """Windows at the border and inside, leftover pixels, kernels of every kind, and normalisations by themselves."""
    model = randomize_norms(nn.Sequential(*layers)).double().eval()
    for name in [str(i) for i in range(len(layers))]:
        x = torch.randn(2, 3, size, size + 5, dtype=torch.float64)
        expected = central_gradients(model, x, layer=name)
        found = central_gradients(lean_form(model, name, x), x)
        assert found.feature_size == expected.feature_size
        torch.testing.assert_close(found.maps, expected.maps, rtol=1e-9, atol=1e-12)


def test_only_the_window_of_the_unit_is_computed():
    """Two 3×3 convolutions see 5×5 pixels; all other pixels may have any value, even one that is not finite."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)).eval()
    x = torch.full((1, 3, 64, 64), torch.nan)
    x[:, :, 30:35, 30:35] = 1.0
    maps = contribution_maps(lean_form(model, "2", x), x)
    assert maps.isfinite().all()
    assert not maps[:, :30].any()


def test_the_images_and_the_network_are_left_as_they_were():
    model = timm.create_model("resnet18").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    x = torch.randn(1, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    copy = x.clone()
    lean = lean_form(nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 1)).eval(), "1", x)
    for network in (lean, lean_form(model, "last", x)):
        first = contribution_maps(network, x)
        assert torch.equal(contribution_maps(network, x), first)
    assert torch.equal(x, copy)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "poolformer_s12"])
def test_a_network_with_other_steps_has_no_lean_form(name):
    model = timm.create_model(name).eval()
    with pytest.raises(NoLeanForm):
        lean_form(model, "last", torch.zeros(1, 3, 224, 224))
    prepared = prepare(model)
    assert prepared.network.choose(torch.zeros(1, 3, 224, 224), CENTRE).model is model
    assert prepared.as_dict()["form"] == "plain"


def test_a_missing_layer_is_left_to_the_network_itself():
    model = timm.create_model("resnet18").eval()
    for layer in ("layer9", 9):
        prepared = prepare(model, layer=layer)
        assert prepared.network.choose(torch.zeros(1, 3, 64, 64), CENTRE).model is model
        with pytest.raises(LayerError):
            central_gradients(prepared.network, torch.zeros(1, 3, 64, 64), layer=layer)


def test_train_mode_is_refused():
    with pytest.raises(ValueError, match=r"model\.eval"):
        lean_form(timm.create_model("resnet18"), "last", torch.zeros(1, 3, 64, 64))


def test_geometry_on_paper():
    """A 3×3 convolution with stride 2 and padding 1 on 9 pixels has 5 outputs; output i sees 2i - 1 to 2i + 1."""
    geometry = Geometry(kernel=3, stride=2, padding=(1, 1))
    assert geometry.output_size(9) == 5
    assert geometry.crop((1, 3), 9) == ((1, 6), (0, 0), 0)
    assert geometry.crop((0, 2), 9) == ((0, 4), (1, 1), 0)
    assert geometry.crop((3, 5), 9) == ((4, 9), (1, 1), 1)


def test_from_large_maps_on_free_memory_goes_back_and_no_number_changes(monkeypatch):
    layers = [nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()]
    x = torch.randn(1, 3, 128, 128)
    lean = lean_form(nn.Sequential(*layers, nn.Conv2d(8, 8, 13, padding=6)).eval(), "5", x)
    limits = []

    class Freed:
        def keep_within(self, limit, used):
            limits.append((limit, used))

    monkeypatch.setattr(lean_network, "FreedMemory", Freed)
    expected, _ = lean.central_gradient(x)
    assert not limits  # of small maps as much is kept as the C library likes
    monkeypatch.setattr(lean_network, "_LARGE_BYTES", 1 << 10)
    found, _ = lean.central_gradient(x)
    assert torch.equal(found, expected)
    assert len(limits) == 12  # after each of six stretches, forward and back
    assert limits == sorted(limits, key=lambda pair: pair[0])  # a part of the largest map so far
    used = [used for _, used in limits]
    assert max(used) > used[-1] > 0  # what was kept is gone, and the image's gradient is left
