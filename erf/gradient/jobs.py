"""The jobs of a run: one map for each network, weights, size and layer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from erf.options import Config
from runkit.sizes import Size, name_of_size, pixels_of

if TYPE_CHECKING:  # loads torch
    from replknet.zoo import ResolvedWeights

__all__ = ["Job", "list_jobs", "names_of_weights"]


_WORDS = ("auto", "pretrained", "random")
"""Values that `--weights` accepts instead of a file."""


@dataclass(frozen=True)
class Job:
    """One map to compute.

    Attributes:
        name: Name of the network. With several weights, sizes or layers, it also says which of them. Result files are
            named after it.
        weights: The network and its weights.
        size: Size of the images in pixels: the side of a square, or (height, width).
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


def names_of_weights(options: Sequence[str]) -> dict[str, str]:
    """The name of each of several `--weights` in result names: that of its file, without folder and suffix.

    Files of the same name are told apart by the requested part of the file, else by as many parent folders as needed,
    else by their suffix: `a/best` and `b/best`, `best#model` and `best#ema`. `random` and the other words keep their
    own name. A file that is called like one of these words also gets the name of its folder.
    """
    alike: dict[str, list[str]] = {}
    for option in options:
        if option not in _WORDS:
            alike.setdefault(_split(option)[0].stem, []).append(option)
    names: dict[str, str] = {}
    for group in alike.values():
        names |= next((found for found in _candidates(group) if _distinct([*found.values(), *_WORDS])), {})
    return {option: names.get(option, option) for option in options}


def _distinct(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


def _candidates(options: Sequence[str]) -> Iterator[dict[str, str]]:
    """Candidate names for options that share a file name, the shortest first."""
    files = {option: _split(option) for option in options}
    yield {option: path.stem for option, (path, _) in files.items()}
    yield {option: f"{path.stem}{key}" for option, (path, key) in files.items()}
    for depth in range(2, max(len(path.parts) for path, _ in files.values()) + 1):
        yield {option: f"{'/'.join(path.with_suffix('').parts[-depth:])}{key}" for option, (path, key) in files.items()}
    yield {option: f"{path.name}{key}" for option, (path, key) in files.items()}


def _split(option: str) -> tuple[Path, str]:
    """Absolute path and `#KEY` of `PATH#KEY`; the key is "" where there is none."""
    path, mark, key = option.rpartition("#")
    if mark and not Path(option).exists():
        return Path(path).absolute(), f"#{key}"
    return Path(option).absolute(), ""


def list_jobs(
    config: Config, option: str, weights: "ResolvedWeights", stages: int, *, name: str | None = None
) -> list[Job]:
    """The maps to compute for one network with some weights.

    Args:
        option: Value of `--weights`.
        weights: The weights that this value stands for, for the network.
        stages: Number of feature maps that the network names, for `--layer all`.
        name: Name of the network in results; None for its own name.
    """
    layers = [layer for asked in config.layer for layer in (map(str, range(stages)) if asked == "all" else [asked])]

    def name_of(size: Size, layer: str) -> str:
        parts = [name or weights.name]
        parts += [names_of_weights(config.weights)[option]] if len(config.weights) > 1 else []
        parts += [f"size-{name_of_size(size)}"] if len(config.size) > 1 else []
        parts += [f"layer-{layer}"] if len(layers) > 1 else []
        return ".".join(parts)

    return [Job(name_of(size, layer), weights, size, layer) for size in config.size for layer in layers]
