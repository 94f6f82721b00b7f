"""The 16 entry-level categories of the cue-conflict benchmark, and how 1000 class probabilities become one of them.

The categories and the ImageNet classes that belong to them are those of Geirhos et al., "Generalisation in humans and
deep neural networks" (NeurIPS 2018, arXiv:1808.08750), as the model-vs-human toolbox uses them
(`modelvshuman/helper/human_categories.py`, `modelvshuman/datasets/decision_mappings.py`). The table below was derived
from the WordNet ids published there and the order of the ImageNet-1k classes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

__all__ = [
    "AGGREGATIONS",
    "CATEGORIES",
    "IMAGENET_1K",
    "IMAGENET_INDICES",
    "NUM_IMAGENET_CLASSES",
    "ClassMap",
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


@dataclass(frozen=True)
class ClassMap:
    """Which outputs of a classification head belong to which of the 16 categories.

    Attributes:
        name: What the head's classes are, in words; it is part of every result.
        num_classes: Number of outputs of the head.
        indices: Category -> its outputs; a category that the head cannot answer is absent.
    """

    name: str
    num_classes: int
    indices: Mapping[str, tuple[int, ...]]

    @property
    def categories(self) -> tuple[str, ...]:
        """The categories that the head can answer, in alphabetical order."""
        return tuple(sorted(self.indices))

    @property
    def complete(self) -> bool:
        """Whether the head can answer all 16 categories, without which no number compares with published ones."""
        return len(self.indices) == len(CATEGORIES)


IMAGENET_1K = ClassMap("ImageNet-1k, classes of the model-vs-human toolbox", NUM_IMAGENET_CLASSES, IMAGENET_INDICES)
"""The head that the benchmark was made for."""


def aggregate_categories(
    probabilities: np.ndarray, *, aggregation: str = "mean", classes: ClassMap = IMAGENET_1K
) -> np.ndarray:
    """Scores of the categories: the mean, sum or maximum over each category's classes.

    Args:
        probabilities: (N, C) or (C,), each in [0, 1]; in the order of the head's outputs. Not written to.
        aggregation: "mean" (the toolbox's choice, which makes up for categories having 1 to 109 classes), "sum", "max".
        classes: Which of the C outputs belong to which category; the 1000 classes of ImageNet-1k by default.
    Returns: (N, K) or (K,), in the order of `classes.categories` (K = 16 for ImageNet-1k), reduced in the dtype of
        `probabilities`. Not normalised.
    Raises: ValueError on another number of classes, a value outside [0, 1] or not finite, or an unknown aggregation.
    """
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, not {aggregation!r}")
    probabilities = np.asarray(probabilities)
    if probabilities.shape[-1:] != (classes.num_classes,):
        raise ValueError(
            f"probabilities must have {classes.num_classes} classes ({classes.name}) on the last axis, "
            f"not shape {probabilities.shape}"
        )
    if not ((probabilities >= 0.0) & (probabilities <= 1.0)).all():
        raise ValueError("probabilities must lie in [0, 1]; apply softmax to the network's output, and look for NaN")
    reductions: dict[str, Callable[..., np.ndarray]] = {"mean": np.mean, "sum": np.sum, "max": np.max}
    reduce = reductions[aggregation]
    columns = [reduce(np.take(probabilities, classes.indices[name], axis=-1), axis=-1) for name in classes.categories]
    return np.stack(columns, axis=-1)


def decide(probabilities: np.ndarray, *, aggregation: str = "mean", classes: ClassMap = IMAGENET_1K) -> list[str]:
    """The category with the highest score for each row of probabilities.

    Exact ties are broken as in the toolbox, by the very call it makes (the last of an ascending `numpy.argsort`). That
    is mostly the last tied name in the alphabet, but NumPy promises no order; `count_ties` says whether it mattered.

    Args:
        probabilities: (N, C), as for `aggregate_categories`.
        aggregation, classes: As for `aggregate_categories`.
    Returns: N names out of `classes.categories`.
    """
    scores = aggregate_categories(probabilities, aggregation=aggregation, classes=classes)
    best = np.flip(np.argsort(scores, axis=-1), axis=-1)[:, 0]
    names = classes.categories
    return [names[index] for index in best]


def decide_among_all(probabilities: np.ndarray, *, classes: ClassMap = IMAGENET_1K) -> list[str | None]:
    """The category of the best of all classes for each row of probabilities (N, C); None if it has none."""
    category = {index: name for name, indices in classes.indices.items() for index in indices}
    return [category.get(index) for index in np.argmax(probabilities, axis=-1).tolist()]


def count_ties(probabilities: np.ndarray, *, aggregation: str = "mean", classes: ClassMap = IMAGENET_1K) -> int:
    """In how many rows of probabilities (N, C) two or more categories share the highest score exactly."""
    scores = aggregate_categories(probabilities, aggregation=aggregation, classes=classes)
    return int(((scores == scores.max(axis=-1, keepdims=True)).sum(axis=-1) > 1).sum())
