"""Networks that are not what they seem: every map equals plain autograd in float64, whichever form was chosen.

Each case also states the expected form: 'lean' if the effect of all steps is known, else 'plain'.
"""

import logging
import warnings

import pytest
import torch
import torch.nn.functional as F
from support import randomize_norms
from timm.layers import DropPath, ScaledStdConv2d, StdConv2d
from timm.layers.conv2d_same import Conv2dSame
from torch import nn
from torch.nn.utils import parametrizations, prune
from torch.utils.checkpoint import checkpoint

from erf.gradient.contribution import central_gradients
from erf.gradient.lean import proof
from erf.gradient.lean.calls import NoLeanForm
from erf.gradient.lean.prepare import prepare
from erf.gradient.lean.read import lean_form


@pytest.fixture(autouse=True)
def _lean_also_where_it_is_not_faster(monkeypatch):
    monkeypatch.setattr(proof, "why_not_faster", lambda *_: "")


def reference(model, x):
    """The definition of the map: rectified central unit, autograd, rectified gradient, sum over channels."""
    x = x.clone().requires_grad_()
    feat = model(x)
    feat[:, :, feat.shape[2] // 2, feat.shape[3] // 2].relu().sum().backward()
    return x.grad.relu().sum(1)


def conv(inputs=4, outputs=4, kernel=3, **kwargs):
    return nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, **kwargs)


class Net(nn.Module):
    """Two convolutions with the operation of the case between them."""

    def __init__(self, middle=None, forward=None):
        super().__init__()
        self.first, self.second = conv(3), conv()
        nn.init.ones_(self.second.bias)  # so that no unit is zero
        self.middle = middle
        self.case = forward

    def forward(self, x):
        x = self.first(x)
        x = self.middle(x) if self.case is None else self.case(self, x)
        return self.second(x)


# types that are not quite what they are made from


class OwnForward(nn.Conv2d):
    def forward(self, x):
        return super().forward(x) * 2 + 1


class OwnConvForward(nn.Conv2d):
    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight - weight.mean(), bias)


class Scaling(nn.Identity):
    def forward(self, x):
        return x * 3


class HalvingDropPath(DropPath):
    def forward(self, x):
        return x / 2


class OddDropout(nn.Dropout):
    def forward(self, x):
        return x.sigmoid()


class SquaringReLU(nn.ReLU):
    def forward(self, x):
        return super().forward(x) ** 2


class ShiftedNorm(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + x


def patched():
    module = conv()
    module.forward = lambda x: F.conv2d(x, module.weight * 2, padding=1)
    return module


def with_stale_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = nn.utils.weight_norm(conv())
    module.weight_g.data.mul_(3)  # the weight that the module shows is that of before
    return module


def with_stale_pruning():
    module = conv()
    prune.random_unstructured(module, "weight", 0.5)
    module.weight_orig.data.mul_(3)
    return module


def with_hook(register, change):
    module = nn.Sequential(conv(), nn.ReLU())
    getattr(module[0], register)(change)
    return module


# forward passes


class Straight(torch.autograd.Function):
    """Rounds with a straight-through gradient."""

    @staticmethod
    def forward(ctx, x):
        return x.round()

    @staticmethod
    def backward(ctx, grad):
        return grad * 0.5


class Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad):
        return -2 * grad


def relu_source_used_again(net, x):
    return F.relu(x, inplace=True) + x


def relu_method_source_used_again(net, x):
    y = torch.relu_(x)
    return x * 2 + y


def leaky_source_used_again(net, x):
    y = F.leaky_relu(x, 0.1, inplace=True)
    return y + 3 * x


def add_source_used_again(net, x):
    shortcut = x
    x += 1
    return x + 2 * shortcut


def statement_dropped(net, x):
    x.mul_(2)
    x.add_(1)
    return x.relu()


def part_written(net, x):
    x = x * 1
    x[:, :2] = 0
    return x


def part_rectified(net, x):
    x = x * 1
    x[:, :2].relu_()
    return x


def written_through_a_view(net, x):
    y = x.flatten(2)
    y.mul_(3)
    return x.relu()


def written_before_a_view(net, x):
    y = x.permute(0, 2, 3, 1)
    x.mul_(3)
    return y.permute(0, 3, 1, 2) + x


def out_argument(net, x):
    with torch.no_grad():
        y = torch.zeros_like(x)
        torch.add(x, 1, out=y)
    return x * y


def asks_for_the_type(net, x):
    return x.relu() if isinstance(x, torch.Tensor) else x


def asks_for_the_exact_type(net, x):
    return x.relu() if type(x) is torch.Tensor else x


def asks_for_fx(net, x):
    return x if isinstance(x, torch.fx.Proxy) else x.relu()


def asks_for_gradients(net, x):
    return x.relu() if torch.is_grad_enabled() and x.requires_grad else x


def tries(net, x):
    try:
        return x.relu() if float(x.detach().mean()) > -1e9 else x
    except Exception:
        return x


def asks_for_numbers(net, x):
    return x.relu() if (x.detach().mean() > -1e9).item() else x


def asks_for_the_size(net, x):
    return x.relu() if x.shape[-2] > 90 else x.sigmoid()


def branch_without_gradient(net, x):
    with torch.no_grad():
        gate = net.second(x).sigmoid()
    return x * gate


def all_without_gradient_but_a_skip(net, x):
    with torch.no_grad():
        y = net.second(x)
    return x + y


def detached_branch(net, x):
    return x + net.second(x.detach())


def gradient_switched(net, x):
    with torch.set_grad_enabled(False):
        y = x.relu()
    return x + y


def data_of_a_tensor(net, x):
    return x * x.data.relu()


def hook_on_a_tensor(net, x):
    y = x.relu()
    if y.requires_grad:
        y.register_hook(lambda grad: grad * 2)
    return y + x


def hook_on_a_node(net, x):
    y = x.relu()
    if y.grad_fn is not None:
        y.grad_fn.register_prehook(lambda grads: (grads[0] * 2,))
    return y + x


def norm_used_elsewhere(net, x):
    y = net.middle[0](x)
    return net.middle[1](y) + y


def norms_in_a_row_used_elsewhere(net, x):
    y = net.middle[0](net.second(x))
    return net.middle[1](y) + y


def rectified_behind_identity(net, x):
    return net.middle(x) + x


def sum_of_all_and_one_channel(net, x):
    return x + x.mean(1, keepdim=True)


def sum_with_the_mean(net, x):
    return x + x.mean((2, 3), keepdim=True)


def sum_with_a_row(net, x):
    return x + x[:, :, :1]


def sum_with_a_pattern(net, x):
    return x + torch.linspace(0, 1, x.shape[-1], dtype=x.dtype)


def gate_used_twice(net, x):
    gate = x.mean((2, 3)).sigmoid()[:, :, None, None]
    return x * gate + gate * net.second(x)


def gated_and_used_again(net, x):
    return (x * x.mean((2, 3), keepdim=True).sigmoid() + x).relu()


def normed_and_used_again(net, x):
    norm = x.norm(p=2, dim=(2, 3), keepdim=True)
    return x + x * (norm / (norm.mean(1, keepdim=True) + 1e-6))


def means_shared_by_gates(net, x):
    y = net.second(x)
    one, two = x.mean((2, 3), keepdim=True), y.mean((2, 3), keepdim=True)
    return x * (one + two) + y * one.sigmoid() + x * two.tanh()


def written_gate(net, x):
    gate = x.mean((2, 3), keepdim=True)
    kept = gate.clone()
    gate.relu_()
    return x * gate + kept


def squeezed(net, x):
    gate = F.adaptive_avg_pool2d(x, 1).flatten(1)
    gate = F.linear(F.relu(F.linear(gate, net.second.weight[:, :, 0, 0])), net.second.weight[:, :, 1, 1])
    return x * gate.softmax(1).view(x.shape[0], -1, 1, 1).expand_as(x)


def same_map_twice(net, x):
    return torch.cat([x, x], 1)[:, 2:6] + x * x


def parts_of_which_one_is_not_used(net, x):
    _, b, c = x.split([1, 2, 1], 1)
    return torch.cat([c, b, c], 1)


def chosen_channels(net, x):
    return torch.cat([x[:, torch.tensor([2, 0])].relu(), x[:, torch.tensor([3, 1])]], 1)


def channels_chosen_twice(net, x):
    return x[:, torch.tensor([0, 1, 1, 2])]


def channels_last(net, x):
    y = F.layer_norm(x.permute(0, 2, 3, 1), (4,), net.first.bias, net.second.bias)
    y = F.linear(F.gelu(F.linear(y, net.second.weight[:, :, 0, 0])), net.second.weight[:, :, 1, 1], net.second.bias)
    return x + 0.3 * y.permute(0, 3, 1, 2)


def checkpointed(net, x):
    return checkpoint(net.second, x, use_reentrant=False)


def puts_away(net, x):
    if getattr(net, "memory", None) is None:
        net.memory = torch.ones_like(x)
    return x + net.memory


def shuffled(net, x):
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def rolled(net, x):
    return x + torch.roll(x, 1, 2)


def changes_a_constant(net, x):
    bias = torch.zeros(4, 1, 1, dtype=x.dtype)
    y = x + bias
    bias += 1
    return y * 2 + bias


def padded_asymmetrically(net, x):
    return F.conv2d(F.pad(x, (0, 1, 2, 0)), net.second.weight, stride=2)


def widened_and_reflected(net, x):
    return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), net.second.weight)


def case(name, form, forward=None, middle=None):
    return pytest.param(lambda: Net(middle and middle(), forward), form, id=name)


BN = nn.BatchNorm2d

CASES = [
    case("subclass with a forward", "lean", middle=lambda: OwnForward(4, 4, 3, padding=1)),
    case("subclass with a _conv_forward", "lean", middle=lambda: OwnConvForward(4, 4, 3, padding=1)),
    case("timm's Conv2dSame", "lean", middle=lambda: Conv2dSame(4, 4, 3, stride=2)),
    case("timm's Conv2dSame, even", "lean", middle=lambda: Conv2dSame(4, 4, 4, stride=2)),
    case("timm's StdConv2d", "lean", middle=lambda: StdConv2d(4, 4, 3, padding=1)),
    case("timm's ScaledStdConv2d", "lean", middle=lambda: ScaledStdConv2d(4, 4, 3, padding=1)),
    case("padding_mode", "plain", middle=lambda: conv(padding_mode="reflect")),
    case("same padding in words", "lean", middle=lambda: nn.Conv2d(4, 4, 3, padding="same", dilation=2)),
    case("Identity with a forward", "lean", middle=Scaling),
    case("DropPath with a forward", "lean", middle=lambda: HalvingDropPath(0.5)),
    case("DropPath and Dropout in eval mode", "lean", middle=lambda: nn.Sequential(DropPath(0.5), nn.Dropout(0.5))),
    case("Dropout with a forward", "lean", middle=OddDropout),
    case("ReLU with a forward", "lean", middle=SquaringReLU),
    case("norm with a forward", "lean", middle=lambda: ShiftedNorm(4)),
    case("forward patched on the instance", "lean", middle=patched),
    case("old weight_norm, stale", "plain", middle=with_stale_weight_norm),
    case("pruning, stale", "plain", middle=with_stale_pruning),
    case("parametrised weight_norm", "lean", middle=lambda: parametrizations.weight_norm(conv())),
    case("forward hook", "plain", middle=lambda: with_hook("register_forward_hook", lambda m, a, y: y * 2)),
    case("forward pre-hook", "plain", middle=lambda: with_hook("register_forward_pre_hook", lambda m, a: (a[0] * 2,))),
    case(
        "backward hook", "plain", middle=lambda: with_hook("register_full_backward_hook", lambda m, g, h: (g[0] * 2,))
    ),
    case(
        "backward pre-hook",
        "plain",
        middle=lambda: with_hook("register_full_backward_pre_hook", lambda m, g: (g[0] * 2,)),
    ),
    case("norm used elsewhere", "lean", norm_used_elsewhere, lambda: nn.Sequential(BN(4), BN(4))),
    case("norms in a row used elsewhere", "lean", norms_in_a_row_used_elsewhere, lambda: nn.Sequential(BN(4), BN(4))),
    case("norm without statistics", "plain", middle=lambda: BN(4, track_running_stats=False)),
    case("norm without weights", "lean", middle=lambda: BN(4, affine=False)),
    case("in-place ReLU, source used again", "lean", relu_source_used_again),
    case("relu_, source used again", "lean", relu_method_source_used_again),
    case("in-place leaky ReLU, source used again", "lean", leaky_source_used_again),
    case("in-place sum, source used again", "lean", add_source_used_again),
    case(
        "in-place ReLU behind Identity",
        "lean",
        rectified_behind_identity,
        lambda: nn.Sequential(nn.Identity(), nn.ReLU(True)),
    ),
    case(
        "in-place ReLU behind Dropout",
        "lean",
        rectified_behind_identity,
        lambda: nn.Sequential(nn.Dropout(), nn.ReLU(True)),
    ),
    case(
        "in-place ReLU behind DropPath",
        "lean",
        rectified_behind_identity,
        lambda: nn.Sequential(DropPath(0.1), nn.ReLU(True)),
    ),
    case("statements whose result is dropped", "lean", statement_dropped),
    case("part of the channels written", "plain", part_written),
    case("part of the channels rectified", "plain", part_rectified),
    case("written through a view", "plain", written_through_a_view),
    case("written, then read through a view", "plain", written_before_a_view),
    case("out=", "plain", out_argument),
    case("asks whether it has a tensor", "lean", asks_for_the_type),
    case("asks for the exact type", "plain", asks_for_the_exact_type),
    case("asks for torch.fx", "lean", asks_for_fx),
    case("asks whether there are gradients", "lean", asks_for_gradients),
    case("tries", "plain", tries),
    case("asks for numbers", "plain", asks_for_numbers),
    case("asks for the size", "plain", asks_for_the_size),
    case("branch without gradient", "plain", branch_without_gradient),
    case("skip around no_grad", "plain", all_without_gradient_but_a_skip),
    case("detached branch", "plain", detached_branch),
    case("set_grad_enabled", "plain", gradient_switched),
    case(".data", "plain", data_of_a_tensor),
    case("hook on a tensor", "plain", hook_on_a_tensor),
    case("hook on a node", "plain", hook_on_a_node),
    case("straight-through gradient", "plain", lambda net, x: Straight.apply(x) + x),
    case("reversed gradient", "plain", lambda net, x: Reversed.apply(x) + x),
    case("sum with one channel", "lean", sum_of_all_and_one_channel),
    case("sum with the mean", "lean", sum_with_the_mean),
    case("sum with a row", "plain", sum_with_a_row),
    case("sum with a pattern", "plain", sum_with_a_pattern),
    case("gate used twice", "lean", gate_used_twice),
    case("gated, and used again", "lean", gated_and_used_again),
    case("response normalisation, and used again", "lean", normed_and_used_again),
    case("means that gates share", "lean", means_shared_by_gates),
    case("gate written to", "lean", written_gate),
    case("squeeze and excitation by hand", "lean", squeezed),
    case("same map twice", "lean", same_map_twice),
    case("a part that is not used", "lean", parts_of_which_one_is_not_used),
    case("channels chosen by number", "lean", chosen_channels),
    case("a channel chosen twice", "plain", channels_chosen_twice),
    case("channels last", "lean", channels_last),
    case("checkpointed", "lean", checkpointed),
    case("puts a tensor away", "plain", puts_away),
    case("channels shuffled", "plain", shuffled),
    case("rolled", "plain", rolled),
    case("changes a constant after its use", "plain", changes_a_constant),
    case("padded asymmetrically", "lean", padded_asymmetrically),
    case("reflected at the border", "plain", widened_and_reflected),
    case("window wholly in padding", "lean", middle=lambda: nn.Conv2d(4, 4, 1, padding=90)),
    case("window partly in padding", "lean", middle=lambda: nn.Conv2d(4, 4, 3, padding=40, stride=3)),
]


@pytest.mark.parametrize(("make", "form"), CASES)
def test_the_map_is_that_of_plain_autograd_in_float64(make, form, caplog):
    model = make().double().eval()
    randomize_norms(model)
    x = torch.randn(2, 3, 96, 80, dtype=torch.float64)
    expected = torch.cat([reference(model, image[None]) for image in x])  # images have nothing to do with each other
    with caplog.at_level(logging.WARNING):
        prepared = prepare(model)
        found = central_gradients(prepared.network, x).maps
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 + 1e-9 * expected.max().item())
    assert prepared.as_dict()["form"] == form, prepared.as_dict()["form_reason"]


@pytest.mark.parametrize(
    ("middle", "why"),
    [
        (lambda: nn.BatchNorm2d(4).train(), "changes the network"),
        (lambda: nn.BatchNorm2d(4, track_running_stats=False), "native_batch_norm"),
        (lambda: nn.Dropout(0.5).train(), "random"),
        (lambda: DropPath(0.5).train(), "random"),
    ],
)
def test_what_is_not_the_same_each_time_has_no_lean_form(middle, why):
    """A part in train mode has no lean form, and its running statistics stay unchanged while it is examined."""
    module = middle()
    model = Net(nn.Identity()).eval()
    model.middle = module
    state = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(NoLeanForm, match=why):
        lean_form(model, "last", torch.zeros(1, 3, 64, 64))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_a_large_input_of_gelu_is_kept():
    """In half precision, inputs above 65504 would become infinite and their gradient NaN."""
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.GELU(), nn.Conv2d(8, 4, 3, padding=1)).eval()
    nn.init.ones_(model[2].bias)
    with torch.no_grad():
        model[0].weight *= 1e5
    x = torch.randn(1, 3, 64, 64)
    expected = reference(model, x)
    form = lean_form(model, "last", x)
    found = central_gradients(form, x).maps
    assert found.isfinite().all()
    torch.testing.assert_close(found, expected.double(), rtol=1e-3, atol=1e-3 * expected.max().item())


class OnlyPools(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(x, 3, 2, 1)


@pytest.mark.parametrize(("model", "layer"), [(OnlyPools(), "last"), (nn.Sequential(nn.Identity(), conv(3)), "0")])
def test_networks_without_parameters_and_the_image_itself(model, layer):
    x = torch.rand(1, 3, 64, 64)
    prepared = prepare(model.eval(), layer=layer)
    found = central_gradients(prepared.network, x, layer=layer).maps
    expected = central_gradients(model, x, layer=layer).maps
    torch.testing.assert_close(found, expected)
    assert found.any()


def test_the_network_is_left_as_it_is_whatever_it_puts_away():
    model = Net(forward=puts_away).eval()
    x = torch.randn(1, 3, 64, 64)
    with pytest.raises(NoLeanForm):
        lean_form(model, "last", x)
    assert not hasattr(model, "memory")
    assert model(x).isfinite().all()


def tall_and_rectified(net, x):
    return x.relu() + F.conv2d(x, net.second.weight[:, :, :, :1].repeat(1, 1, 3, 1), padding=(4, 0))


@pytest.mark.parametrize(
    ("case", "size"),
    [
        (gated_and_used_again, (96, 80)),
        (normed_and_used_again, (96, 80)),
        (means_shared_by_gates, (96, 80)),
        (tall_and_rectified, (96, 1)),
    ],
)
def test_what_is_needed_later_is_not_written_over(case, size):
    """One pixel of a map, or all columns of some of its rows, can be a contiguous part of its memory."""

    class Ends(Net):
        def forward(self, x):
            return case(self, self.first(x))

    model = randomize_norms(Ends().double().eval())
    x = torch.randn(1, 3, *size, dtype=torch.float64)
    found = central_gradients(lean_form(model, "last", x), x).maps
    expected = reference(model, x)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * expected.max().item())
