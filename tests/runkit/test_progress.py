"""Progress files: refused if they belong to another run, and times at which they are written."""

import numpy as np
import pytest

from runkit import UserError
from runkit.progress import SaveClock, discard_progress, find_progress, save_progress

IDENTITY = {"model": "a", "size": 32, "weights": {"seed": 0}, "layers": (1, 2)}


@pytest.fixture
def path(tmp_path):
    save_progress(tmp_path / "partial.npz", IDENTITY, {"total": np.arange(3.0)}, {"done": 2})
    return tmp_path / "partial.npz"


def test_what_was_saved_is_found(path):
    saved = find_progress(path, IDENTITY, resume=True)
    assert saved.head == {"done": 2}
    assert list(saved.arrays) == ["total"]
    np.testing.assert_array_equal(saved.arrays["total"], [0, 1, 2])


def test_there_is_nothing_to_go_on_with(path):
    assert find_progress(path.with_name("no.npz"), IDENTITY) is None
    assert find_progress(path.with_name("no.npz"), IDENTITY, resume=True) is None
    assert find_progress(path, IDENTITY, overwrite=True) is None


def test_an_unfinished_run_is_not_begun_again_unasked(path):
    with pytest.raises(UserError, match="--resume continues it, --overwrite starts again"):
        find_progress(path, IDENTITY)


def test_progress_of_another_run_is_refused_with_the_difference(path):
    other = {**IDENTITY, "size": 64, "weights": {"seed": 1}}
    with pytest.raises(UserError, match=r"another run \(size: 32 -> 64; weights.seed: 0 -> 1\)"):
        find_progress(path, other, resume=True)
    assert find_progress(path, other, resume=True, overwrite=True) is None


@pytest.mark.parametrize("damage", [lambda b: b[:200], lambda b: b"", lambda b: b[:300] + b"x" * 50 + b[350:]])
def test_a_damaged_file_is_named(path, damage):
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=r"partial.npz is damaged .*start again with --overwrite"):
        find_progress(path, IDENTITY, resume=True)


def test_only_the_progress_of_the_finished_run_is_removed(path):
    discard_progress(path, {**IDENTITY, "size": 64})
    assert path.exists()
    discard_progress(path, IDENTITY)
    discard_progress(path, IDENTITY)
    assert not path.exists()


class Time:
    """A clock that stands still unless it is advanced."""

    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def time(monkeypatch):
    clock = Time()
    monkeypatch.setattr("runkit.progress.time", clock)
    return clock


def batches_between_saves(time, *, batch, save, count):
    """Number of batches of `batch` seconds between saves that take `save` seconds."""
    clock, count_at_saves = SaveClock(), [0]
    for done in range(1, count + 1):
        time.now += batch

        def keep(done=done):
            count_at_saves.append(done)
            time.now += save

        clock.tick(keep)
    return np.diff(count_at_saves).tolist()


def test_progress_is_saved_every_ten_batches_or_every_minute(time):
    assert batches_between_saves(time, batch=1.0, save=0.1, count=30) == [10, 10, 10]
    assert batches_between_saves(time, batch=25.0, save=0.1, count=9) == [3, 3, 3]


def test_saving_does_not_take_more_than_a_twentieth_of_the_time(time):
    assert batches_between_saves(time, batch=0.125, save=1.0, count=330) == [10, 160, 160]


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"total": np.arange(3.0)}, "it has no 'head'"),
        ({"head": np.array("{}")}, "it has no 'identity'"),
        ({"head": np.array("[1]")}, "a part of it is of another type"),
    ],
)
def test_a_file_of_something_else_is_named_in_words(path, arrays, reason):
    np.savez(path, **arrays)
    with pytest.raises(UserError, match=rf"partial\.npz is damaged \({reason}\); start again with --overwrite"):
        find_progress(path, IDENTITY, resume=True)
