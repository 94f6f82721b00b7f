"""The jobs of a run: one map per network, weights, size and layer."""

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
"""What `--weights` may say instead of a file."""


@dataclass(frozen=True)
class Job:
    """One map to be made.

    Attributes:
        name: The network's; with several weights, sizes or layers also which of them: the files are called after it.
        weights: The network and its weights.
        size: Size of the images in pixels: the side of squares, or (height, width).
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
    """What each of several `--weights` is called in the names of results: by its file, without folder and ending.

    Files of one name also have the part of the file that was asked for, else as many folders as tell them apart, else
    their ending: `a/best` and `b/best`, `best#model` and `best#ema`. `random` and the other words are called by
    themselves, and a file of such a name by its folder, too.
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
    """Names of options of one file name, the shortest first."""
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
        parts += [names_of_weights(config.weights)[option]] if len(config.weights) > 1 else []
        parts += [f"size-{name_of_size(size)}"] if len(config.size) > 1 else []
        parts += [f"layer-{layer}"] if len(layers) > 1 else []
        return ".".join(parts)

    return [Job(name_of(size, layer), weights, size, layer) for size in config.size for layer in layers]
