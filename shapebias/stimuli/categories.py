"""The 16 entry-level categories of the cue-conflict benchmark, and how 1000 class probabilities become one of them.

The categories and the ImageNet classes that belong to them are those of Geirhos et al., "Generalisation in humans and
deep neural networks" (NeurIPS 2018, arXiv:1808.08750), as the model-vs-human toolbox uses them
(`modelvshuman/helper/human_categories.py`, `modelvshuman/datasets/decision_mappings.py`). The table below was derived
from the WordNet ids published there and the order of the ImageNet-1k classes.
"""

from collections.abc import Callable

import numpy as np

__all__ = [
    "AGGREGATIONS",
    "CATEGORIES",
    "IMAGENET_INDICES",
    "NUM_IMAGENET_CLASSES",
    "aggregate_categories",
    "count_ties",
    "decide",
    "decide_among_all",
]

NUM_IMAGENET_CLASSES = 1000
AGGREGATIONS = ("mean", "sum", "max")


def _expand(ranges: str) -> tuple[int, ...]:
    """`"8 10-12"` -> (8, 10, 11, 12)."""
    indices: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        indices.extend(range(int(first), int(last or first) + 1))
    return tuple(indices)


IMAGENET_INDICES: dict[str, tuple[int, ...]] = {
    "airplane": _expand("404"),
    "bear": _expand("294-297"),
    "bicycle": _expand("444 671"),
    "bird": _expand("8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145"),
    "boat": _expand("472 554 625 814 914"),
    "bottle": _expand("440 720 737 898-899 901 907"),
    "car": _expand("436 511 817"),
    "cat": _expand("281-286"),
    "chair": _expand("423 559 765 857"),
    "clock": _expand("409 530 892"),
    "dog": _expand("152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268"),
    "elephant": _expand("385-386"),
    "keyboard": _expand("508 878"),
    "knife": _expand("499"),
    "oven": _expand("766"),
    "truck": _expand("555 569 656 675 717 734 864 867"),
}
"""Category -> indices of its classes among the 1000 of ImageNet-1k; 207 classes belong to one, the others to none."""

CATEGORIES: tuple[str, ...] = tuple(sorted(IMAGENET_INDICES))


def aggregate_categories(probabilities: np.ndarray, *, aggregation: str = "mean") -> np.ndarray:
    """Scores of the 16 categories: the mean, sum or maximum over each category's classes.

    Args:
        probabilities: (N, 1000) or (1000,), each in [0, 1]; in the order of ImageNet-1k. Not written to.
        aggregation: "mean" (the toolbox's choice, which makes up for categories having 1 to 109 classes), "sum", "max".
    Returns: (N, 16) or (16,), in the order of `CATEGORIES`, reduced in the dtype of `probabilities`. Not normalised.
    Raises: ValueError on another number of classes, a value outside [0, 1] or not finite, or an unknown aggregation.
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, not {aggregation!r}")
    probabilities = np.asarray(probabilities)
    if probabilities.shape[-1:] != (NUM_IMAGENET_CLASSES,):
        raise ValueError(
            f"probabilities must have {NUM_IMAGENET_CLASSES} classes (ImageNet-1k) on the last axis, "
            f"not shape {probabilities.shape}"
        )
    if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
        raise ValueError("probabilities must lie in [0, 1]; apply softmax to the network's output, and look for NaN")
    reductions: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "sum": np.sum, "max": np.max}
    reduce = reductions[aggregation]
    columns = [reduce(np.take(probabilities, IMAGENET_INDICES[name], axis=-1), axis=-1) for name in CATEGORIES]
    return np.stack(columns, axis=-1)


def decide(probabilities: np.ndarray, *, aggregation: str = "mean") -> list[str]:
    """The category with the highest score for each row of probabilities.

    Exact ties are broken as in the toolbox, by the very call it makes (the last of an ascending `numpy.argsort`). That
    is mostly the last tied name in the alphabet, but NumPy promises no order; `count_ties` says whether it mattered.

    Args:
        probabilities: (N, 1000), as for `aggregate_categories`.
        aggregation: As for `aggregate_categories`.
    Returns: N names out of `CATEGORIES`.
    """
    scores = aggregate_categories(probabilities, aggregation=aggregation)
    best = np.flip(np.argsort(scores, axis=-1), axis=-1)[:, 0]
    return [CATEGORIES[index] for index in best]


def decide_among_all(probabilities: np.ndarray) -> list[str | None]:
    """The category of the best of all 1000 classes for each row of probabilities (N, 1000); None if it has none."""
    category = {index: name for name, indices in IMAGENET_INDICES.items() for index in indices}
    return [category.get(index) for index in np.argmax(probabilities, axis=-1).tolist()]


def count_ties(probabilities: np.ndarray, *, aggregation: str = "mean") -> int:
    """In how many rows of probabilities (N, 1000) two or more categories share the highest score exactly."""
    scores = aggregate_categories(probabilities, aggregation=aggregation)
    return int(((scores == scores.max(axis=-1, keepdims=True)).sum(axis=-1) > 1).sum())
