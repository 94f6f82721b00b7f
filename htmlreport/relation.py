"""Do networks with larger receptive fields rely more on shape? Rank correlation of receptive field and shape bias.

arXiv:2203.06717 conjectures that large effective receptive fields lead to shape bias. This module pairs the receptive
field of each network (a JSON file of `erf.visualize`) with its shape bias (a JSON file of `shapebias.run`), if both
belong to exactly the same weights, and computes their rank correlation. The reliance of networks on cues (JSON files of
`shapebias.reliance`) can be added, or can replace shape bias for networks without an ImageNet head. Only these files
are read.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from runkit import UserError, list_differences, load_json
from runkit.files import list_visible, reason_in_words
from runkit.intervals import normal_quantile
from runkit.sizes import Size
from shapebias.measures.bootstrap import CONFIDENCE, RESAMPLES, Estimate
from shapebias.stimuli.suppressions import CUES

__all__ = ["FEW", "FIELDS", "Correlation", "Network", "Relation", "correlate", "read_people", "relate"]

FIELDS = {
    "mass": "area ratio of the square holding {threshold:.0%} of the contribution",
    "published": "area ratio at t = {threshold:g} of log10(score + 1) / max",
}
"""The two measures of a field's size: independent of the scale of the gradients, or as published."""
FEW = 10
"""Number of networks below which a rank correlation is too uncertain for a conclusion."""
_FEWEST = 3
_OWN = ("model", "weights", "precision", "plain", "class_names")
"""Parts of the identity in which compared results may differ."""


@dataclass(frozen=True)
class Network:
    """A network with a receptive field and at least one of shape bias and reliance.

    Attributes:
        name: Name under which the tools measured it.
        label: Name in tables; includes the weights if they are random.
        weights: Description of its weights.
        random: Whether the network is untrained. It is then drawn hollow and left out of the correlation.
        field: Area ratio of its effective receptive field; without an interval if the file has none.
        shape_bias: Shape bias with its interval; without a value if only reliance was measured.
        reliance: Cue -> reliance on it with its interval; empty if reliance was not measured.
    """

    name: str
    label: str
    weights: str
    random: bool
    field: Estimate
    shape_bias: Estimate
    reliance: Mapping[str, Estimate] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        row = {"name": self.name, "label": self.label, "weights": self.weights, "random": self.random}
        row |= {**self.field.as_dict("field"), **self.shape_bias.as_dict("shape_bias")}
        for cue, estimate in self.reliance.items():
            row |= estimate.as_dict(f"reliance_{cue}")
        return row


@dataclass(frozen=True)
class Correlation:
    """Rank correlations over networks, in [-1, 1], with their 95% bootstrap intervals.

    The intervals account for the choice of networks and for the uncertainty of their measures. Networks are drawn with
    replacement, and the measures of each are drawn from normal distributions that correspond to their intervals. These
    draws are independent between networks, so the intervals are wider than necessary if all networks saw the same
    images.

    Attributes:
        networks: Number of networks.
        spearman, kendall: Spearman's rho and Kendall's tau-b; None if they are not defined.
        spearman_interval, kendall_interval: Their intervals [low, high]; None if they are not defined.
        kendall_p: Two-sided p-value of Kendall's tau; exact for few networks without ties. None if it is not defined.
    """

    networks: int
    spearman: float | None = None
    spearman_interval: tuple[float, float] | None = None
    kendall: float | None = None
    kendall_interval: tuple[float, float] | None = None
    kendall_p: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "networks_are_few": self.networks < FEW}

    def describe(self) -> str:
        """The correlations, their intervals and the number of networks as text, with a remark if these are too few."""
        few = ": too few for a conclusion" if self.networks < FEW else ""
        if self.spearman is None or self.kendall is None or not self.spearman_interval or not self.kendall_interval:
            networks = f"{self.networks} trained network{'' if self.networks == 1 else 's'}"
            return f"no rank correlation: {networks}{few}"
        rho, tau = (
            f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
            for value, (low, high) in ((self.spearman, self.spearman_interval), (self.kendall, self.kendall_interval))
        )
        return f"Spearman's rho {rho}, Kendall's tau {tau}, p = {self.kendall_p:.2g}; {self.networks} networks{few}"


@dataclass(frozen=True)
class Relation:
    """Networks with paired results, and the correlations over them.

    Attributes:
        networks: The networks, ordered by name; untrained ones only on request.
        correlation: Correlation of field and shape bias over the trained networks.
        unpaired: Name -> reason, for every result that was left out.
        measured: Settings that all fields have in common: images, size, layer.
        of_reliance: Cue -> correlation of the field with the reliance on this cue, over the trained networks; empty
            without results on reliance.
    """

    networks: tuple[Network, ...]
    correlation: Correlation
    unpaired: Mapping[str, str]
    measured: Mapping[str, Any]
    of_reliance: Mapping[str, Correlation] = dataclasses.field(default_factory=dict)


def relate(
    erf: Sequence[Path],
    shape_bias: Sequence[Path],
    *,
    field: str = "mass",
    threshold: float = 0.5,
    layer: str = "last",
    size: Size | None = None,
    random: bool = False,
    reliance: Sequence[Path] = (),
) -> Relation:
    """Pair the results of the tools by network and weights, and correlate them.

    Args:
        erf: JSON files of `erf.visualize`, or folders of them.
        shape_bias: JSON files of `shapebias.run`, or folders of them.
        field: "mass" or "published", as in `FIELDS`.
        threshold: Share of the mass or of the published score. The files must contain it.
        layer: Name of the layer whose fields are used. Only fields of the central unit are used.
        size: Image size in pixels, a side or (height, width), of the fields to use; None if there is only one size.
        random: Whether to include untrained networks.
        reliance: JSON files of `shapebias.reliance`, or folders of them. A network then needs a field and at least one
            of the two other results.
    Raises: UserError if files cannot be read, no results can be paired, or the paired fields, shape biases or reliances
        were measured in different ways.
    """
    fields = _read_results(erf, "identity", "mass_area_ratio", lambda identity: _is_chosen(identity, layer, size))
    biases = _read_results(shape_bias, "config", "shape_bias")
    relied = _read_results(reliance, "config", "cues")
    others = "shape bias or reliance" if reliance and shape_bias else "reliance" if reliance else "shape bias"
    unpaired: dict[str, str] = {}
    paired: dict[_Weights, tuple[Path, dict[str, Any]]] = {}
    for key, (path, content) in sorted(fields.items(), key=lambda item: item[1][1]["identity"]["model"]):
        name = content["identity"]["model"]
        if key not in biases and key not in relied:
            unpaired[f"{name} ({path})"] = f"no {others} of these weights"
        elif key.random and not random:
            unpaired[f"{name} ({path})"] = "random weights"
        else:
            paired[key] = path, content
    measured = _common_settings(paired.values(), "areas can be compared only for the same images, size and layer")
    _common_settings(
        [biases[key] for key in paired if key in biases],
        "shape biases can be compared only for the same images, classes, preprocessing and aggregation",
    )
    _common_settings(
        [relied[key] for key in paired if key in relied],
        "reliance can be compared only for the same images and suppressions",
    )
    networks: list[Network] = []
    for key, (path, content) in paired.items():
        name = content["identity"]["model"]
        label = f"{name}, {content['weights']['label']}" if key.random else name
        bias = Estimate.from_dict("shape_bias", biases[key][1]["results"]) if key in biases else Estimate(*[None] * 3)
        cues = _read_cues(relied[key][1]) if key in relied else {}
        if bias.value is None and not cues:
            unpaired[f"{name} ({path})"] = f"its {others} is not defined"
            continue
        area, weights = _read_field(path, content, field, threshold), content["weights"]["label"]
        networks.append(Network(name, label, weights, key.random, area, bias, cues))
    for key, (path, content) in [*biases.items(), *relied.items()]:
        if key not in fields:
            unpaired[f"{content['config']['model']} ({path})"] = "no receptive field of these weights"
    if not networks:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in unpaired.items())
        raise UserError(
            f"no network was measured by both tools with the same weights ({reasons or 'no results found'})"
        )
    trained = [network for network in networks if not network.random]
    biased = [network for network in trained if network.shape_bias.value is not None]
    correlation = correlate([network.field for network in biased], [network.shape_bias for network in biased])
    of_reliance = {
        cue: correlate(
            [n.field for n in trained if cue in n.reliance], [n.reliance[cue] for n in trained if cue in n.reliance]
        )
        for cue in CUES
        if any(cue in network.reliance for network in networks)
    }
    return Relation(tuple(networks), correlation, unpaired, measured, of_reliance)


def read_people(paths: Sequence[Path]) -> Estimate | None:
    """Read people's shape bias from a comparison (`shape-bias.json`) among files or in folders; None without people."""
    for path in _list_files(paths):
        results = load_json(path).get("results", {})
        for row in results.get("observers", ()):
            if row.get("kind") == "people":
                return Estimate.from_dict("shape_bias", row)
    return None


def correlate(
    first: Sequence[Estimate], second: Sequence[Estimate], *, resamples: int = RESAMPLES, seed: int = 0
) -> Correlation:
    """Rank correlations of two measures of the same networks, with the intervals described in `Correlation`.

    An estimate without an interval counts as exact. The correlation is not defined for fewer than three networks, or if
    all values of a measure are equal. Bootstrap draws in which all values of a measure are equal are left out.
    """
    (x, x_deviation), (y, y_deviation) = _values(first), _values(second)
    count = len(x)
    if count < _FEWEST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(count)
    rng = np.random.default_rng(seed)
    networks = rng.integers(0, count, size=(resamples, count))
    drawn_x, drawn_y = (
        np.take_along_axis(values + deviation * rng.standard_normal((resamples, count)), networks, axis=1)
        for values, deviation in ((x, x_deviation), (y, y_deviation))
    )
    return Correlation(
        count,
        float(_spearman(x[None], y[None])[0]),
        _percentiles(_spearman(drawn_x, drawn_y)),
        float(_kendall(x[None], y[None])[0]),
        _percentiles(_kendall(drawn_x, drawn_y)),
        float(stats.kendalltau(x, y).pvalue),
    )


@dataclass(frozen=True)
class _Weights:
    """Identity of a network's weights (`replknet.zoo.WeightsRecord.identity`)."""

    model: str
    random: bool
    sha256: str | None
    seed: int | None
    part: str | None = None
    code_sha256: str | None = None


def _is_chosen(identity: Mapping[str, Any], layer: str, size: Size | None) -> bool:
    """Whether a field has the requested layer and size, and belongs to the central unit."""
    asked = list(size) if isinstance(size, tuple) else size  # as in JSON
    return "position" not in identity and identity.get("layer") == layer and asked in (None, identity.get("size"))


def _read_results(
    paths: Sequence[Path],
    block: str,
    measure: str,
    is_chosen: Callable[[Mapping[str, Any]], bool] = lambda identity: True,
) -> dict[_Weights, tuple[Path, dict[str, Any]]]:
    """Read results by weights, from the JSON files whose `block` names the weights. Other files are ignored.

    Raises: UserError if a file cannot be read, lacks `measure`, or has the same weights as another one.
    """
    found: dict[_Weights, tuple[Path, dict[str, Any]]] = {}
    for path in _list_files(paths):
        content = load_json(path)
        identity = content.get(block)
        if not isinstance(identity, dict) or not isinstance(identity.get("weights"), dict) or not is_chosen(identity):
            continue
        try:
            weights = _Weights(**identity["weights"])
            content["results"][measure]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} is not a result of this project: {reason_in_words(error)}") from error
        if weights in found:
            raise UserError(
                f"{path} and {found[weights][0]} are both of {weights.model} with the same weights; name one, "
                "or choose by --layer and --size"
            )
        found[weights] = (path, content)
    return found


def _common_settings(results: Iterable[tuple[Path, Mapping[str, Any]]], why: str) -> Mapping[str, Any]:
    """The settings with which all results were measured, apart from what belongs to a network; empty without results.

    Raises: UserError if they differ; it ends with the words of `why`.
    """
    common: Mapping[str, Any] | None = None
    for path, content in results:
        settings = {part: value for part, value in _identity_of(content).items() if part not in _OWN}
        if common is not None and (differences := list_differences(common, settings)):
            raise UserError(f"{path} was not measured like the others ({'; '.join(differences)}): {why}")
        common = settings
    return common or {}


def _identity_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a result of any tool, with the name of its classes if these do not cover all categories."""
    if "identity" in content:
        return content["identity"]
    classes = content.get("classes")
    return {**({"classes": classes["name"]} if classes and not classes["comparable"] else {}), **content["config"]}


def _list_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; name a result file (.json), or a folder of them")
        files += list_visible(path, "*.json") if path.is_dir() else [path]
    return files


def _read_cues(content: Mapping[str, Any]) -> dict[str, Estimate]:
    """Read the reliance on each cue that was measured."""
    cues = content["results"]["cues"]
    return {cue: Estimate.from_dict("reliance", cues[cue]) for cue in CUES if cue in cues}


def _read_field(path: Path, content: Mapping[str, Any], field: str, threshold: float) -> Estimate:
    """Read the area ratio of a field, with its interval if there is one; interpolated if the file has such a value."""
    entries = content["results"]["mass_area_ratio" if field == "mass" else "area_ratio"]
    entry = next((entry for entry in entries if entry["threshold"] == threshold), None)
    if entry is None:
        known = ", ".join(f"{entry['threshold']:g}" for entry in entries)
        raise UserError(f"{path} has no area ratio at {threshold:g}; it has {known}")
    key = "ratio_interpolated" if "ratio_interpolated" in entry else "ratio"
    if entry[key] is None:
        raise UserError(f"{path}: no square holds {threshold:g} of the map; choose another --threshold")
    low, high = entry.get(f"{key}_interval") or (None, None)
    return Estimate(entry[key], low, high)


def _values(estimates: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """Values (n,) and the standard deviations (n,) that correspond to their intervals; 0 without an interval."""
    widths = [0.0 if e.low is None or e.high is None else e.high - e.low for e in estimates]
    deviations = np.array(widths) / (2 * normal_quantile(CONFIDENCE))
    return np.array([estimate.value for estimate in estimates], dtype=float), deviations


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rho of each pair of rows (B, n); NaN if all values of a row are equal."""
    one, other = (stats.rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (x, y))
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))


def _kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each pair of rows (B, n); NaN if all values of a row are equal."""
    one, other = (np.sign(values[:, :, None] - values[:, None, :]) for values in (x, y))
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=(1, 2)) / np.sqrt((one**2).sum(axis=(1, 2)) * (other**2).sum(axis=(1, 2)))


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values[np.isfinite(values)], [tail, 1 - tail])
    return float(low), float(high)
