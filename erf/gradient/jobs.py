"""What a run is made of: one map for each network, weights, size and layer that it was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erf.gradient.positions import Position, centre_pixel, unit_at
from erf.options import Config

if TYPE_CHECKING:  # these load torch
    from erf.gradient.theoretical import TheoreticalField
    from replknet.zoo import ResolvedWeights

__all__ = ["Job", "describe_units", "list_jobs"]


@dataclass(frozen=True)
class Job:
    """One map to be made.

    Attributes:
        name: The network's; with several weights, sizes or layers also which of them: the files are called after it.
        weights: The network and its weights.
        size: Side of the images in pixels.
        layer: As for `erf.gradient.contribution.feature_map`.
    """

    name: str
    weights: "ResolvedWeights"
    size: int
    layer: str


def list_jobs(config: Config, option: str, weights: "ResolvedWeights", stages: int) -> list[Job]:
    """The maps asked for of one network with some weights.

    Args:
        option: What `--weights` said.
        weights: What that is for the network.
        stages: How many feature maps the network names, for `--layer all`.
    """
    layers = [layer for asked in config.layer for layer in (map(str, range(stages)) if asked == "all" else [asked])]

    def name(size: int, layer: str) -> str:
        parts = [weights.name]
        parts += [Path(option).stem] if len(config.weights) > 1 else []
        parts += [f"size-{size}"] if len(config.size) > 1 else []
        parts += [f"layer-{layer}"] if len(layers) > 1 else []
        return ".".join(parts)

    return [Job(name(size, layer), weights, size, layer) for size in config.size for layer in layers]


def describe_units(
    feature_size: tuple[int, int] | None, size: int, positions: Sequence[Position], field: "TheoreticalField"
) -> dict[str, Any]:
    """Which units were asked, which pixels they lie over and can see, and which pixel squares lie round.

    In a map of odd size the middle unit lies round the image's centre, else right below it.
    """
    if feature_size is None:
        raise AssertionError("a run that used an image knows its feature map")
    units = [unit_at(position, feature_size) for position in positions]
    alone = units[0] if len(units) == 1 else None
    return {
        "unit": {
            "feature_map": list(feature_size),
            "indices": [list(unit) for unit in units],
            "covers_px": alone
            and [[i * size // n, (i + 1) * size // n - 1] for i, n in zip(alone, feature_size, strict=True)],
            "centre_px": list(centre_pixel(positions[0], feature_size, (size, size))) if alone else [size // 2] * 2,
        },
        "theoretical_field": {
            "side_px": field.side_px,
            "stride_px": field.stride_px,
            "covers_px": field.covers(alone) if alone else None,
            "reason": field.reason,
        },
    }
