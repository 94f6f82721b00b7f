"""Observers whose answers are known."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import tenth_of_the_images

from shapebias.answers.observers import Observer, make_trials, write_raw_data
from shapebias.answers.raw_data import COLUMNS, PERSON_PREFIX
from shapebias.network import inference
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.experiments import EXPERIMENTS
from shapebias.stimuli.images import Stimulus, parse_image_name


@pytest.fixture
def make_observer() -> Callable[..., Observer]:
    """Build an observer from `{image name: answer}`."""

    def build(answers: dict[str, str], *, name: str = "net", **fields) -> Observer:
        return Observer(name, make_trials(name, list(answers), list(answers.values())), **fields)

    return build


@pytest.fixture(scope="session")
def people_folder(tmp_path_factory, names) -> Path:
    """Two people who saw a tenth of the images: one always names the shape, the other always the texture."""
    folder = tmp_path_factory.mktemp("people")
    stimuli = [Stimulus(Path(name), *parse_image_name(name)) for name in names[::10]]
    write_raw_data(folder / "1.csv", "subject-01", stimuli, [item.shape for item in stimuli])
    write_raw_data(folder / "2.csv", "subject-02", stimuli, [item.texture for item in stimuli])
    return folder


@pytest.fixture
def tenth() -> Iterator[None]:
    """Experiments with 80 images of each category have only eight, as in `few_images`."""
    with tenth_of_the_images():
        yield


@pytest.fixture(scope="session")
def link_images(tmp_path_factory) -> Callable[[Path, Iterable[str]], Path]:
    """Fill a folder with grey PNGs of 224 × 224 pixels with the given names (links to one file) and return it."""
    seed = tmp_path_factory.mktemp("seed") / "grey.png"
    Image.new("RGB", (224, 224), "grey").save(seed)

    def build(folder: Path, names: Iterable[str]) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            os.link(seed, folder / name)
        return folder

    return build


@pytest.fixture
def made_up_archive(link_images, tmp_path) -> Callable[[str], Path]:
    """Make the folder of a dataset whose archive has one folder, with the published number of images and made-up names.

    `made_up_archive("rotation")` returns `.../rotation`, which holds `dnn/session-1`.
    """

    def build(dataset: str) -> Path:
        experiment = EXPERIMENTS[dataset]
        tokens = [condition.token for condition in experiment.conditions] or ["0"]
        each = experiment.images_per_category // len(tokens)
        trials = [(token, category, n) for n in range(each) for token in tokens for category in CATEGORIES]
        names = [
            f"{trial:04}_{dataset[:3]}_dnn_{token}_{category}_{each}_n{CATEGORIES.index(category):08}_{trial}.png"
            for trial, (token, category, _) in enumerate(trials, start=1)
        ]
        link_images(tmp_path / "made-up" / dataset / "dnn" / "session-1", names)
        return tmp_path / "made-up" / dataset

    return build


@pytest.fixture
def quick(monkeypatch) -> None:
    """Replace the network's answers by probabilities that depend only on its name."""

    def predict(model, stimuli, *, name, **_):
        draws = np.random.default_rng(len(name)).random((len(stimuli), 1000), np.float32)
        return draws / draws.sum(axis=1, keepdims=True)

    monkeypatch.setattr(inference, "predict", predict)


@pytest.fixture
def drawing_arguments(few_images, people_folder, tenth, tmp_path) -> list[str]:
    """Options of a run on a tenth of the fixture's benchmark."""
    return [
        *("--stimuli", str(few_images), "--humans", str(people_folder)),
        *("--output", str(tmp_path / "out"), "--device", "cpu", "--batch-size", "64"),
    ]


@pytest.fixture
def arguments(drawing_arguments, no_pictures) -> list[str]:
    """Options of such a run without pictures."""
    return drawing_arguments


@pytest.fixture(scope="session")
def write_answers() -> Callable[..., Path]:
    """Write made-up answers to a dataset, 16 images per condition: `write_answers(folder, "edge", "net", 0.7)`.

    The images are the same for all observers, and an observer is right with the given probability. Returns the path of
    the CSV.
    """

    def build(folder: Path, dataset: str, subject: str, accuracy: float, *, seed: int = 0) -> Path:
        experiment = EXPERIMENTS[dataset]
        rng = np.random.default_rng([seed, len(subject), *subject.encode()])
        path = folder / dataset / f"{dataset}_{subject.replace('_', '-')}_session-1.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [",".join(COLUMNS)]
        tokens = [condition.token for condition in experiment.conditions] or ["0"]
        for position, token in enumerate(tokens):
            for number, category in enumerate(CATEGORIES):
                answer = category if rng.random() < accuracy else CATEGORIES[(number + 1) % 16]
                image = f"{category}{position + 1}{'-cat1' if experiment.two_cues else ''}.png"
                name = f"0001_x_s01_{token}_{category}_00_{image}"
                time = 0.5 if subject.startswith(PERSON_PREFIX) else "NaN"
                rows.append(f"{subject},1,{len(rows)},{time},{answer},{category},{token},{name}")
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        return path

    return build


@pytest.fixture(scope="session")
def raw_folder(tmp_path_factory, write_answers) -> Path:
    """Answers of two networks and three persons to two datasets of 16 images per condition."""
    folder = tmp_path_factory.mktemp("raw")
    for dataset in ("edge", "rotation"):
        for subject, accuracy in (("good_net", 0.9), ("bad_net", 0.4)):
            write_answers(folder, dataset, subject, accuracy)
        for person in range(1, 4):
            write_answers(folder, dataset, f"subject-0{person}", 0.8)
    return folder
