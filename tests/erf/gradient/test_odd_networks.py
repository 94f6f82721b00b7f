"""Networks with several data types, that cannot be copied, that refer to themselves, or that have no gradient."""

import threading
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

import erf
from erf.gradient.contribution import ForwardError, LayerError, NotDifferentiable, central_gradients
from erf.gradient.lean.copies import CannotCopy, copy_network
from erf.gradient.lean.prepare import prepare
from erf.gradient.positions import CENTRE
from replknet.zoo import resolve_weights
from runkit import UserError


def reference(model, x):
    """The map by plain autograd in float64."""
    x = x.double().clone().requires_grad_()
    feat = model(x)
    (gradient,) = torch.autograd.grad(feat[:, :, feat.shape[2] // 2, feat.shape[3] // 2].relu().sum(), x)
    return gradient.relu().sum(1).mean(0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 4, 4), nn.Conv2d(6, 6, 3, padding=1)
        nn.init.ones_(self.second.bias)

    def forward(self, x):
        return self.second(self.first(x).relu())


def built(kind, seed=0):
    torch.manual_seed(seed)
    return kind().eval()


def photo():
    return torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))


# several types


class Scaled(Net):
    """A network whose first parameter has another data type than the convolutions, which take float32."""

    other: ClassVar[torch.dtype]

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((1,), 1.5, dtype=self.other))  # of this module, and so before all others

    def forward(self, x):
        return super().forward(x) * self.scale.to(x.dtype)


@pytest.mark.parametrize("other", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("plain", [False, True])
def test_a_network_of_several_types_takes_images_as_they_are(other, plain):
    model = built(type("Scaled", (Scaled,), {"other": other}))
    expected = reference(built(type("Scaled", (Scaled,), {"other": other})).double(), photo())
    for layer in ("last", "second"):
        factor = 1.5 if layer == "last" else 1
        found = erf.contribution_map(model, photo(), layer=layer, plain=plain)
        assert (found * 1.5 / factor - expected).norm() < 1e-5 * expected.norm()
    assert erf.theoretical_field(model, (64, 64)).side_px in ((12, 12), None)


class HalfBody(Net):
    """A network whose first convolution is float16, and its second float32."""

    def __init__(self):
        super().__init__()
        self.first.half()

    def forward(self, x):
        return self.second(self.first(x).float())


def test_images_of_a_type_that_a_mixed_network_does_not_take():
    model = built(HalfBody)
    with pytest.raises(ForwardError, match="type") as error:
        erf.contribution_map(model, photo())
    assert error.value.hint == (
        "its parameters are float16 and float32, and the images float32: give them in the type that it takes"
    )
    found = erf.contribution_map(model, photo().half())
    twin = built(HalfBody)
    twin.forward = lambda x: twin.second(twin.first(x))
    expected = reference(twin.double(), photo())
    assert (found - expected).norm() < 0.02 * expected.norm()


# copies


class Locked(Net):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()


class Generating(Net):
    def __init__(self):
        super().__init__()
        self.numbers = (n for n in range(3))


class HoldingResult(Net):
    def __init__(self):
        super().__init__()
        self.results = [self.first.weight.sum() * 2]


@pytest.mark.parametrize("kind", [Locked, Generating, HoldingResult])
def test_a_network_that_cannot_be_copied_runs_as_it_is(kind):
    model = built(kind)
    with pytest.raises(CannotCopy, match="it cannot be copied"):
        copy_network(model)
    expected = reference(built(kind).double(), photo())
    for layer in ("last", "second"):
        for plain in (False, True):
            found = erf.contribution_map(model, photo(), layer=layer, plain=plain)
            assert (found - expected).norm() < 1e-5 * expected.norm()
    prepared = prepare(model, in_place=False)
    assert prepared.network.choose(photo(), CENTRE).model is model
    assert prepared.as_dict()["form"] == "plain"
    assert prepared.as_dict()["form_reason"].startswith("it cannot be copied")
    prepared = prepare(model)  # which may change it, and needs no copy
    found = central_gradients(prepared.network, photo()).maps.mean(0)
    assert (found - expected).norm() < 1e-5 * expected.norm()


def test_a_network_on_the_command_line_that_cannot_be_copied(tmp_path):
    (tmp_path / "held.py").write_text(
        "import threading\nfrom torch import nn\nnet = nn.Sequential(nn.Conv2d(3, 4, 3))\nnet.lock = threading.Lock()\n"
    )
    with pytest.raises(UserError, match=r"cannot be copied .*; name a function that builds it"):
        resolve_weights(f"{tmp_path / 'held.py'}:net", "auto")


@pytest.mark.parametrize("compile_it", [torch.jit.script, lambda net: torch.jit.trace(net, torch.randn(1, 3, 64, 64))])
def test_scripted_networks(compile_it):
    expected = reference(built(Net).double(), photo())
    model = compile_it(built(Net))
    for plain in (False, True):
        found = erf.contribution_map(model, photo(), plain=plain)
        assert (found - expected).norm() < 1e-5 * expected.norm()
    assert prepare(model).as_dict() == {"form": "plain", "form_reason": "it is scripted"}  # and so cannot be changed


class PartScripted(Net):
    def __init__(self):
        super().__init__()
        self.second = torch.jit.script(self.second)


def test_a_network_with_a_scripted_module():
    expected = reference(built(Net).double(), photo())
    model = built(PartScripted)
    for plain in (False, True):
        found = erf.contribution_map(model, photo(), plain=plain)
        assert (found - expected).norm() < 1e-5 * expected.norm()
    with pytest.raises(LayerError, match="layer 'second' is scripted, so its output cannot be captured"):
        erf.contribution_map(model, photo(), layer="second")


class Closure(Net):
    """A network whose forward pass is a function that refers to this very network, even in a copy."""

    def __init__(self):
        super().__init__()
        self.run = lambda x: self.second(self.first(x).relu())

    def forward(self, x):
        return self.run(x)


def test_a_layer_of_a_network_that_holds_on_to_itself():
    expected = reference(built(Closure).double(), photo())
    model = built(Closure)
    for layer in ("last", "second"):
        for plain in (False, True):
            found = erf.contribution_map(model, photo(), layer=layer, plain=plain)
            assert (found - expected).norm() < 1e-5 * expected.norm()


# gradients that cannot be had


class Failing(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        raise ValueError("no way back")


class Ends(Net):
    def __init__(self, end):
        super().__init__()
        self.end = end

    def forward(self, x):
        return self.end(self, self.first(x))


def overwritten(net, x):
    x = x.exp()
    y = net.second(x)
    x.mul_(2)
    return x.sigmoid_() * 0 + y


def overwritten_after_normalisation(net, x):
    channels = x.shape[1]
    y = nn.functional.batch_norm(x, x.new_zeros(channels), x.new_ones(channels), x.new_ones(channels).requires_grad_())
    x[:, :2].relu_()
    return y + net.second(x)


ENDS = {
    "a checkpoint that is entered again": (
        lambda net, x: checkpoint(net.second, x, use_reentrant=True),
        "no gradient of layer 'output' .* torch.utils.checkpoint with use_reentrant=True: .*use_reentrant=False",
    ),
    "a function without a way back": (
        lambda net, x: net.second(Failing.apply(x)),
        r"the gradient of layer 'output' .*cannot be computed \(ValueError: no way back\): name an earlier layer",
    ),
    "a tensor that was overwritten": (overwritten, r"cannot be computed \(RuntimeError: .*inplace"),
    "one that was normalised before": (
        overwritten_after_normalisation,
        r"cannot be computed \(RuntimeError: .*inplace",
    ),
}


@pytest.mark.filterwarnings(
    "ignore:None of the inputs have requires_grad"
)  # the checkpoint, in passes without gradient
@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("case", ENDS)
def test_a_gradient_that_cannot_be_had_is_one_sentence(case, plain):
    end, message = ENDS[case]
    model = built(lambda: Ends(end))
    with pytest.raises(NotDifferentiable, match=message):
        erf.contribution_map(model, photo(), plain=plain)
    expected = erf.contribution_map(built(Net), photo(), layer="first")
    torch.testing.assert_close(erf.contribution_map(model, photo(), layer=erf.Layer("first", call=0)), expected)


def test_a_checkpoint_that_is_not_entered_again_works():
    model = built(lambda: Ends(lambda net, x: checkpoint(net.second, x.relu(), use_reentrant=False)))
    expected = reference(built(Net).double(), photo())
    found = erf.contribution_map(model, photo())
    assert (found - expected).norm() < 1e-5 * expected.norm()
