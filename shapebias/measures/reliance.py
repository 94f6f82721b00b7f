"""Reliance on shape, texture and colour: the accuracy that a network loses when one cue is suppressed.

The measures for every suppression and strength are accuracy and relative accuracy, the share of accuracy above chance
that is left:

    relative accuracy = (accuracy - chance) / (accuracy without suppression - chance)

A value of 1 means that no accuracy was lost, and 0 that the network is at chance. A suppression is summarised by the
area under its curve of relative accuracy (trapezoidal rule, strengths evenly spaced, starting with the original
images). A cue is summarised by its reliance: 1 minus the mean area under the curves of the suppressions that remove
only this cue. Without labels, the share of unchanged first answers replaces relative accuracy.

Intervals are percentiles of a bootstrap over images. All variants of an image, and all networks, share the draws, so
differences between networks and between cues are paired. Where all draws agree, as they do if a suppression changes no
answer, the interval is as long as the share of other images for which they may still differ (Clopper and Pearson). The
p values come from the same draws, and are corrected by Holm's method over all comparisons of a kind.

The protocol is that of Burgert et al. (NeurIPS 2025, arXiv:2509.20234); the intervals and tests are ours.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any

import numpy as np

from runkit.intervals import unseen_share
from shapebias.answers.suppressed import SuppressedAnswers
from shapebias.measures.bootstrap import Estimate
from shapebias.measures.permutation import correct_holm
from shapebias.stimuli.suppressions import CUES, Suppression, Variant

__all__ = ["Draws", "Reliance", "RelianceDifference", "ReliancePoint", "compare_reliance", "measure_reliance"]

RESAMPLES = 2000
_LEVEL = (2.5, 97.5)
_SAME = 1e-12  # draws that differ by less agree


@dataclass(frozen=True)
class Draws:
    """Bootstrap draws over images, the same for every network.

    Attributes:
        weights: float64 (R, N): how often each image was drawn. The first row is all ones, the original sample.
    """

    weights: np.ndarray

    @classmethod
    def of(cls, images: int, *, resamples: int = RESAMPLES, seed: int = 0) -> "Draws":
        """Draw `images` images with replacement, `resamples` times."""
        rng = np.random.default_rng(seed)
        drawn = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
        return cls(np.concatenate([np.ones((1, images)), drawn]).astype(np.float64))

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Average `values` (..., N) over images in every draw: (R, ...)."""
        return np.moveaxis(values.astype(np.float64) @ self.weights.T, -1, 0) / self.weights.shape[1]


def estimate(drawn: np.ndarray, *, room: float = 0.0, limits: tuple[float, float] = (-np.inf, np.inf)) -> Estimate:
    """Estimate a measure from its values in all draws (R,): the first is the value, the others give the interval.

    Args:
        drawn: The values.
        room: Distance of the ends of the interval from the value where all draws agree.
        limits: Least and largest value of the measure, beyond which this distance does not reach.
    """
    value = float(drawn[0])
    low, high = np.percentile(drawn[1:], _LEVEL)
    if np.ptp(drawn) < _SAME:
        low, high = max(limits[0], value - room), min(limits[1], value + room)
    return Estimate(value, float(low), float(high))


@dataclass(frozen=True)
class ReliancePoint:
    """Measures of one network's answers to one variant.

    Attributes:
        variant: Label of the variant, "none" for the original images.
        suppression: Name of the suppression, "" for none.
        cues: The cues that it removes, joined by "+".
        strength: The value on the suppression's axis; None for the original images.
        accuracy: Share of images whose class is the first answer; None without labels.
        relative_accuracy: Share of the accuracy above chance that is left; None without labels, or if the network is
            not better than chance on the original images, in any draw.
        changed: Share of images whose first answer differs from the one to the original image.
    """

    variant: str
    suppression: str
    cues: str
    strength: float | None
    accuracy: Estimate | None
    relative_accuracy: Estimate | None
    changed: Estimate

    @property
    def left(self) -> Estimate | None:
        """Relative accuracy or, without labels, the share of unchanged answers."""
        if self.accuracy is not None:
            return self.relative_accuracy
        value, low, high = ((None if end is None else 1 - end) for end in astuple(self.changed))
        return Estimate(value, high, low)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and tables, with an interval next to each value."""
        row: dict[str, Any] = {key: getattr(self, key) for key in ("variant", "suppression", "cues", "strength")}
        for key in ("accuracy", "relative_accuracy", "changed"):
            value: Estimate | None = getattr(self, key)
            row.update(value.as_dict(key) if value else {key: None, f"{key}_interval": None})
        return row

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> "ReliancePoint":
        """The inverse of `as_dict`."""

        def read(key: str) -> Estimate | None:
            return None if row[key] is None else Estimate.from_dict(key, row)

        return cls(
            **{key: row[key] for key in ("variant", "suppression", "cues", "strength")},
            accuracy=read("accuracy"),
            relative_accuracy=read("relative_accuracy"),
            changed=Estimate.from_dict("changed", row),
        )


@dataclass(frozen=True)
class Reliance:
    """A network's reliance on the cues.

    Attributes:
        name, label: Name of the network, in files and in figures.
        chance: Accuracy of a uniform guess over the network's outputs; None without labels.
        images: Number of images.
        points: The measures of every variant.
        areas: Suppression -> area under its curve of relative accuracy (without labels: of unchanged answers).
        reliance: Cue -> reliance, for the cues with a suppression that removes only this cue.
    """

    name: str
    label: str
    chance: float | None
    images: int
    points: tuple[ReliancePoint, ...]
    areas: Mapping[str, Estimate]
    reliance: Mapping[str, Estimate]

    @property
    def random(self) -> bool:
        """Whether the network is untrained; its label says so."""
        return "RANDOM WEIGHTS" in self.label

    @property
    def suppressions(self) -> list[str]:
        """Names of the suppressions, in the order of the variants."""
        return list(dict.fromkeys(point.suppression for point in self.points if point.suppression))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""

        def spell(estimates: Mapping[str, Estimate], key: str) -> dict[str, Any]:
            return {name: one.as_dict(key) for name, one in estimates.items()}

        return {
            "name": self.name,
            "label": self.label,
            "chance": self.chance,
            "images": self.images,
            "variants": [point.as_dict() for point in self.points],
            "suppressions": spell(self.areas, "area"),
            "cues": spell(self.reliance, "reliance"),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Reliance":
        """The inverse of `as_dict`."""
        return cls(
            **{key: content[key] for key in ("name", "label", "chance", "images")},
            points=tuple(map(ReliancePoint.from_dict, content["variants"])),
            areas={name: Estimate.from_dict("area", one) for name, one in content["suppressions"].items()},
            reliance={name: Estimate.from_dict("reliance", one) for name, one in content["cues"].items()},
        )


@dataclass(frozen=True)
class _Drawn:
    """Measures of one network in every draw, from which paired differences are computed.

    `room` and `limits` are those of `estimate` for relative accuracy, or for the share of unchanged answers.
    """

    accuracy: np.ndarray | None  # (R, V)
    left: np.ndarray  # (R, V): relative accuracy or, without labels, the share of unchanged answers
    changed: np.ndarray  # (R, V)
    areas: dict[str, np.ndarray]  # (R,)
    reliance: dict[str, np.ndarray]  # (R,)
    room: float
    limits: tuple[float, float]

    def estimate_left(self, values: np.ndarray) -> Estimate | None:
        """Estimate what is left, or None if the network is not better than chance on the images, in any draw."""
        return estimate(values, room=self.room, limits=self.limits) if np.isfinite(values).all() else None

    def estimate_lost(self, values: np.ndarray) -> Estimate | None:
        """Estimate 1 minus what is left; None as for `estimate_left`."""
        low, high = self.limits
        return estimate(values, room=self.room, limits=(1 - high, 1 - low)) if np.isfinite(values).all() else None


def measure_reliance(answers: SuppressedAnswers, variants: Sequence[Variant], *, draws: Draws) -> Reliance:
    """Measure one network.

    Args:
        answers: Answers to V variants of N images; the first variant is the original images.
        variants: The V variants, in the order of the answers.
        draws: Bootstrap draws of the N images.
    Raises: ValueError if answers, variants and draws do not match.
    """
    drawn = _draw(answers, variants, draws)
    share: dict[str, Any] = dict(room=unseen_share(len(answers.images)), limits=(0.0, 1.0))
    points = []
    for index, variant in enumerate(variants):
        suppression, strength = variant.suppression, variant.strength
        accuracy, left = drawn.accuracy, drawn.left[:, index]
        points.append(
            ReliancePoint(
                variant=variant.label,
                suppression=suppression.name if suppression else "",
                cues="+".join(suppression.cues) if suppression else "",
                strength=strength.value if strength else None,
                accuracy=None if accuracy is None else estimate(accuracy[:, index], **share),
                relative_accuracy=None if accuracy is None else _relative(drawn, left, original=not suppression),
                changed=estimate(drawn.changed[:, index], **(share if suppression else {})),
            )
        )
    return Reliance(
        name=answers.name,
        label=answers.label,
        chance=None if answers.labels is None else 1 / answers.outputs,
        images=len(answers.images),
        points=tuple(points),
        areas={key: one for key, values in drawn.areas.items() if (one := drawn.estimate_left(values))},
        reliance={key: one for key, values in drawn.reliance.items() if (one := drawn.estimate_lost(values))},
    )


@dataclass(frozen=True)
class RelianceDifference:
    """A paired difference in reliance.

    Attributes:
        kind: "networks" for one cue of two networks, "cues" for two cues of one network.
        first, second: Names of the two networks or cues.
        of: The cue, or the network, that both have in common.
        difference: Reliance of the first minus that of the second.
        low, high: Its 95% interval.
        p: Two-sided p value by the bootstrap.
        p_holm: The p value, corrected over all comparisons of this kind.
    """

    kind: str
    first: str
    second: str
    of: str
    difference: float
    low: float
    high: float
    p: float
    p_holm: float

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON and CSV."""
        return asdict(self)


def compare_reliance(
    networks: Sequence[SuppressedAnswers], variants: Sequence[Variant], *, draws: Draws
) -> list[RelianceDifference]:
    """Compare all pairs of networks, cue by cue, and all pairs of cues, network by network.

    A comparison is left out if a network is not better than chance on the original images, in any draw.

    Args:
        networks: Answers to the same variants of the same images.
        variants, draws: As for `measure_reliance`.
    Raises: ValueError if the networks did not answer to the same images.
    """
    for other in networks[1:]:
        if other.images != networks[0].images:
            raise ValueError(f"{other.name} and {networks[0].name} did not answer to the same images")
    drawn = {answers.name: _draw(answers, variants, draws) for answers in networks}
    reliance = {name: one.reliance for name, one in drawn.items()}
    room = {name: one.room for name, one in drawn.items()}
    found: dict[str, list[tuple[str, str, str, float, np.ndarray]]] = {"networks": [], "cues": []}
    for cue in CUES:
        for first, second in itertools.combinations(reliance, 2):
            if cue in reliance[first] and cue in reliance[second]:
                values = reliance[first][cue] - reliance[second][cue]
                found["networks"].append((first, second, cue, max(room[first], room[second]), values))
    for name, cues in reliance.items():
        for first, second in itertools.combinations(cues, 2):
            found["cues"].append((first, second, name, room[name], cues[first] - cues[second]))
    differences = []
    for kind, rows in found.items():
        tested = [row for row in rows if np.isfinite(row[-1]).all()]
        p_values = [_p_value(row[-1]) for row in tested]
        for row, p, p_holm in zip(tested, p_values, correct_holm(p_values), strict=True):
            first, second, of, around, values = row
            difference, low, high = astuple(estimate(values, room=around))
            differences.append(RelianceDifference(kind, first, second, of, difference, low, high, p, p_holm))
    return differences


def _draw(answers: SuppressedAnswers, variants: Sequence[Variant], draws: Draws) -> _Drawn:
    labels, first = answers.labels, answers.first
    if tuple(variant.label for variant in variants) != answers.variants or variants[0].suppression is not None:
        raise ValueError("the variants are not those of the answers, with the images as they are first")
    if draws.weights.shape[1] != len(answers.images):
        raise ValueError(f"draws of {draws.weights.shape[1]} images do not fit answers to {len(answers.images)}")
    changed, accuracy = draws.mean(first != first[:1]), None
    room, limits = unseen_share(len(answers.images)), (0.0, 1.0)
    if labels is None:
        left = 1 - changed
    else:
        accuracy, chance = draws.mean(first == labels), 1 / answers.outputs
        above = accuracy[:, :1] - chance
        with np.errstate(divide="ignore", invalid="ignore"):
            left = np.where(above > 0, (accuracy - chance) / above, np.nan)
        if (full := float(above[0, 0])) > 0:
            room, limits = room / full, (-chance / full, (1 - chance) / full)
    areas = {one.name: _area(left, variants, one) for one in _suppressions(variants)}
    reliance = {}
    for cue in CUES:
        alone = [areas[one.name] for one in _suppressions(variants) if one.cues == (cue,)]
        if alone:
            reliance[cue] = 1 - np.mean(alone, axis=0)
    return _Drawn(accuracy, left, changed, areas, reliance, room, limits)


def _suppressions(variants: Sequence[Variant]) -> list[Suppression]:
    return list({v.suppression.name: v.suppression for v in variants if v.suppression}.values())


def _area(left: np.ndarray, variants: Sequence[Variant], suppression: Suppression) -> np.ndarray:
    """Area under a suppression's curve (R,), with strengths evenly spaced on [0, 1], where 0 is no suppression."""
    curve = left[:, [i for i, v in enumerate(variants) if v.suppression in (None, suppression)]]
    return ((curve[:, 1:] + curve[:, :-1]) / 2).mean(axis=1)


def _relative(drawn: _Drawn, left: np.ndarray, *, original: bool) -> Estimate | None:
    """Estimate the relative accuracy of a variant. That of the original images is 1 by definition."""
    estimated = drawn.estimate_left(left)
    return Estimate(1.0, 1.0, 1.0) if original and estimated else estimated


def _p_value(drawn: np.ndarray) -> float:
    """Twice the share of draws on the rarer side of zero, where the original sample counts as a draw on either side."""
    below, above = (drawn[1:] <= 0).sum() + 1, (drawn[1:] >= 0).sum() + 1
    return float(min(1.0, 2 * min(below, above) / len(drawn)))
