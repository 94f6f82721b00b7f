"""Shape bias and related measures of an observer's trials.

The definitions are those of Geirhos et al. (ICLR 2019, arXiv:1811.12231), as the model-vs-human toolbox computes them
(`modelvshuman/plotting/analyses.py`; `plot_shape_bias_matrixplot` in `modelvshuman/plotting/plot.py`):

- A trial is a shape decision if the answer is the category of the shape, and a texture decision if it is that of the
  texture. If both are the same category, it is neither, but it counts in the denominator of the fractions (1280, not
  1200).
- Shape bias = shape decisions / (shape + texture decisions).
- The point of a category is computed from the trials whose *shape* is of that category, whatever the texture.
- The average line is computed from all trials together; it is not the mean of the category points.
- People are pooled: all their trials are evaluated together.

Error consistency: Geirhos, Meding & Wichmann (NeurIPS 2020, arXiv:2006.16736). Intervals: `bootstrap`. Cue
sensitivity (mean reciprocal rank among 1000 classes): `shapebias.measures.ranks`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd

from runkit import format_html
from shapebias.answers.observers import NO_ANSWER, Observer, make_trials
from shapebias.measures.bootstrap import RESAMPLES, Estimate, Resampling, estimate_ratios
from shapebias.measures.content import ErrorConsistency, ObserverMeasures
from shapebias.stimuli.categories import CATEGORIES

__all__ = [
    "RATIOS",
    "Consistency",
    "Estimate",
    "Measurement",
    "confusion_matrix",
    "consistency_table",
    "count_by_image",
    "error_consistency",
    "measure",
]


@dataclass(frozen=True)
class Measurement:
    """Measures of an observer's trials: fractions in [0, 1]. Measures of two cues are undefined for images with one.

    Attributes:
        name, label, kind, random: As in `Observer`.
        trials: Number of trials, of all persons together.
        conflict_trials: Number of trials in which shape and texture are of different categories.
        shape_bias: Shape decisions / (shape + texture decisions).
        fraction_correct_shape: Shape decisions / trials.
        fraction_correct_texture: Texture decisions / trials.
        coverage: (Shape + texture decisions) / conflict trials: how often either cue was named.
        neither: 1 - coverage.
        accuracy: Share of all trials, with or without conflict, whose answer is the category of the shape (16-class
            accuracy).
        shape_reciprocal_rank: Mean of 1 / rank over conflict trials (with one cue, over all trials), for the rank among
            all 1000 classes of the best class of the shape's category. It has no value if the probabilities are not
            known (people, recorded answers).
        texture_reciprocal_rank: The same for the texture's category.
        no_answer: Share of all trials with the answer "na".
        shape_bias_category_mean: Mean of the shape bias over the categories that have one; *not* the overall shape
            bias.
        categories: Name -> `shape_bias`, `fraction_correct_shape`, `fraction_correct_texture` and `accuracy` of the
            trials with a shape of that category.
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
    shape_reciprocal_rank: Estimate
    texture_reciprocal_rank: Estimate
    no_answer: float
    shape_bias_category_mean: float | None
    categories: Mapping[str, Mapping[str, Estimate]]
    confusion: Sequence[Sequence[int]]

    @property
    def decisions(self) -> int:
        """Number of decisions by shape or texture, of which the shape bias is a share; 0 for images with one cue."""
        return round((self.coverage.value or 0.0) * self.conflict_trials)

    def as_dict(self) -> ObserverMeasures:
        """Return plain values for JSON: an `Estimate` becomes `<name>` and `<name>_interval` = [low, high] or None."""
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
        return cast(ObserverMeasures, content)  # keys are computed; tests check them against the JSON Schema

    def __repr__(self) -> str:
        key = "shape_bias" if self.conflict_trials else "accuracy"
        return f"Measurement({self.label}, {self.trials} trials, {key.replace('_', ' ')} {getattr(self, key)})"

    def _repr_html_(self) -> str:
        """Show every measure that has a value, with its interval, in notebooks."""
        estimates = {key: getattr(self, key) for key in RATIOS}
        rows = [
            [key.replace("_", " "), str(estimate)] for key, estimate in estimates.items() if estimate.value is not None
        ]
        return format_html([self.label, f"value and 95% interval ({self.trials} trials)"], rows)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Measurement":
        """The inverse of `as_dict`."""
        fields = {key: content[key] for key in cls.__dataclass_fields__}
        for key in RATIOS:
            fields[key] = Estimate.from_dict(key, content)
        fields["categories"] = {
            category: {key: Estimate.from_dict(key, entry) for key in _PER_CATEGORY}
            for category, entry in content["categories"].items()
        }
        return cls(**fields)


_HITS = ("shape_hit", "texture_hit")
RATIOS = {
    "shape_bias": (("shape_hit",), _HITS),
    "fraction_correct_shape": (("shape_hit",), ("two_cue_trials",)),
    "fraction_correct_texture": (("texture_hit",), ("two_cue_trials",)),
    "coverage": (_HITS, ("conflict",)),
    "neither": (("neither",), ("conflict",)),
    "accuracy": (("correct",), ("trials",)),
    "shape_reciprocal_rank": (("shape_reciprocal_rank",), ("shape_ranked",)),
    "texture_reciprocal_rank": (("texture_reciprocal_rank",), ("texture_ranked",)),
}
"""Measure -> the columns of `count_by_image` whose sums are its numerator and its denominator."""

_PER_CATEGORY = ("shape_bias", "fraction_correct_shape", "fraction_correct_texture", "accuracy")


def measure(observer: Observer | Mapping[str, str], *, resamples: int = RESAMPLES, seed: int = 0) -> Measurement:
    """Compute all measures of one observer, each with a 95% interval.

    The bootstrap draws images with all answers to them, so that the answers of pooled people to an image stay together.

    Args:
        observer: An observer with at least one trial; or decisions, as a mapping of image names (such as
            cat7-elephant1.png) to categories.
        resamples: Number of bootstrap draws.
        seed: Seed of the draws.
    Raises: ValueError without trials, or for an invalid image name or an unknown category.
    """
    if isinstance(observer, Mapping):
        observer = Observer("decisions", make_trials("decisions", list(observer), list(observer.values())))
    trials = observer.trials
    if len(trials) == 0:
        raise ValueError(f"{observer.name} has no trials")
    per_image = count_by_image(observer)
    present = [category for category in CATEGORIES if (per_image["category"] == category).any()]
    everything = np.ones(len(per_image))
    wanted = [(key, everything) for key in RATIOS]
    wanted += [
        (key, (per_image["category"] == category).to_numpy(dtype=float))
        for category in present
        for key in _PER_CATEGORY
    ]
    parts = {
        key: [per_image[list(columns)].sum(axis=1).to_numpy() for columns in sides] for key, sides in RATIOS.items()
    }
    tops, bottoms = (np.stack([rows * parts[key][side] for key, rows in wanted], axis=1) for side in (0, 1))
    resampling = Resampling.of(list(per_image["image"]), resamples=resamples, seed=seed)
    estimates = iter(estimate_ratios(tops, bottoms, resampling))
    overall = {key: next(estimates) for key in RATIOS}
    categories = {category: {key: next(estimates) for key in _PER_CATEGORY} for category in present}
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
    """Count answers, (17, 16): one row per answer ("na", then the categories), one column per category of the shape."""
    table = pd.crosstab(trials["response"], trials["shape"])
    return table.reindex(index=[NO_ANSWER, *CATEGORIES], columns=list(CATEGORIES), fill_value=0)


@dataclass(frozen=True)
class Consistency:
    """Agreement of two observers on which images they get right.

    Attributes:
        observed: Fraction of images that both got right or both got wrong.
        expected: The fraction expected for two independent observers of the same accuracies.
        kappa: Cohen's kappa, (observed - expected) / (1 - expected); 1 if they never differ.
    """

    observed: float
    expected: float
    kappa: float


def error_consistency(first: Observer, second: Observer) -> Consistency:
    """Compute the error consistency of two observers (networks or single persons) over all their images.

    Raises: ValueError if they did not see the same images, once each.
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


def consistency_table(observers: Sequence[Observer]) -> ErrorConsistency:
    """Compute the error consistency of every pair of observers, and of each observer with people.

    Args:
        observers: Networks and single persons, all of the same images.
    Returns: `observers` (names), `kappa`, `observed` and `expected` (square lists, in that order of names), and
        `with_people`: name -> mean kappa with every (other) person, as in the toolbox; empty without persons.
    Raises: ValueError if two observers did not see the same images, once each.
    """
    pairs = [[error_consistency(row, column) for column in observers] for row in observers]
    persons = [index for index, observer in enumerate(observers) if observer.kind == "person"]
    with_people = {}
    for index, observer in enumerate(observers):
        values = [pairs[index][person].kappa for person in persons if person != index]
        if values:
            with_people[observer.name] = float(np.mean(values))
    return {
        "observers": [observer.name for observer in observers],
        "kappa": [[pair.kappa for pair in row] for row in pairs],
        "observed": [[pair.observed for pair in row] for row in pairs],
        "expected": [[pair.expected for pair in row] for row in pairs],
        "with_people": with_people,
    }


def _consistency(one: np.ndarray, other: np.ndarray) -> Consistency:
    """Compute the error consistency from two boolean arrays (images,) that say which answers are right."""
    p1, p2 = one.mean(), other.mean()
    expected = p1 * p2 + (1 - p1) * (1 - p2)
    observed = (one == other).mean()
    kappa = 1.0 if observed == 1.0 else (observed - expected) / (1.0 - expected)
    return Consistency(float(observed), float(expected), float(kappa))


def count_by_image(observer: Observer) -> pd.DataFrame:
    """Count an observer's answers by image: one row per image, sorted by name.

    Returns: Columns `image`, `category` (of the shape), and counts of trials: `trials`, `two_cue_trials` (0 for an
        image with one cue), `conflict`, `shape_hit`, `texture_hit`, `neither`, `correct`. For each cue, `<cue>_ranked`
        is 1 if its rank is known and counts (conflict images and images with one cue), else 0; `<cue>_reciprocal_rank`
        is 1 / rank for these images, else 0.
    """
    trials = observer.trials
    two_cues = trials["texture"] != ""
    conflict = two_cues & (trials["shape"] != trials["texture"])
    counts = pd.DataFrame(
        {
            "image": trials["image"],
            "category": trials["shape"],
            "trials": 1,
            "two_cue_trials": two_cues.astype(int),
            "conflict": conflict.astype(int),
            "shape_hit": (conflict & (trials["response"] == trials["shape"])).astype(int),
            "texture_hit": (conflict & (trials["response"] == trials["texture"])).astype(int),
            "correct": (trials["response"] == trials["shape"]).astype(int),
        }
    )
    counts["neither"] = counts["conflict"] - counts["shape_hit"] - counts["texture_hit"]
    table = counts.groupby(["image", "category"], sort=True).sum().reset_index()
    ranks = pd.DataFrame({"image": []}) if observer.ranks is None else observer.ranks
    asked = ((table["conflict"] > 0) | (table["two_cue_trials"] == 0)).to_numpy(dtype=int)
    for cue in ("shape", "texture"):
        known = f"{cue}_rank" in ranks
        table[f"{cue}_ranked"] = asked if known else 0
        rank = ranks.set_index("image").loc[table["image"], f"{cue}_rank"].to_numpy() if known else np.inf
        table[f"{cue}_reciprocal_rank"] = asked / rank
    return table
