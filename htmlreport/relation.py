"""Do networks with larger receptive fields rely more on shape? Receptive field against shape bias.

arXiv:2203.06717 conjectures that large effective receptive fields make for shape bias. Here a network's field (a JSON
of `erf.visualize`) and its shape bias (a JSON of `shapebias.run`) are set side by side where both are of the very same
weights, and their order is compared. What a network relies on (a JSON of `shapebias.reliance`) can be compared with
both, or in place of shape bias where a network has no head of ImageNet. Only the files are read.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
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
"""How the size of a field is read from a file: scale-free, or as published."""
FEW = 10
"""With fewer networks than this, a rank correlation says almost nothing."""
_FEWEST = 3
_SAME = ("model", "weights", "precision", "plain")  # in which the fields of networks may differ


@dataclass(frozen=True)
class Network:
    """A network measured by both tools, or by receptive field and reliance.

    Attributes:
        name: As both tools were given it.
        label: How tables call it; random weights are named.
        random: Whether it is untrained: drawn hollow, and left out of the correlation.
        field: Area ratio of its effective receptive field; without an interval where the file has none.
        shape_bias: With its interval; without a value where only reliance was measured.
        reliance: Cue -> reliance with its interval; empty where it was not measured.
    """

    name: str
    label: str
    random: bool
    field: Estimate
    shape_bias: Estimate
    reliance: Mapping[str, Estimate] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        row = {"name": self.name, "label": self.label, "random": self.random}
        row |= {**self.field.as_dict("field"), **self.shape_bias.as_dict("shape_bias")}
        for cue, estimate in self.reliance.items():
            row |= estimate.as_dict(f"reliance_{cue}")
        return row


@dataclass(frozen=True)
class Correlation:
    """Rank correlation over networks, in [-1, 1], with its 95% bootstrap interval.

    The interval accounts for the choice of networks, which are drawn with replacement, and for the uncertainty of each,
    whose field and shape bias are drawn from normal distributions as wide as their intervals. The networks are drawn
    independently of each other, so the interval is wider than necessary if they saw the same images.

    Attributes:
        networks: Number of networks.
        spearman, kendall: Spearman's rho and Kendall's tau-b; None where they are not defined.
        spearman_interval, kendall_interval: [low, high], None likewise.
        kendall_p: Two-sided p value of Kendall's tau; exact for few networks without ties.
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
        """A sentence with the correlations, their intervals, and the number of networks, which may be too small."""
        few = ": too few for a conclusion" if self.networks < FEW else ""
        if self.spearman is None or self.kendall is None or not self.spearman_interval or not self.kendall_interval:
            return f"no rank correlation: {self.networks} trained networks{few}"
        rho, tau = (
            f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"
            for value, (low, high) in ((self.spearman, self.spearman_interval), (self.kendall, self.kendall_interval))
        )
        return f"Spearman's rho {rho}, Kendall's tau {tau}, p = {self.kendall_p:.2g}; {self.networks} networks{few}"


@dataclass(frozen=True)
class Relation:
    """Networks measured by both tools, in the order of their names.

    Attributes:
        networks: The networks, with untrained ones only if asked for.
        correlation: Correlation over the trained networks.
        unpaired: Name -> reason, for networks that only one of the tools measured, or with other weights.
        measured: What all fields have in common: images, size, layer.
        of_reliance: Cue -> correlation of the field with reliance on it, over the trained networks; empty where
            reliance was not asked for.
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
    """Pair the results of the tools by network and weights.

    Args:
        erf: JSON files of `erf.visualize`, or folders of them.
        shape_bias: JSON files of `shapebias.run`, or folders of them.
        field: "mass" or "published", as in `FIELDS`.
        threshold: Share of the mass, or of the published score; it must be among those in the files.
        layer: Name of the layer whose fields are taken; only fields of the central unit are.
        size: Side or (height, width) in pixels of the images whose fields are taken; None if there is only one size.
        random: Whether to show untrained networks.
        reliance: JSON files of `shapebias.reliance`, or folders of them; a network then needs a field and one of the
            two other results.
    Raises: UserError if files cannot be read, fields were measured in different ways, or no network has both results.
    """
    fields = _read_results(erf, "identity", "mass_area_ratio", lambda identity: _is_chosen(identity, layer, size))
    biases = _read_results(shape_bias, "config", "shape_bias")
    relied = _read_results(reliance, "config", "cues")
    others = "shape bias or reliance" if reliance and shape_bias else "reliance" if reliance else "shape bias"
    networks: list[Network] = []
    measured: dict[str, Any] = {}
    unpaired: dict[str, str] = {}
    for key, (path, content) in sorted(fields.items(), key=lambda item: item[1][1]["identity"]["model"]):
        name = content["identity"]["model"]
        if key not in biases and key not in relied:
            unpaired[f"{name} ({path})"] = f"no {others} of these weights"
            continue
        if key.random and not random:
            unpaired[f"{name} ({path})"] = "random weights"
            continue
        common = {part: value for part, value in content["identity"].items() if part not in _SAME}
        if measured and (differences := list_differences(measured, common)):
            raise UserError(
                f"{path} was not measured like the others ({'; '.join(differences)}): areas can be compared only for "
                "the same images, size and layer"
            )
        measured = common
        label = f"{name}, {content['weights']['label']}" if key.random else name
        bias = Estimate.from_dict("shape_bias", biases[key][1]["results"]) if key in biases else Estimate(*[None] * 3)
        cues = _read_cues(relied[key][1]) if key in relied else {}
        if bias.value is None and not cues:
            unpaired[f"{name} ({path})"] = f"its {others} is not defined"
            continue
        networks.append(Network(name, label, key.random, _read_field(path, content, field, threshold), bias, cues))
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
    """People's shape bias out of the comparisons (`shape-bias.json`) among files or in folders; None without people."""
    for path in _list_files(paths):
        results = load_json(path).get("results", {})
        for row in results.get("observers", ()):
            if row.get("kind") == "people":
                return Estimate.from_dict("shape_bias", row)
    return None


def correlate(
    first: Sequence[Estimate], second: Sequence[Estimate], *, resamples: int = RESAMPLES, seed: int = 0
) -> Correlation:
    """Rank correlations of two measures of the same networks, and their intervals as `Correlation` says.

    An estimate without an interval counts as exact. Fewer than three networks, or equal values only, give no
    correlation; draws of equal values only are left out.
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
    """What tells two sets of weights apart (`replknet.zoo.WeightsRecord.identity`)."""

    model: str
    random: bool
    sha256: str | None
    seed: int | None
    part: str | None = None
    code_sha256: str | None = None


def _is_chosen(identity: Mapping[str, Any], layer: str, size: Size | None) -> bool:
    """Whether a field is of the layer and size asked for, and of the central unit."""
    asked = list(size) if isinstance(size, tuple) else size  # as JSON has it
    return "position" not in identity and identity.get("layer") == layer and asked in (None, identity.get("size"))


def _read_results(
    paths: Sequence[Path],
    block: str,
    measure: str,
    is_chosen: Callable[[Mapping[str, Any]], bool] = lambda identity: True,
) -> dict[_Weights, tuple[Path, dict[str, Any]]]:
    """Results of networks by their weights: the JSONs whose `block` says model and weights. Others are passed over.

    Raises: UserError if a file cannot be read, one has no such `measure`, or two are of the same weights.
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


def _list_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"{path} does not exist; name a result file (.json), or a folder of them")
        files += list_visible(path, "*.json") if path.is_dir() else [path]
    return files


def _read_cues(content: Mapping[str, Any]) -> dict[str, Estimate]:
    """Reliance on each cue that was measured."""
    cues = content["results"]["cues"]
    return {cue: Estimate.from_dict("reliance", cues[cue]) for cue in CUES if cue in cues}


def _read_field(path: Path, content: Mapping[str, Any], field: str, threshold: float) -> Estimate:
    """The area ratio of a field: interpolated and with an interval where the file has them, else to a whole pixel."""
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
    """Values (n,) and the standard deviations that their intervals stand for (n,), 0 without an interval."""
    widths = [0.0 if e.low is None or e.high is None else e.high - e.low for e in estimates]
    deviations = np.array(widths) / (2 * normal_quantile(CONFIDENCE))
    return np.array([estimate.value for estimate in estimates], dtype=float), deviations


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Spearman's rho of each row (B, n); NaN where a row has equal values only."""
    one, other = (stats.rankdata(values, axis=1) - (values.shape[1] + 1) / 2 for values in (x, y))
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=1) / np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))


def _kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of each row (B, n); NaN as above."""
    one, other = (np.sign(values[:, :, None] - values[:, None, :]) for values in (x, y))
    with np.errstate(invalid="ignore"):
        return (one * other).sum(axis=(1, 2)) / np.sqrt((one**2).sum(axis=(1, 2)) * (other**2).sum(axis=(1, 2)))


def _percentiles(values: np.ndarray) -> tuple[float, float]:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(values[np.isfinite(values)], [tail, 1 - tail])
    return float(low), float(high)
