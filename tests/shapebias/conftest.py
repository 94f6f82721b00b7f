"""Observers whose answers are known."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shapebias.answers.observers import Observer, make_trials, write_raw_data
from shapebias.network import inference
from shapebias.stimuli.images import Stimulus, parse_image_name


@pytest.fixture
def make_observer() -> Callable[..., Observer]:
    """Build an observer from `{image name: answer}`."""

    def build(answers: dict[str, str], *, name: str = "net", **fields) -> Observer:
        return Observer(name, make_trials(name, list(answers), list(answers.values())), **fields)

    return build


@pytest.fixture(scope="session")
def people_folder(tmp_path_factory, names) -> Path:
    """Two people: one names every shape, the other every texture."""
    folder = tmp_path_factory.mktemp("people")
    stimuli = [Stimulus(Path(name), *parse_image_name(name)) for name in names]
    write_raw_data(folder / "1.csv", "subject-01", stimuli, [item.shape for item in stimuli])
    write_raw_data(folder / "2.csv", "subject-02", stimuli, [item.texture for item in stimuli])
    return folder


@pytest.fixture
def quick(monkeypatch) -> None:
    """Answers without asking the network: probabilities that depend on its name only."""

    def predict(model, stimuli, *, name, **_):
        draws = np.random.default_rng(len(name)).random((len(stimuli), 1000), np.float32)
        return draws / draws.sum(axis=1, keepdims=True)

    monkeypatch.setattr(inference, "predict", predict)


@pytest.fixture
def arguments(benchmark_folder, people_folder, tmp_path) -> list[str]:
    """Options of a run on the fixture's benchmark."""
    return [
        *("--stimuli", str(benchmark_folder), "--humans", str(people_folder)),
        *("--output", str(tmp_path / "out"), "--device", "cpu", "--batch-size", "64"),
    ]
