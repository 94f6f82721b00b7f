"""Shape bias and its companions, from an observer's trials alone.

Definitions of Geirhos et al. (ICLR 2019, arXiv:1811.12231) as the model-vs-human toolbox computes them
(`modelvshuman/plotting/analyses.py`; `plot_shape_bias_matrixplot` in `modelvshuman/plotting/plot.py`):

- a trial is a shape decision if the answer is the category of the shape, a texture decision if it is that of the
  texture; where shape and texture are the same category it is neither, yet it counts in the denominator of the
  fractions (1280, not 1200);
- shape bias = shape decisions / (shape + texture decisions);
- a category's point takes the trials whose *shape* is of that category, whatever the texture;
- the average line takes all trials at once: it is not the mean of the category points;
- people are pooled: all their trials are taken together.

Error consistency: Geirhos, Meding & Wichmann (NeurIPS 2020, arXiv:2006.16736).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd

from shapebias.categories import CATEGORIES
from shapebias.observers import NO_ANSWER, Observer

__all__ = [
    "Consistency",
    "Estimate",
    "Measurement",
    "confusion_matrix",
    "consistency_table",
    "error_consistency",
    "measure",
]

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A fraction in [0, 1] and its percentile bootstrap interval over stimuli; None where it is not defined (0/0)."""

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self, name: str) -> dict[str, Any]:
        """`{name: value, name_interval: [low, high]}`; the interval is None where there is none."""
        interval = None if self.low is None else [self.low, self.high]
        return {name: self.value, f"{name}_interval": interval}

    @classmethod
    def from_dict(cls, name: str, content: Mapping[str, Any]) -> "Estimate":
        """The inverse of `as_dict`, out of a mapping that may hold more."""
        low, high = content[f"{name}_interval"] or (None, None)
        return cls(content[name], low, high)


@dataclass(frozen=True)
class Measurement:
    """What an observer's trials say. Fractions in [0, 1].

    Attributes:
        name, label, kind, random: As in `Observer`.
        trials: Number of trials, all persons together.
        conflict_trials: Those in which shape and texture are of different categories.
        shape_bias: Shape decisions / (shape + texture decisions).
        fraction_correct_shape: Shape decisions / trials.
        fraction_correct_texture: Texture decisions / trials.
        coverage: (Shape + texture decisions) / conflict trials: how often either cue was named.
        neither: 1 - coverage.
        accuracy: Answer = category of the shape, over all trials, also those without conflict (16-class accuracy).
        no_answer: Answer "na", over all trials.
        shape_bias_category_mean: Mean of the categories' shape bias where defined; *not* the average line.
        categories: Name -> `shape_bias`, `fraction_correct_shape`, `fraction_correct_texture` of the trials with that
            shape; fractions over the trials of that category.
        confusion: (17, 16) counts: answers ("na", then categories) by category of the shape.
    """

    name: str
    label: str
    kind: str
    random: bool
    trials: int
    conflict_trials: int
    shape_bias: Estimate
    fraction_correct_shape: Estimate
    fraction_correct_texture: Estimate
    coverage: Estimate
    neither: Estimate
    accuracy: Estimate
    no_answer: float
    shape_bias_category_mean: float | None
    categories: Mapping[str, Mapping[str, Estimate]]
    confusion: Sequence[Sequence[int]]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON: an `Estimate` becomes `<name>` and `<name>_interval` = [low, high] or None."""
        content: dict[str, Any] = {}
        for key, value in vars(self).items():
            if isinstance(value, Estimate):
                content.update(value.as_dict(key))
            elif key == "categories":
                content[key] = {
                    category: {k: v for name, estimate in entry.items() for k, v in estimate.as_dict(name).items()}
                    for category, entry in value.items()
                }
            else:
                content[key] = value
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Measurement":
        """The inverse of `as_dict`."""
        fields = {key: content[key] for key in cls.__dataclass_fields__}
        for key in _OVERALL:
            fields[key] = Estimate.from_dict(key, content)
        fields["categories"] = {
            category: {key: Estimate.from_dict(key, entry) for key in _PER_CATEGORY}
            for category, entry in content["categories"].items()
        }
        return cls(**fields)


_PER_CATEGORY = ("shape_bias", "fraction_correct_shape", "fraction_correct_texture")
_OVERALL = (*_PER_CATEGORY, "coverage", "neither", "accuracy")


def measure(observer: Observer, *, resamples: int = RESAMPLES, seed: int = 0) -> Measurement:
    """All measures of one observer, each with a 95% interval.

    The interval is the percentile bootstrap over stimuli: images are drawn with replacement, and with an image all
    answers to it, so pooled people keep their dependence. The draws depend on `seed` and the number of images only.

    Args:
        observer: At least one trial.
        resamples: Bootstrap draws.
        seed: Of the draws.
    Raises: ValueError without trials.
    """
    trials = observer.trials
    if len(trials) == 0:
        raise ValueError(f"{observer.name} has no trials")
    per_image = _count_by_image(trials)
    n = len(per_image)
    weights = _draw(n, resamples, seed)

    def estimate(rows: np.ndarray, top: Sequence[str], bottom: Sequence[str]) -> Estimate:
        counts = per_image.loc[rows]
        numerator, denominator = (counts[list(names)].sum(axis=1).to_numpy(dtype=float) for names in (top, bottom))
        return _ratio_estimate(numerator, denominator, weights if rows.all() else weights[:, rows])

    hits = ("shape_hit", "texture_hit")
    everything = np.ones(n, dtype=bool)
    overall = {
        "shape_bias": estimate(everything, ("shape_hit",), hits),
        "fraction_correct_shape": estimate(everything, ("shape_hit",), ("trials",)),
        "fraction_correct_texture": estimate(everything, ("texture_hit",), ("trials",)),
        "coverage": estimate(everything, hits, ("conflict",)),
        "neither": estimate(everything, ("neither",), ("conflict",)),
        "accuracy": estimate(everything, ("correct",), ("trials",)),
    }
    categories = {}
    for category in CATEGORIES:
        rows = (per_image["category"] == category).to_numpy()
        if rows.any():
            categories[category] = {
                "shape_bias": estimate(rows, ("shape_hit",), hits),
                "fraction_correct_shape": estimate(rows, ("shape_hit",), ("trials",)),
                "fraction_correct_texture": estimate(rows, ("texture_hit",), ("trials",)),
            }
    defined = [v for entry in categories.values() if (v := entry["shape_bias"].value) is not None]
    return Measurement(
        name=observer.name,
        label=observer.label,
        kind=observer.kind,
        random=observer.random,
        trials=len(trials),
        conflict_trials=int(per_image["conflict"].sum()),
        no_answer=float((trials["response"] == NO_ANSWER).mean()),
        shape_bias_category_mean=math.fsum(defined) / len(defined) if defined else None,
        categories=categories,
        confusion=confusion_matrix(trials).to_numpy().tolist(),
        **overall,
    )


def confusion_matrix(trials: pd.DataFrame) -> pd.DataFrame:
    """Counts (17, 16): a row an answer ("na", then the categories), a column a category of the shape."""
    table = pd.crosstab(trials["response"], trials["shape"])
    return table.reindex(index=[NO_ANSWER, *CATEGORIES], columns=list(CATEGORIES), fill_value=0)


@dataclass(frozen=True)
class Consistency:
    """Agreement of two observers in which images they get right.

    Attributes:
        observed: Fraction of images that both got right or both got wrong.
        expected: The same for two independent observers of the same accuracies.
        kappa: (observed - expected) / (1 - expected): Cohen's kappa; 1 if they never differ.
    """

    observed: float
    expected: float
    kappa: float


def error_consistency(first: Observer, second: Observer) -> Consistency:
    """Error consistency of two observers (networks or single persons), over all their images.

    Raises: ValueError if they did not see the same images once each.
    """
    one, other = (
        observer.trials.assign(correct=observer.trials["response"] == observer.trials["shape"])
        .set_index("image")["correct"]
        .sort_index()
        for observer in (first, second)
    )
    if not one.index.is_unique or not one.index.equals(other.index):
        raise ValueError(f"{first.name} and {second.name} did not answer to the same images, once each")
    return _consistency(one.to_numpy(), other.to_numpy())


def consistency_table(observers: Sequence[Observer]) -> dict[str, Any]:
    """Error consistency of every pair, and of each observer with people.

    Args:
        observers: Networks and single persons, all of the same images.
    Returns: `observers` (names), `kappa`, `observed` and `expected` (square lists, in that order of names), and
        `with_people`: name -> mean kappa with every (other) person, as the toolbox averages; empty without persons.
    Raises: ValueError if two did not see the same images once each.
    """
    pairs = [[error_consistency(row, column) for column in observers] for row in observers]
    persons = [index for index, observer in enumerate(observers) if observer.kind == "person"]
    with_people = {}
    for index, observer in enumerate(observers):
        values = [pairs[index][person].kappa for person in persons if person != index]
        if values:
            with_people[observer.name] = float(np.mean(values))
    table: dict[str, Any] = {"observers": [observer.name for observer in observers]}
    for key in ("kappa", "observed", "expected"):
        table[key] = [[getattr(pair, key) for pair in row] for row in pairs]
    return {**table, "with_people": with_people}


def _consistency(one: np.ndarray, other: np.ndarray) -> Consistency:
    """Of two boolean arrays (images,): right or wrong."""
    p1, p2 = one.mean(), other.mean()
    expected = p1 * p2 + (1 - p1) * (1 - p2)
    observed = (one == other).mean()
    kappa = 1.0 if observed == 1.0 else (observed - expected) / (1.0 - expected)
    return Consistency(float(observed), float(expected), float(kappa))


@lru_cache(maxsize=2)
def _draw(n: int, resamples: int, seed: int) -> np.ndarray:
    """How often each of n images is drawn: (resamples, n) whole numbers as floats, so that products go through BLAS."""
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=resamples).astype(float)
    weights.flags.writeable = False
    return weights


def _count_by_image(trials: pd.DataFrame) -> pd.DataFrame:
    """One row an image: its shape's `category` and the number of trials of each sort, over all who answered."""
    conflict = trials["shape"] != trials["texture"]
    counts = pd.DataFrame(
        {
            "image": trials["image"],
            "category": trials["shape"],
            "trials": 1,
            "conflict": conflict.astype(int),
            "shape_hit": (conflict & (trials["response"] == trials["shape"])).astype(int),
            "texture_hit": (conflict & (trials["response"] == trials["texture"])).astype(int),
            "correct": (trials["response"] == trials["shape"]).astype(int),
        }
    )
    counts["neither"] = counts["conflict"] - counts["shape_hit"] - counts["texture_hit"]
    table = counts.groupby(["image", "category"], sort=True).sum().reset_index()
    return table


def _ratio_estimate(top: np.ndarray, bottom: np.ndarray, weights: np.ndarray) -> Estimate:
    """Ratio of sums with its percentile interval; draws in which the denominator is 0 are left out.

    Args:
        top, bottom: Counts per image (n,).
        weights: How often each image is drawn (resamples, n).
    """
    total = int(bottom.sum())
    if total == 0:
        return Estimate(None, None, None)
    drawn_top, drawn_bottom = weights @ top, weights @ bottom
    defined = drawn_bottom > 0
    if not defined.any():
        return Estimate(float(top.sum() / total), None, None)
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn_top[defined] / drawn_bottom[defined], [tail, 100 - tail])
    return Estimate(float(top.sum() / total), float(low), float(high))
