"""The jobs of a run: one map for each network, weights, size and layer that it was asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from erf.options import Config
from erf.sizes import Size, name_of_size, pixels_of

if TYPE_CHECKING:  # loads torch
    from replknet.zoo import ResolvedWeights

__all__ = ["Job", "list_jobs"]


@dataclass(frozen=True)
class Job:
    """One map to be made.

    Attributes:
        name: The network's; with several weights, sizes or layers also which of them: the files are called after it.
        weights: The network and its weights.
        size: Of the images in pixels: the side of squares, or (height, width).
        layer: As for `erf.gradient.contribution.feature_map`.
    """

    name: str
    weights: "ResolvedWeights"
    size: Size
    layer: str

    @property
    def pixels(self) -> tuple[int, int]:
        """(height, width) of the images."""
        return pixels_of(self.size)


def list_jobs(
    config: Config, option: str, weights: "ResolvedWeights", stages: int, *, name: str | None = None
) -> list[Job]:
    """The maps asked for of one network with some weights.

    Args:
        option: What `--weights` said.
        weights: What that is for the network.
        stages: How many feature maps the network names, for `--layer all`.
        name: How results call the network; None for its own name.
    """
    layers = [layer for asked in config.layer for layer in (map(str, range(stages)) if asked == "all" else [asked])]

    def name_of(size: Size, layer: str) -> str:
        parts = [name or weights.name]
        parts += [Path(option).stem] if len(config.weights) > 1 else []
        parts += [f"size-{name_of_size(size)}"] if len(config.size) > 1 else []
        parts += [f"layer-{layer}"] if len(layers) > 1 else []
        return ".".join(parts)

    return [Job(name_of(size, layer), weights, size, layer) for size in config.size for layer in layers]
