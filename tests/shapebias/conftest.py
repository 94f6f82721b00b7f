"""A complete benchmark of flat images, and observers whose answers are known."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shapebias.categories import CATEGORIES
from shapebias.observers import Observer, make_trials


@pytest.fixture(scope="session")
def names() -> list[str]:
    """80 image names for each of the 16 shapes: textures take turns, so each shape meets each texture five times."""
    return [
        f"{shape}{number // 16 + 1}-{CATEGORIES[number % 16]}{number % 3 + 1}.png"
        for shape in CATEGORIES
        for number in range(80)
    ]


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory, names) -> Path:
    """16 folders of 80 PNGs, 224 × 224; the grey level of an image is 10 times the index of its shape."""
    folder = tmp_path_factory.mktemp("benchmark") / "cue-conflict"
    for index, shape in enumerate(CATEGORIES):
        (folder / shape).mkdir(parents=True)
        Image.fromarray(np.full((224, 224, 3), 10 * index, np.uint8)).save(folder / shape / "seed.png")
    for name in names:
        shape = _shape_of(name)
        os.link(folder / shape / "seed.png", folder / shape / name)
    for shape in CATEGORIES:
        (folder / shape / "seed.png").unlink()
    return folder


def _shape_of(name: str) -> str:
    return name.partition("-")[0].rstrip("0123456789")


@pytest.fixture
def make_observer() -> Callable[..., Observer]:
    """Build an observer from `{image name: answer}`."""

    def build(answers: dict[str, str], *, name: str = "net", **fields) -> Observer:
        return Observer(name, make_trials(name, list(answers), list(answers.values())), **fields)

    return build
