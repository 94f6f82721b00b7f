"""Contribution maps compared with closed forms and with plain autograd."""

import pytest
import timm
import torch
from support import randomize_norms
from torch import nn

from erf.gradient.contribution import LayerError, central_gradients, contribution_map, contribution_maps, feature_map
from replknet import optimize


class Stack(nn.Module):
    """Convolutions with all weights equal to `value`; away from the borders, the map has a closed form."""

    def __init__(self, kernels, value=1.0, channels=3):
        super().__init__()
        layers = []
        for kernel in kernels:
            conv = nn.Conv2d(channels, 1, kernel, padding=kernel // 2, bias=False)
            nn.init.constant_(conv.weight, value)
            layers.append(conv)
            channels = 1
        self.layers = nn.Sequential(*layers)
        self.eval()

    def forward(self, x):
        return self.layers(x)

    forward_features = forward


def test_one_convolution_has_a_field_of_its_size():
    contribution = contribution_map(Stack([7]), torch.ones(1, 3, 33, 33))
    expected = torch.zeros(33, 33, dtype=torch.float64)
    expected[13:20, 13:20] = 3.0  # each of three colours contributes 1
    torch.testing.assert_close(contribution, expected)


@pytest.mark.parametrize(("kernel", "depth"), [(3, 1), (3, 4), (5, 3), (13, 2)])
def test_a_stack_of_n_has_n_times_k_minus_1_plus_1(kernel, depth):
    contribution = contribution_map(Stack([kernel] * depth), torch.ones(1, 3, 65, 65))
    side = depth * (kernel - 1) + 1
    rows = contribution.sum(1).nonzero().flatten()
    assert (rows[0].item(), rows[-1].item()) == (32 - side // 2, 32 + side // 2)


def test_a_linear_stack_is_the_convolution_of_its_kernels():
    """Three 3×3 boxes: the profile along a line is (1 3 6 7 6 3 1), the map its outer product."""
    contribution = contribution_map(Stack([3, 3, 3]), torch.ones(1, 3, 21, 21))
    profile = torch.tensor([1.0, 3, 6, 7, 6, 3, 1], dtype=torch.float64)
    torch.testing.assert_close(contribution[7:14, 7:14], 3 * profile[:, None] * profile[None, :])


def test_negative_unit_and_negative_gradient_are_rectified():
    assert not contribution_map(Stack([3], value=1.0), -torch.ones(1, 3, 9, 9)).any()  # unit below zero
    assert not contribution_map(Stack([3], value=-1.0), -torch.ones(1, 3, 9, 9)).any()  # gradient below zero


def test_shifting_the_unit_of_a_larger_map_shifts_the_field():
    small = contribution_map(Stack([5]), torch.ones(1, 3, 20, 20))
    large = contribution_map(Stack([5]), torch.ones(1, 3, 26, 20))
    torch.testing.assert_close(large[3:23], small)


def test_images_average_and_do_not_mix():
    model = timm.create_model("resnet18").eval()
    x = torch.randn(3, 3, 64, 64)
    maps = contribution_maps(model, x)
    assert maps.dtype == torch.float64
    assert maps.shape == (3, 64, 64)
    for i in range(3):
        torch.testing.assert_close(contribution_maps(model, x[i : i + 1])[0], maps[i], rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(contribution_map(model, x), maps.mean(0))


@pytest.mark.parametrize("name", ["resnet18", "efficientnet_lite0", "mobilenetv2_100", "convnext_atto"])
def test_equal_to_the_definition(name):
    """The steps of the released script, written out: relu of the central unit, autograd, relu, sum over colours."""
    model = timm.create_model(name).eval()
    x = torch.randn(1, 3, 96, 96)
    contribution, feature_size = central_gradients(model, x)
    y = x.clone().requires_grad_()
    feat = model.forward_features(y)  # without a final normalisation in these
    (gradient,) = torch.autograd.grad(feat[:, :, feat.shape[2] // 2, feat.shape[3] // 2].relu().sum(), y)
    assert feature_size == tuple(feat.shape[2:])
    torch.testing.assert_close(contribution[0], gradient.relu().sum((0, 1)).double(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_transformers(name):
    model = timm.create_model(name, img_size=96).eval()
    contribution, feature_size = central_gradients(model, torch.randn(1, 3, 96, 96))
    assert feature_size == ((3, 3) if "swin" in name else (6, 6))
    assert contribution[0].sum() > 0


def test_fast_form_against_plain_form():
    """In float64, where rounding flips no ReLU, the merged and folded network gives the map of the published one."""
    model = randomize_norms(timm.create_model("replknet31b", dims=(8, 16, 24, 32), depths=(1, 1, 1, 1))).double().eval()
    x = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    plain = contribution_map(model, x)
    fast = contribution_map(optimize(model), x.contiguous(memory_format=torch.channels_last))
    assert plain.sum() > 0
    torch.testing.assert_close(fast, plain, rtol=1e-9, atol=1e-12 * plain.max().item())


def test_colours_are_not_interchangeable():
    """Swapped colours hardly change the logits, but they must change the map."""
    model = timm.create_model("resnet18").eval()
    x = torch.randn(1, 3, 64, 64)
    a, b = contribution_map(model, x), contribution_map(model, x.flip(1))
    assert (a - b).norm() > 0.1 * a.norm()


def test_the_model_and_the_images_are_left_as_they_were():
    model = timm.create_model("resnet18").eval()
    model.conv1.weight.requires_grad_(False)
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    x = torch.randn(1, 3, 64, 64)
    copy = x.clone()
    contribution_map(model, x)
    with pytest.raises(LayerError):
        contribution_map(model, x, layer="nowhere")
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before
    assert all(p.grad is None for p in model.parameters())
    assert torch.equal(x, copy)
    assert not x.requires_grad
    assert not model.layer4._forward_hooks


def test_works_where_gradients_are_switched_off():
    with torch.no_grad():
        assert contribution_map(Stack([3]), torch.ones(1, 3, 9, 9)).sum() == 27


def test_layers_by_position_and_by_name():
    model = timm.create_model("resnet18").eval()
    x = torch.randn(1, 3, 96, 96)
    for position, name in ((4, "layer4"), (2, "layer2"), (-2, "layer3")):
        assert torch.equal(feature_map(model, x, layer=position), feature_map(model, x, layer=name))
    assert torch.equal(feature_map(model, x, layer="last"), feature_map(model, x, layer="4"))


def test_layers_of_transformers_by_name():
    swin = timm.create_model("swin_tiny_patch4_window7_224", img_size=96).eval()
    vit = timm.create_model("vit_tiny_patch16_224", img_size=96).eval()
    x = torch.randn(1, 3, 96, 96)
    assert torch.equal(feature_map(swin, x, layer="layers.3"), feature_map(swin, x))
    assert torch.equal(feature_map(vit, x, layer="blocks.11"), feature_map(vit, x))


def test_a_plain_module_works_by_a_submodules_name():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)).eval()
    assert contribution_map(model, torch.randn(1, 3, 17, 17), layer="2").shape == (17, 17)
    assert contribution_map(model, torch.randn(1, 3, 17, 17)).shape == (17, 17)  # its output is a map
    with pytest.raises(LayerError, match=r"name a submodule instead \(--layer\), such as 0, 1, 2"):
        contribution_map(nn.Sequential(*model, nn.Flatten()).eval(), torch.randn(1, 3, 17, 17))


@pytest.mark.parametrize(
    ("layer", "message"),
    [("layer5", "no such module; there are conv1"), (7, "feature maps 0 to 4"), ("global_pool", "not a feature map")],
)
def test_wrong_layers(layer, message):
    model = timm.create_model("resnet18").eval()
    with pytest.raises(LayerError, match=message):
        contribution_map(model, torch.randn(1, 3, 64, 64), layer=layer)


def test_train_mode_is_refused():
    with pytest.raises(ValueError, match=r"model\.eval"):
        contribution_map(timm.create_model("resnet18"), torch.randn(1, 3, 64, 64))


def test_not_finite_gradients_are_an_error():
    model = Stack([3], value=float("inf"))
    with pytest.raises(FloatingPointError, match=r"images \[0, 1\]"):
        contribution_map(model, torch.ones(2, 3, 9, 9))


@pytest.mark.parametrize("plain", [False, True])
def test_the_gradient_of_a_unit_that_is_not_finite_is_no_map(plain):
    """The gradient of ReLU ignores NaN, so that the gradient alone looks valid."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1)).eval()
    x = torch.randn(3, 3, 32, 32)
    x[0, :, 16, 16] = float("nan")
    x[2, :, 16, 16] = float("inf")
    maps = contribution_maps(model, x, plain=plain)
    assert [bool(m.isfinite().all()) for m in maps] == [False, True, False]
    with pytest.raises(FloatingPointError, match=r"images \[0, 2\]"):
        contribution_map(model, x, plain=plain)


@pytest.mark.parametrize(
    ("output", "words"),
    [
        (lambda x: {"out": x, "aux": x}, "Head gives a dictionary of out, aux, not a map; name a submodule instead"),
        (lambda x: x.mean((2, 3)), r"Head gives an output of shape \(1, 3\), not a map"),
        (lambda x: None, "Head gives an object of type NoneType, not a map"),
    ],
)
def test_an_output_that_is_no_map_is_named(output, words):
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x):
            return output(self.backbone(x))

    with pytest.raises(LayerError, match=words):
        feature_map(Head().eval(), torch.zeros(1, 3, 16, 16))
