"""The decision rule: how the probabilities of a network's classes become one of the 16 categories.

The rule is that of the model-vs-human toolbox (`modelvshuman/datasets/decision_mappings.py`). The classes of each
category are defined in `shapebias.stimuli.categories`.
"""

from collections.abc import Callable

import numpy as np

from shapebias.stimuli.categories import IMAGENET_1K, ClassMap

__all__ = ["AGGREGATIONS", "aggregate_categories", "count_ties", "decide", "decide_among_all"]

AGGREGATIONS = ("mean", "sum", "max")


def aggregate_categories(
    probabilities: np.ndarray, *, aggregation: str = "mean", classes: ClassMap = IMAGENET_1K
) -> np.ndarray:
    """Compute the scores of the categories: the mean, sum or maximum over each category's classes.

    Args:
        probabilities: (N, C) or (C,), each in [0, 1]; in the order of the head's outputs. Not written to.
        aggregation: "mean" (the toolbox's choice, which corrects for category sizes from 1 to 109 classes), "sum" or
            "max".
        classes: Which of the C outputs belong to which category; the 1000 classes of ImageNet-1k by default.
    Returns: (N, K) or (K,), in the order of `classes.categories` (K = 16 for ImageNet-1k), reduced in the dtype of
        `probabilities`. Not normalised.
    Raises: ValueError if the number of classes is wrong, a value is not finite or outside [0, 1], or the aggregation is
        unknown.
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
    """Return the category with the highest score for each row of probabilities.

    Exact ties are broken as in the toolbox, by the same call (the last of an ascending `numpy.argsort`). This is
    usually the last tied name in the alphabet, but NumPy guarantees no order; `count_ties` shows whether there are
    ties.

    Args:
        probabilities: (N, C), as for `aggregate_categories`.
        aggregation, classes: As for `aggregate_categories`.
    Returns: N names of `classes.categories`.
    """
    scores = aggregate_categories(probabilities, aggregation=aggregation, classes=classes)
    best = np.flip(np.argsort(scores, axis=-1), axis=-1)[:, 0]
    names = classes.categories
    return [names[index] for index in best]


def decide_among_all(probabilities: np.ndarray, *, classes: ClassMap = IMAGENET_1K) -> list[str | None]:
    """Return the category of the most probable class for each row of probabilities (N, C), or None if it has none."""
    category = {index: name for name, indices in classes.indices.items() for index in indices}
    return [category.get(index) for index in np.argmax(probabilities, axis=-1).tolist()]


def count_ties(probabilities: np.ndarray, *, aggregation: str = "mean", classes: ClassMap = IMAGENET_1K) -> int:
    """Count the rows of probabilities (N, C) in which two or more categories have exactly the same, highest score."""
    scores = aggregate_categories(probabilities, aggregation=aggregation, classes=classes)
    return int(((scores == scores.max(axis=-1, keepdims=True)).sum(axis=-1) > 1).sum())
