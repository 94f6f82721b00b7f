"""Results made without a network, for tests of code that uses results."""

from datetime import datetime, timezone

import numpy as np

from erf.measures.sums import map_sums, stack_sums
from erf.results.files import ErfResult
from runkit import describe_run

__all__ = ["make_erf_result"]


def make_erf_result(name: str, sigma: float, *, random: bool = False, side: int = 65, images: int = 6) -> ErfResult:
    """A receptive field of `images` Gaussians about `sigma` pixels wide, with the provenance of a run."""
    distance = np.arange(side) - side // 2
    squared = distance[:, None] ** 2 + distance[None, :] ** 2
    widths = sigma * np.random.default_rng(0).uniform(0.8, 1.2, images)
    maps = [np.exp(-squared / (2 * width**2)) for width in widths]
    random_weights = {"label": "RANDOM WEIGHTS (seed 3)", "source": "random", "seed": 3, "init": "timm"}
    trained = {"label": f"weights {name}", "source": "file", "file": "w.pth", "sha256": "a" * 64}
    provenance = {
        **describe_run(
            program="erf.visualize",
            arguments=["--model", name],
            started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
            seconds=6.7,
        ),
        "identity": {"model": name, "random": random},
        "weights": {"model": name, "random": random, **(random_weights if random else trained)},
        "data": {"name": "photos", "sha256": "b" * 64, "images_used": images, "images_found": images + 1},
        "skipped": [{"image": "torn.jpg", "reason": "unreadable: cut off"}],
        "layer": "last",
        "precision": "float32",
        "device": "cpu",
    }
    sums = stack_sums([map_sums(one) for one in maps])
    return ErfResult(name, np.mean(maps, axis=0), provenance, sums, tuple(map(str, range(images))))
