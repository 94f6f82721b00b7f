"""The loop over images: batch size, interruptions and bad images do not affect the result more than they should."""

import logging

import numpy as np
import pytest
import torch
from torch import nn

from erf.gradient.accumulate import accumulate, unpack
from erf.gradient.images import find_images
from erf.gradient.lean.prepare import Prepared
from erf.gradient.ready import Question, ReadyNetwork
from erf.measures.sums import map_sums, stack_sums
from replknet.zoo import Preprocessing
from runkit import UserError
from runkit.compute.rounds import Loop
from runkit.progress import find_progress, save_progress

PREPROCESSING = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), (32, 32), "bicubic", 1.0)


class Network(nn.Module):
    """A small network with a position-dependent gradient; counts its calls and fails on demand."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 5, padding=2)
        self.calls = 0
        self.fail_at = {}
        self.double().eval()

    def forward_features(self, x):
        self.calls += 1
        if self.calls in self.fail_at:
            raise self.fail_at.pop(self.calls)
        return self.conv(x).square()


@pytest.fixture
def run(photo_folder):
    torch.manual_seed(0)
    network = Network()
    images = find_images(photo_folder, 4)

    def call(layer="last", label="the network", until=None, **kwargs):
        prepared = Prepared(network, torch.contiguous_format)
        ready = ReadyNetwork(prepared, PREPROCESSING, torch.device("cpu"), precision="float64", label=label)
        return accumulate(ready, images, Question((32, 32), layer), Loop(**kwargs), until=until)

    call.network, call.images = network, images
    return call


def test_batches_do_not_matter(run):
    one, many = run(batch_size=1), run(batch_size=3)
    np.testing.assert_allclose(one.total, many.total, rtol=1e-12)
    assert one.done == many.done == 4
    assert one.feature_size == (32, 32)
    assert one.names == many.names == tuple(p.relative_to(run.images.root).as_posix() for p in run.images.paths)
    whole = map_sums(one.total)
    np.testing.assert_allclose(stack_sums(one.sums).rings.sum(0), whole.rings[0], rtol=1e-12)
    np.testing.assert_allclose(stack_sums(one.sums).moments.sum(0), whole.moments[0], rtol=1e-10, atol=1e-6)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("the machine went away")])
def test_an_interrupted_run_continues_to_the_same_bits(run, tmp_path, error):
    whole = run()
    path, identity = tmp_path / "partial.npz", {"model": "a"}
    run.network.fail_at = {run.network.calls + 3: error}
    saved = []

    def keep(arrays, head):
        saved.append(head["done"])
        save_progress(path, identity, arrays, head)

    ends_in = UserError if isinstance(error, RuntimeError) else KeyboardInterrupt  # the network's own words, in a line
    with pytest.raises(ends_in, match=str(error) or None):
        run(keep=keep)
    if isinstance(error, RuntimeError):  # nothing was saved yet: it was a matter of seconds
        assert saved == []
        return
    assert saved == [2]
    progress = find_progress(path, identity, resume=True)
    assert unpack(progress).done == 2
    continued = run(batch_size=None, saved=progress)
    assert np.array_equal(continued.total, whole.total)
    for name, array in stack_sums(whole.sums).as_arrays().items():
        assert np.array_equal(stack_sums(continued.sums).as_arrays()[name], array)
    assert continued.names == whole.names


def test_progress_is_saved_every_ten_batches_and_at_the_end(run, monkeypatch):
    monkeypatch.setattr("runkit.progress._SAVE_EVERY_BATCHES", 3)
    saved = []
    run(keep=lambda arrays, head: saved.append(head["done"]))
    assert saved == [3, 4]


def test_unreadable_images_are_skipped_and_named(run, photo_folder, caplog):
    (photo_folder / "class0" / "1.png").write_text("no image")
    (photo_folder / "class1" / "2.png").write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        state = run(batch_size=2)
    assert [entry["image"] for entry in state.skipped] == ["class0/1.png", "class1/2.png"]
    assert all("unreadable" in entry["reason"] for entry in state.skipped)
    assert len(state.sums) == len(state.names) == 2
    assert state.done == 4
    assert "skipped class0/1.png" in caplog.text


def test_not_finite_gradients_are_skipped_and_named(run):
    run.network.conv.weight.data.fill_(float("inf"))
    state = run()
    assert not state.sums
    assert {entry["reason"] for entry in state.skipped} == {"the gradient is not finite"}


def test_out_of_memory_halves_the_batch(run, caplog):
    expected = run(batch_size=1)
    run.network.fail_at = {run.network.calls + 1: torch.OutOfMemoryError("no memory left")}
    with caplog.at_level(logging.WARNING):
        state = run(batch_size=4)
    assert "batches of 2" in caplog.text
    np.testing.assert_allclose(state.total, expected.total, rtol=1e-12)
    run.network.fail_at = {run.network.calls + 1: torch.OutOfMemoryError("no memory left")}
    with pytest.raises(UserError, match="not enough memory for one image"):
        run(batch_size=1)


def test_a_layer_that_is_not_there_is_the_users_error(run):
    with pytest.raises(UserError, match="conv2"):
        run(layer="conv2", label="net")


def test_a_run_ends_at_the_image_that_is_enough(run, monkeypatch):
    """This holds for any batch size, and resuming takes no more images."""
    monkeypatch.setattr("erf.gradient.accumulate.MIN_IMAGES", 2)
    monkeypatch.setattr("erf.gradient.accumulate.shuffled", lambda count: [3, 1, 0, 2])
    asked = []

    def narrow(side, share):
        asked.append(side)
        return len(asked) == 2

    monkeypatch.setattr("erf.gradient.accumulate.is_narrow", narrow)
    order = [run.images.name_of(run.images.paths[index]) for index in (3, 1, 0)]
    kept, whole = [], None
    for batch_size in (1, 2, 4):
        asked.clear()
        state = run(until=0.05, batch_size=batch_size, keep=lambda *saved: kept.append(saved))
        assert (list(state.names), state.done, state.enough) == (order, 3, True)
        whole = whole or state
        np.testing.assert_allclose(state.total, whole.total, rtol=1e-12)
    save_progress(path := run.images.root / "partial.npz", {"model": "a"}, *kept[-1])
    calls = run.network.calls
    again = run(until=0.05, saved=find_progress(path, {"model": "a"}, resume=True))
    assert (list(again.names), run.network.calls) == (order, calls)
