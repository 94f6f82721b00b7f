"""Receptive fields for claims, measured as by `erf.visualize`. Finished maps are reused, unfinished ones resumed."""

import logging
from collections.abc import Sequence

import numpy as np

from claims.claim import Options, Row
from erf.measures.bootstrap import Resampled
from erf.measures.squares import LOG_THRESHOLDS, MASS_THRESHOLDS
from erf.options import Config
from erf.results.files import ErfResult
from erf.sweep import measure_networks
from replknet.weights.sources import WeightsUnavailable
from replknet.zoo import resolve_weights
from runkit import UserError

__all__ = [
    "FIELD_OF_TRAINED",
    "SIZE_OF_TRAINED",
    "area_at_half",
    "field_errors",
    "field_interval",
    "field_row",
    "mass_area_at_half",
    "measure_fields",
    "trained_or_random",
]

FIELD_OF_TRAINED = ("size_px", "area_ratio_50", "mass_area_ratio_50", "mass_side_50_px")
"""The entries of `field_row` that claims about trained networks keep."""
SIZE_OF_TRAINED = 592
"""Image side in pixels for the nano networks: 4.6 times that of the training images, as 1024 to 224 in the paper."""

_logger = logging.getLogger(__name__)


def trained_or_random(networks: Sequence[str], weights: str) -> str:
    """Resolve 'auto' for networks that are compared: 'pretrained' if all have trained weights, otherwise 'random'.

    Other values of `weights` are returned unchanged.
    """
    if weights != "auto":
        return weights
    for name in networks:
        try:
            resolve_weights(name, "pretrained")
        except WeightsUnavailable as error:
            _logger.warning("RANDOM WEIGHTS for all networks of this claim, since %s", error)
            return "random"
    return "pretrained"


def measure_fields(
    options: Options, claim: str, networks: Sequence[str], weights: str, *, size: int, num_images: int, seed: int = 0
) -> list[ErfResult]:
    """Measure the receptive fields of networks and return them in the same order.

    The files go to `<output>/<claim>/<weights>-<seed>`, where `<weights>` is 'trained' for a checkpoint.

    Args:
        weights: 'pretrained', 'random', or the path of a checkpoint for a single network.
        size: Side of the images in pixels, unless `options` gives one.
        num_images: Maximum number of images, unless `options` gives one.

    Raises: UserError if any network cannot be measured.
    """
    config = Config(
        model=tuple(networks),
        weights=(weights,),
        images=options.images,
        num_images=options.num_images or num_images,
        size=(options.size or size,),
        device=options.device,
        seed=seed,
        output=options.output,
        resume=True,
        overwrite=options.overwrite,
        arguments=options.arguments,
    )
    label = weights if weights in ("pretrained", "random") else "trained"
    swept = measure_networks(config, options.output / claim / f"{label}-{seed}")
    if swept.failures.reasons:
        raise UserError(f"{', '.join(swept.failures.reasons)} could not be measured, for the reasons given above")
    return swept.results


def area_at_half(result: ErfResult) -> Resampled:
    """The area ratio at 50% as published, which depends on the scale of the gradients."""
    return _at(result.measured.values["area_ratio"], LOG_THRESHOLDS.index(0.5))


def mass_area_at_half(result: ErfResult) -> Resampled:
    """Area ratio of the square that holds half of the map itself, independent of the scale of the gradients."""
    return _at(result.measured.values["mass_area_ratio"], MASS_THRESHOLDS.index(0.5))


def _at(value: Resampled, index: int) -> Resampled:
    return Resampled(value.estimate[index], value.resamples[:, index], value.num_images)


def field_row(result: ErfResult, seed: int) -> Row:
    """Measures of one receptive field. `low` and `high` are the 95% interval of the side over images, or None."""
    side = _at(result.measured.values["mass_side_px"], MASS_THRESHOLDS.index(0.5))
    low, high = side.interval()
    return {
        "network": result.name,
        "weights": result.weights_label,
        "random": result.random_weights,
        "seed": seed if result.random_weights else None,
        "images": result.num_images,
        "size_px": result.contribution.shape[0],
        "area_ratio_50": _number(area_at_half(result).estimate),
        "mass_area_ratio_50": _number(mass_area_at_half(result).estimate),
        "mass_side_50_px": _number(side.estimate),
        "low": _number(low),
        "high": _number(high),
        "rms_radius_px": _number(result.measured.values["rms_radius_px"].estimate),
        "theoretical_side_px": result.theoretical_side,
    }


def field_interval(field: Row) -> Row:
    """The interval of the side in a `field_row`, under names that do not clash with other intervals of a row."""
    return {"mass_side_50_low_px": field["low"], "mass_side_50_high_px": field["high"]}


def field_errors(row: Row) -> list[list[float]] | None:
    """The interval of the side in the form of matplotlib's `errorbar`; None if the row has no interval."""
    low, high = row.get("mass_side_50_low_px"), row.get("mass_side_50_high_px")
    if low is None or high is None:
        return None
    side = row["mass_side_50_px"]
    return [[max(0.0, side - low)], [max(0.0, high - side)]]


def _number(value: np.ndarray | float) -> float | None:
    return float(value) if np.isfinite(value) else None
