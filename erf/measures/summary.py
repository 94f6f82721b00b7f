"""All measures of a receptive field with their intervals over images: from a map to the content of its JSON.

Estimates are those of the mean map. Resamples are computed from the sums of its images. Two results of the same images
use the same resamples, so their differences are paired.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from erf.measures.blocks import entropy_area, measure_blocks, participation_area
from erf.measures.bootstrap import LEVEL, METHOD, RESAMPLES, SEED, Resampled, choices
from erf.measures.centred import CentredSquares, whole_side
from erf.measures.content import FieldMeasures
from erf.measures.extent import fit_gaussian, radial_density, second_moments
from erf.measures.squares import LOG_THRESHOLDS, MASS_THRESHOLDS, check_map, log_area, mass_area
from erf.measures.sums import Centre, MapSums, map_sums
from erf.measures.value import Value
from runkit import format_html
from runkit.content import IntervalMethod
from runkit.intervals import note_on_few

__all__ = ["QUANTITIES", "SINGLE", "Measured", "Quantity", "each_threshold", "measure", "no_such_measure"]

SCALE_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)
CURVE_POINTS = 128
# A map is called Gaussian under two conditions: a Gaussian explains this much of its radial profile, and the masses
# beyond two widths of the map and of the Gaussian differ by no more than the second threshold. A disc (0.81) and a
# square (0.89) fail by R²; exp(-r) has an R² of 0.96, but 0.33 of its mass lies beyond two widths.
GAUSSIAN_R2 = 0.95
GAUSSIAN_TAIL = 0.05
_WITHOUT_NOISE = ("participation_area_px", "entropy_area_px")  # needs the scatter of at least two images


@dataclass(frozen=True)
class Quantity:
    """A measured quantity.

    Attributes:
        unit: 'px' for lengths, 'pixels' for areas, 'degrees', or '' for a pure number.
        label: Label in tables, to which the threshold is added.
        thresholds: Thresholds, each with one value; empty for a single value.
    """

    unit: str
    label: str
    thresholds: tuple[float, ...] = ()


QUANTITIES: Mapping[str, Quantity] = {
    "area_ratio": Quantity("", "area ratio, log10(score + 1) / max", LOG_THRESHOLDS),
    "mass_side_px": Quantity("px", "side holding mass", MASS_THRESHOLDS),
    "mass_area_ratio": Quantity("", "area ratio holding mass", MASS_THRESHOLDS),
    "rms_radius_px": Quantity("px", "RMS radius"),
    "offset_down_px": Quantity("px", "centre of mass, down"),
    "offset_right_px": Quantity("px", "centre of mass, right"),
    "offset_px": Quantity("px", "centre of mass, distance"),
    "sigma_major_px": Quantity("px", "standard deviation, major axis"),
    "sigma_minor_px": Quantity("px", "standard deviation, minor axis"),
    "anisotropy": Quantity("", "anisotropy"),
    "orientation_deg": Quantity("degrees", "orientation"),
    "participation_area_px": Quantity("pixels", "participation area"),
    "entropy_area_px": Quantity("pixels", "entropy area"),
    "gaussian_sigma_px": Quantity("px", "Gaussian fit, width"),
    "gaussian_r2": Quantity("", "Gaussian fit, R²"),
    "mass_beyond_2_sigma": Quantity("", "mass beyond two widths"),
    "fit_mass_beyond_2_sigma": Quantity("", "the fit's mass beyond two widths"),
    "excess_kurtosis": Quantity("", "excess kurtosis"),
    "theoretical_ratio": Quantity("", "side holding mass over theoretical side", MASS_THRESHOLDS),
}

SINGLE = tuple(name for name, quantity in QUANTITIES.items() if not quantity.thresholds)
"""Names of the measures that are single numbers."""


def no_such_measure(name: object, known: Iterable[str]) -> str:
    """Error message for an unknown measure: the most similar name, and all that exist."""
    names = list(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    guess = f" (did you mean {near[0]!r}?)" if near else ""
    return f"there is no measure {name!r}{guess}; there are {', '.join(names)}"


@dataclass(frozen=True)
class Measured:
    """All measures of one receptive field.

    `measured.side(0.5)` and `measured.area(0.5)` describe the square that holds half of the contribution. Measures that
    are single numbers are attributes, such as `measured.rms_radius_px`. All of these are a `Value`, a number with its
    interval. `measured["rms_radius_px"]` is the entry of that name in the JSON.

    Attributes:
        values: Maps names in `QUANTITIES` to values of shape (T,) for T thresholds. `theoretical_ratio` is missing if
            there is no theoretical side.
        mass_curve: Share of the mass in squares of side 1, 3, 5, ...: (L,).
        radial_profile: Density at 0, 1, 2, ... pixels from the centre, divided by that of a uniform map: (Q,).
        contribution: The map (H, W).
        centre: Pixel at the centre of squares and circles, (down, across).
    """

    values: Mapping[str, Resampled]
    mass_curve: Resampled
    radial_profile: Resampled
    contribution: np.ndarray
    centre: Centre

    def as_dict(self) -> FieldMeasures:
        """All measures for JSON, as listed in `docs/file-formats.md`; undefined numbers and intervals are None."""
        return self._described

    @cached_property
    def _described(self) -> FieldMeasures:
        return _describe_all(self)

    def side(self, share: float = 0.5) -> Value:
        """Side in pixels of the centred square that holds a share of the contribution, not rounded to whole pixels.

        The square is cut off where it leaves the map; the side is that of the whole square.

        Args:
            share: Share of the contribution, between 0 and 1.

        Returns: The side; NaN if no square holds as much.
        Raises: ValueError if the share is not between 0 and 1.
        """
        return Value.of(self._sides(share), "px")

    def area(self, share: float = 0.5) -> Value:
        """Part of the image that holds a share of the contribution: the area of that square within the map, divided by
        the area of the map.

        Args, Returns and Raises: As for `side`.
        """
        sides = self._sides(share)
        estimate, resamples = map(self._squares.ratio, (sides.estimate, sides.resamples))
        return Value.of(Resampled(estimate, resamples, sides.num_images))

    @property
    def _squares(self) -> CentredSquares:
        return CentredSquares.around(self.contribution.shape, self.centre)

    def _sides(self, share: float) -> Resampled:
        if not 0 < share < 1:
            raise ValueError(f"share {share!r}: take a share of the contribution between 0 and 1, such as 0.5")
        curve = self.mass_curve
        estimate, resamples = (
            self._squares.interpolated_side(shares, (share,))[:, 0]
            for shares in (curve.estimate[None], curve.resamples)
        )
        return Resampled(estimate[0], resamples, curve.num_images)

    def __getitem__(self, name: str) -> Any:
        described = cast(dict[str, Any], self._described)
        if name not in described:
            raise KeyError(no_such_measure(name, described))
        return described[name]

    def __getattr__(self, name: str) -> Value:
        if name in SINGLE and name in self.__dict__.get("values", {}):
            return Value.of(self.values[name], QUANTITIES[name].unit)
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(no_such_measure(name, (*SINGLE, "side", "area")))

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *(name for name in SINGLE if name in self.values)})

    def __repr__(self) -> str:
        height, width = self.contribution.shape
        sides = ", ".join(
            f"{part['threshold']:.0%} in {_word(part['side_interpolated_px'])}" for part in self["mass_area_ratio"]
        )
        return f"Measured({width} x {height} pixels; mass: {sides} px; RMS radius {_word(self['rms_radius_px'])} px)"

    def _repr_html_(self) -> str:
        """Table of all measures with their intervals, for notebooks."""
        rows = [
            [_name_of(quantity, threshold), *_words(part), quantity.unit]
            for name, quantity in QUANTITIES.items()
            if name in self.values
            for threshold, part in each_threshold(quantity, self.values[name])
        ]
        table = format_html(["measure", "value", "95% interval over images", "unit"], rows)
        note = note_on_few([self.mass_curve.num_images])
        return f"{table}<p>{note}</p>" if note else table


def each_threshold(quantity: Quantity, value: Resampled) -> Iterator[tuple[float | None, Resampled]]:
    """The value at each threshold, or the single value with threshold None."""
    if not quantity.thresholds:
        yield None, value
    for i, threshold in enumerate(quantity.thresholds):
        yield threshold, Resampled(value.estimate[i], value.resamples[:, i], value.num_images)


def _name_of(quantity: Quantity, threshold: float | None) -> str:
    return quantity.label if threshold is None else f"{quantity.label}: {threshold:.0%}"


def _words(value: Resampled) -> list[str]:
    """Value and interval formatted as text."""
    low, high = map(_word, value.interval())
    return [_word(value.estimate), "–" if low == high == "–" else f"{low} to {high}"]


def _word(number: Any) -> str:
    return "–" if number is None or not np.isfinite(number) else f"{float(number):.4g}"


def measure(
    contribution: np.ndarray,
    sums: MapSums | None = None,
    *,
    centre: Centre | None = None,
    theoretical_side: float | None = None,
) -> Measured:
    """Measure a mean map, with intervals if there are sums of the maps of at least two images.

    Args:
        contribution: Mean map (H, W), an array or a tensor on the CPU.
        sums: Sums of each image's map; None if they were not kept, in which case there are no intervals.
        centre: Pixel at the centre of squares and circles, (down, across); (H // 2, W // 2) if None.
        theoretical_side: Side of the theoretical field in pixels; None if it has no bound or is not known.

    Raises: ValueError as `check_map`.
    """
    contribution = check_map(contribution)
    squares = CentredSquares.around(contribution.shape, centre)
    centre, images = squares.centre, len(sums) if sums else 0
    whole = map_sums(contribution, centre)
    estimate = _measure_sums(whole.rings, whole.annuli, whole.moments, squares)
    ratios = [np.nan if area.ratio is None else area.ratio for area in log_area(contribution, centre=centre)]
    estimate |= {"area_ratio": np.array([ratios]), **{name: np.full(1, np.nan) for name in _WITHOUT_NOISE}}
    resampled = {name: value[:0] for name, value in estimate.items()}
    if sums is not None and images > 1:
        weights = choices(images)
        rings, annuli, moments = (weights[1:] @ part for part in (sums.rings, sums.annuli, sums.moments))
        with np.errstate(divide="ignore", invalid="ignore"):  # a resample of images with zero maps has no measures
            resampled = _measure_sums(rings, annuli, moments, squares)
            blocks = measure_blocks(contribution, sums, weights, centre)
            sides = whole_side(squares.shares(blocks.log_rings[1:]), LOG_THRESHOLDS)
        resampled["area_ratio"] = squares.ratio(sides)
        for name in _WITHOUT_NOISE:
            estimate[name], resampled[name] = np.split(getattr(blocks, name), [1])
    if theoretical_side is not None:
        for part in (estimate, resampled):
            part["theoretical_ratio"] = part["mass_side_px"] / theoretical_side
    turned = resampled["orientation_deg"] - estimate["orientation_deg"]
    resampled["orientation_deg"] = estimate["orientation_deg"] + (turned + 90) % 180 - 90
    values = {name: Resampled(estimate[name][0], resampled[name], images) for name in estimate}
    return Measured(values, values.pop("mass_curve"), values.pop("radial_profile"), contribution, centre)


def _measure_sums(
    rings: np.ndarray, annuli: np.ndarray, moments: np.ndarray, squares: CentredSquares
) -> dict[str, np.ndarray]:
    """All measures that can be computed from sums of maps, with one row for each map."""
    shares = squares.shares(rings)
    sides = squares.interpolated_side(shares, MASS_THRESHOLDS)
    fit = fit_gaussian(annuli, squares.shape, squares.centre)
    return {
        "mass_curve": shares,
        "radial_profile": radial_density(annuli, squares.shape, squares.centre),
        "mass_side_px": sides,
        "mass_area_ratio": squares.ratio(sides),
        **vars(second_moments(moments)),
        "gaussian_sigma_px": fit.sigma_px,
        "gaussian_r2": fit.r2,
        "mass_beyond_2_sigma": fit.mass_beyond_2_sigma,
        "fit_mass_beyond_2_sigma": fit.fit_mass_beyond_2_sigma,
    }


# --- for JSON -----------------------------------------------------------------------------------------------------


def _describe_all(measured: Measured) -> FieldMeasures:
    contribution, centre = measured.contribution, measured.centre
    values = {name: _describe(name, value) for name, value in measured.values.items()}
    log_ratio, mass_ratio, mass_side = (values[n] for n in ("area_ratio", "mass_area_ratio", "mass_side_px"))

    def single(*names: str) -> dict[str, Any]:
        return {key: entry for name in names for key, entry in values[name].items()}

    content: dict[str, Any] = {
        "area_ratio": [
            asdict(area) | {"ratio_interval": interval}
            for area, interval in zip(
                log_area(contribution, centre=centre), log_ratio["area_ratio_interval"], strict=True
            )
        ],
        "area_ratio_definition": "log10(score + 1) / max, centred squares; depends on the scale of the gradients",
        "area_ratio_if_scaled": [
            {"factor": f, "area_ratio": [asdict(area) for area in log_area(f * contribution, centre=centre)]}
            for f in SCALE_FACTORS
        ],
        "mass_area_ratio": [
            asdict(area)
            | {
                "side_interpolated_px": mass_side["mass_side_px"][i],
                "side_interpolated_px_interval": mass_side["mass_side_px_interval"][i],
                "ratio_interpolated": mass_ratio["mass_area_ratio"][i],
                "ratio_interpolated_interval": mass_ratio["mass_area_ratio_interval"][i],
            }
            for i, area in enumerate(mass_area(contribution, centre=centre))
        ],
        "mass_area_ratio_definition": "score, centred squares; free of the scale of the gradients",
        "mass_curve": _curve(measured.mass_curve, "side_px", 2 * np.arange(len(measured.mass_curve.estimate)) + 1),
        "radial_profile": _curve(
            measured.radial_profile, "radius_px", np.arange(len(measured.radial_profile.estimate))
        ),
        **single("rms_radius_px", "offset_down_px", "offset_right_px", "offset_px"),
        **single("sigma_major_px", "sigma_minor_px", "anisotropy", "orientation_deg"),
        **single("participation_area_px", "entropy_area_px"),
        "participation_area_of_mean_map_px": participation_area(contribution),
        "entropy_area_of_mean_map_px": entropy_area(contribution),
        "gaussian": {
            **single("gaussian_sigma_px", "gaussian_r2", "mass_beyond_2_sigma", "fit_mass_beyond_2_sigma"),
            **single("excess_kurtosis"),
            "is_gaussian": _is_gaussian(measured),
            "criterion": f"R² of at least {GAUSSIAN_R2}, mass beyond two widths within {GAUSSIAN_TAIL} of the fit's",
        },
        "theoretical_ratio": [
            {"threshold": t, "ratio": ratio, "ratio_interval": interval}
            for t, ratio, interval in zip(
                MASS_THRESHOLDS,
                values["theoretical_ratio"]["theoretical_ratio"],
                values["theoretical_ratio"]["theoretical_ratio_interval"],
                strict=True,
            )
        ]
        if "theoretical_ratio" in values
        else None,
        "centre_px": list(centre),
        "score_max": float(contribution.max()),
        "score_sum": float(contribution.sum()),
        "interval": _describe_interval(measured.mass_curve) if len(measured.mass_curve.resamples) else None,
    }
    return cast(FieldMeasures, content)  # some keys are composed; tests compare with the type's JSON Schema


def _describe_interval(curve: Resampled) -> IntervalMethod:
    method: IntervalMethod = {"level": LEVEL, "method": METHOD, "resamples": RESAMPLES, "seed": SEED}
    if note := note_on_few([curve.num_images]):
        method["note"] = note
    return method


def _is_gaussian(measured: Measured) -> bool:
    r2, tail, fit_tail = (
        float(measured.values[name].estimate)
        for name in ("gaussian_r2", "mass_beyond_2_sigma", "fit_mass_beyond_2_sigma")
    )
    return r2 >= GAUSSIAN_R2 and abs(tail - fit_tail) <= GAUSSIAN_TAIL  # False where the fit is NaN


def _describe(name: str, value: Resampled) -> dict[str, Any]:
    """`{name: value, name_interval: [low, high]}`; lists of values and intervals if there are several thresholds."""
    low, high = value.interval()
    ends = np.stack([low, high], axis=-1)
    intervals = [_interval(pair) for pair in ends.reshape(-1, 2)]
    numbers = [_number(number) for number in value.estimate.reshape(-1)]
    scalar = value.estimate.ndim == 0
    return {name: numbers[0] if scalar else numbers, f"{name}_interval": intervals[0] if scalar else intervals}


def _curve(curve: Resampled, argument: str, at: np.ndarray) -> dict[str, Any]:
    """A curve at no more than `CURVE_POINTS` points, including the first and the last."""
    chosen = np.unique(np.linspace(0, len(at) - 1, min(len(at), CURVE_POINTS)).round().astype(int))
    thinned = Resampled(curve.estimate[chosen], curve.resamples[:, chosen], curve.num_images)
    return {argument: at[chosen].tolist(), **_describe("share" if argument == "side_px" else "density", thinned)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _interval(pair: np.ndarray) -> list[float | None] | None:
    """[low, high]. An end that is not reached is None; the whole is None if there is no interval."""
    return None if np.isnan(pair).all() else [_number(end) for end in pair]
