"""Fixtures shared by all tests.

Packages that take seconds to import are imported where they are used, because with pytest-xdist the process that
distributes the tests reads this file, too.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image
from web import Web

from shapebias.stimuli.categories import CATEGORIES

ROOT = Path(__file__).resolve().parent.parent

# The same examples every time; `pytest --hypothesis-profile default` searches for new ones.
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")


@pytest.fixture
def data_dir() -> Path:
    """Folder of test data (stimuli, human answers, photographs), described in CONTRIBUTING."""
    folder = Path(os.environ.get("REPLKNET_TEST_DATA", ROOT / "../shared/data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no test data at {folder}; set REPLKNET_TEST_DATA")
    return folder


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    """Close what a test leaves open in pyplot: past 20 figures matplotlib warns, whichever test comes then."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every host unreachable immediately, and hide the caches of earlier downloads."""
    reason = lambda url, **kwargs: "the test has no network"  # noqa: E731
    monkeypatch.setattr("runkit.fetch.download.cannot_reach", reason)
    monkeypatch.setattr("replknet.weights.sources.cannot_reach", reason)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args, **kwargs: None)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A local HTTP server whose answers are chosen by the test."""
    monkeypatch.setenv("no_proxy", "*")
    with Web() as server:
        yield server


@pytest.fixture
def photo_folder(tmp_path: Path) -> Path:
    """A folder of four small colour images, two levels deep."""
    rng = np.random.default_rng(0)
    for i in range(4):
        folder = tmp_path / "photos" / f"class{i // 2}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """Write pictures as empty files: drawing takes a third of the time of a run and has its own tests."""
    from matplotlib.figure import Figure

    save = Figure.savefig

    def touch(figure: Figure, target, **options) -> None:
        if isinstance(target, str | Path):
            Path(target).touch()
        else:  # a figure for the HTML page
            save(figure, target, **options)

    monkeypatch.setattr(Figure, "savefig", touch)


@pytest.fixture(scope="session")
def names() -> list[str]:
    """80 image names for each of the 16 shapes; each pair of shape and texture occurs five times."""
    return [
        f"{shape}{number // 16 + 1}-{CATEGORIES[number % 16]}{number % 3 + 1}.png"
        for shape in CATEGORIES
        for number in range(80)
    ]


@pytest.fixture(scope="session")
def benchmark_folder(tmp_path_factory, names) -> Path:
    """16 folders of 80 PNGs of 224 × 224 pixels; the grey level of an image is 10 times the index of its shape."""
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


@pytest.fixture(scope="session")
def few_images(tmp_path_factory, benchmark_folder, names) -> Path:
    """A tenth of `benchmark_folder`: eight images of each category."""
    folder = tmp_path_factory.mktemp("few") / "cue-conflict"
    for name in names[::10]:
        (path,) = benchmark_folder.glob(f"*/{name}")
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.link(path, folder / path.parent.name / name)
    return folder


def _shape_of(name: str) -> str:
    return name.partition("-")[0].rstrip("0123456789")
