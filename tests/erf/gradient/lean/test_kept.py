"""An unchanged network is not proven again; a changed network is, whatever has changed."""

import gc
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from support import randomize_norms
from torch import nn

import erf
from erf.gradient.layers.steady import UnsteadyForward
from erf.gradient.lean import kept, proof

SCALE = 1.0


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3)
        self.scale = 1.0

    def forward(self, x):
        return self.second(self.norm(self.first(x)).relu() * self.scale * SCALE)


@pytest.fixture
def proofs(monkeypatch):
    """A list that gets one more entry with each proof."""
    made = []
    compare = proof._compare
    monkeypatch.setattr(proof, "_compare", lambda *args: (made.append(1), compare(*args))[1])
    kept._kept.clear()
    return made


def make():
    torch.manual_seed(0)
    return randomize_norms(Net().eval())


def assert_right(model, x):
    found, expected = erf.contribution_map(model, x), erf.contribution_map(model, x, plain=True)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * expected.max().item())
    return found


def test_the_same_network_is_proven_once(proofs):
    model, x = make(), torch.randn(1, 3, 64, 64)
    assert torch.equal(assert_right(model, x), assert_right(model, x.clone()))
    assert len(proofs) == 1
    assert_right(model, torch.randn(1, 3, 96, 64))
    assert_right(model, torch.randn(2, 3, 96, 64))
    assert len(proofs) == 3


def doubled(value):
    value.mul_(2)


def patched(model):
    model.forward = types.MethodType(lambda self, x: 3 * Net.forward(self, x), model)


def wrapped(model):
    model.forward = lambda x: 3 * Net.forward(model, x)


CHANGES = {
    "a weight, in place": lambda model: doubled(model.first.weight.detach()),
    "a weight, behind autograd's back": lambda model: doubled(model.second.weight.data),
    "two weights exchanged": lambda model: model.second.weight.data.copy_(model.second.weight.data.flip(1)),
    "a weight by NumPy": lambda model: doubled(torch.from_numpy(model.second.bias.detach().numpy())),
    "a new parameter": lambda model: setattr(model.second, "bias", nn.Parameter(torch.ones(4))),
    "statistics": lambda model: doubled(model.norm.running_var),
    "an attribute": lambda model: setattr(model, "scale", 2.0),
    "a stride": lambda model: setattr(model.second, "stride", (2, 2)),
    "the forward": patched,
    "the forward, by one that holds on to the network": wrapped,
    "a submodule": lambda model: setattr(model, "second", nn.Conv2d(4, 4, 5).eval()),
    "a hook": lambda model: model.first.register_forward_hook(lambda module, args, output: 2 * output.sigmoid()),
    "a hook on gradients": lambda model: model.first.register_full_backward_hook(
        lambda module, given, _: (3 * given[0],)
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_network_that_changed_is_proven_again(change, proofs):
    model, x = make(), torch.randn(1, 3, 64, 64)
    before = assert_right(model, x)
    with torch.no_grad():
        CHANGES[change](model)
    after = assert_right(model, x)
    assert not torch.allclose(before, after, rtol=1e-3)
    assert len(proofs) == (
        1 if "hook" in change or "holds" in change else 2
    )  # with hooks and the like it has no lean form


def test_a_global_variable_that_changed_is_seen(proofs, monkeypatch):
    model, x = make(), torch.randn(1, 3, 64, 64)
    before = assert_right(model, x)
    monkeypatch.setattr(f"{__name__}.SCALE", -1.0)
    assert not torch.allclose(before, assert_right(model, x), rtol=1e-3)
    assert len(proofs) == 2


def test_a_network_that_is_gone_is_not_kept(proofs):
    model = make()
    assert_right(model, torch.randn(1, 3, 64, 64))
    assert len(kept._kept) == 1
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert not kept._kept


class Configured(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3)
        self.config = types.SimpleNamespace(drop=0.0, mix=False)

    def forward(self, x):
        x = self.first(x).relu()
        if self.config.drop:
            x = nn.functional.dropout(x, self.config.drop, True)
        if self.config.mix:
            x = x - 3 * x.mean((0, 2, 3), keepdim=True)
        return self.second(x)


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("change", [{"drop": 0.5}, {"mix": True}])
def test_a_change_of_a_configuration_object_is_checked(change, plain):
    torch.manual_seed(0)
    model, x = Configured().eval(), torch.randn(2, 3, 64, 64)
    erf.contribution_map(model, x, plain=plain)
    vars(model.config).update(change)
    with pytest.raises(UnsteadyForward):
        erf.contribution_map(model, x, plain=plain)


@pytest.mark.parametrize("plain", [False, True])
def test_a_change_that_no_attribute_shows_is_checked(plain):
    torch.manual_seed(0)
    config = {"mix": False}

    class Global(nn.Sequential):
        def forward(self, x):
            x = super().forward(x)
            return x - 3 * x.mean((0, 2, 3), keepdim=True) if config["mix"] else x

    model, x = Global(nn.Conv2d(3, 4, 3)).eval(), torch.randn(2, 3, 64, 64)
    erf.contribution_map(model, x, plain=plain)
    config["mix"] = True
    with pytest.raises(UnsteadyForward):
        erf.contribution_map(model, x, plain=plain)


def test_threads_leave_the_network_and_the_settings_as_they_were():
    model, x = make(), torch.randn(1, 3, 64, 64)
    buffers, deterministic = list(model.buffers()), torch.backends.cudnn.deterministic
    expected = erf.contribution_map(model, x)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda plain: erf.contribution_map(model, x, plain=plain), [False, True] * 8))
    assert all((one - expected).norm() < 1e-5 * expected.norm() for one in found)
    assert all(one is other for one, other in zip(buffers, model.buffers(), strict=True))
    assert torch.backends.cudnn.deterministic == deterministic
