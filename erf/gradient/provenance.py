"""Provenance of a contribution map: units, weights, images and computation."""

from collections.abc import Sequence

import numpy as np

from erf.gradient.accumulate import Progress
from erf.gradient.fields.field import UNKNOWN
from erf.gradient.images import ImageSet
from erf.gradient.jobs import Job
from erf.gradient.layers.layer import TakenLayer
from erf.gradient.positions import Position, centre_pixel, positions_of, unit_at
from erf.gradient.ready import LoadedNetwork
from erf.gradient.theoretical import TheoreticalField
from erf.measures.sums import Centre
from erf.options import Config
from erf.results.content import FieldMaking, FieldUnits, LayerTaken
from replknet.used_kernels import describe_kernels
from runkit import UserError, describe_run
from runkit.compute.provenance import describe_computation
from runkit.compute.rounds import Loop

__all__ = ["describe_layer", "describe_map", "describe_units"]

_ROUNDING = 1e-4  # share of the largest value; Fourier-transform convolutions leave rounding errors everywhere


def describe_map(
    job: Job,
    config: Config,
    network: LoadedNetwork,
    images: ImageSet,
    progress: Progress,
    loop: Loop,
    *,
    command: str | None = None,
) -> FieldMaking:
    """The provenance of a finished map, without its identity; see docs/file-formats.md.

    Args:
        command: The command that requested the map, if it was not the command line.

    Raises: UserError if no image was used.
    """
    if progress.feature_size is None or not progress.sums:
        reasons = "; ".join(f"{entry['image']}: {entry['reason']}" for entry in progress.skipped[:3])
        raise UserError(f"{job.name}: no image could be used ({reasons})")
    preprocessing, device = network.ready.preprocessing, network.ready.device
    run = describe_run(program="erf.visualize", arguments=config.arguments, started=loop.started, seconds=loop.seconds)
    return {
        **run,
        "command": command or run["command"],
        "config": config.as_dict(),
        "seed": config.seed,
        "precision": config.precision,
        "plain": config.plain,
        **network.ready.prepared.as_dict(),
        "layer": job.layer,
        "layer_taken": describe_layer(network.taken),
        **describe_computation(loop, device),
        **describe_kernels(device, large_depthwise=network.large_depthwise, plain=config.plain),
        "precision_difference": network.precision_difference,
        "weights": network.record.as_dict(),
        "model_args": network.model_args,
        "data": {
            "name": images.name,
            "images_found": images.found,
            "images_chosen": len(images.paths),
            "images_used": len(progress.sums),
            "sha256": images.sha256,
            "size_px": list(job.pixels),
            "mean": preprocessing.mean,
            "std": preprocessing.std,
            "interpolation": "bicubic",
        },
        "skipped": list(progress.skipped),
        **describe_units(
            progress.feature_size, job.pixels, positions_of(config.position), network.field, total=progress.total
        ),
    }


def describe_layer(taken: TakenLayer) -> LayerTaken:
    """Describe the map that was taken for a layer."""
    return {
        "module": taken.module,
        "layout": taken.layout,
        "call": taken.call,
        "prefix_tokens": taken.prefix_tokens,
        "note": taken.note or None,
    }


def describe_units(
    feature_size: tuple[int, int],
    size: tuple[int, int],
    positions: Sequence[Position],
    field: TheoreticalField,
    *,
    total: np.ndarray | None = None,
) -> FieldUnits:
    """Describe the units: which ones, over which pixels, what they can see, and where squares are centred.

    Args:
        feature_size: (h, w) of the feature map.
        size: (height, width) of the images.
        total: Sum of the maps, (height, width). If it extends beyond a field, that field is reported as unknown: the
            network behaved differently on images than on the tensor without data from which the field was derived.

    In a map of odd size, the middle unit lies over the image's centre; otherwise it lies just below and right of it.
    """
    units = [unit_at(position, feature_size) for position in positions]
    alone = units[0] if len(units) == 1 else None
    if alone is not None and total is not None and _reaches_beyond(total, field.covers(alone)):
        field = TheoreticalField(None, None, None, UNKNOWN + "the map reaches beyond what was followed")
    centres = [centre_pixel(position, feature_size, size) for position in positions]
    return {
        "unit": {
            "feature_map": list(feature_size),
            "indices": [list(unit) for unit in units],
            "covers_px": alone
            and [
                [i * side // n, (i + 1) * side // n - 1] for i, n, side in zip(alone, feature_size, size, strict=True)
            ],
            "centre_px": list(centres[0]) if alone else [side // 2 for side in size],
        },
        "theoretical_field": {
            "side_px": field.side_px,
            "stride_px": field.stride_px,
            "centred_side_px": _centred_side([field.covers(unit) for unit in units], centres),
            "covers_px": field.covers(alone) if alone else None,
            "reason": field.reason,
        },
    }


def _reaches_beyond(total: np.ndarray, covers: list[list[int]] | None) -> bool:
    """Whether a map has more than rounding errors outside of the pixels that a unit can see."""
    if covers is None:
        return False
    outside = total.copy()
    rows, columns = (slice(max(first, 0), max(last + 1, 0)) for first, last in covers)
    outside[rows, columns] = 0
    return bool(outside.max() > _ROUNDING * total.max())


def _centred_side(fields: Sequence[list[list[int]] | None], centres: Sequence[Centre]) -> int | None:
    """Side of the smallest square, centred on its unit's centre pixel, that contains the whole field of every unit."""
    reaches = [
        max(abs(end - middle) for side, middle in zip(field, centre, strict=True) for end in side)
        for field, centre in zip(fields, centres, strict=True)
        if field is not None
    ]
    return 2 * max(reaches) + 1 if len(reaches) == len(fields) else None
