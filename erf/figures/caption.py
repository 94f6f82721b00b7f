"""Words of a figure: what a result is called, what made the figure, and text that fits the place that it has."""

import re
import textwrap
from collections.abc import Sequence
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from erf.drawing import Drawing
from erf.measures.squares import LOG_THRESHOLDS, log_area
from erf.results.files import ErfResult

__all__ = [
    "CAPTION_SIZE",
    "WARNING_COLOUR",
    "caption",
    "caption_height",
    "fit_words",
    "reached",
    "row_name",
    "text_width",
    "wrap_caption",
    "write_caption",
]

CAPTION_SIZE = 6.0  # points
WARNING_COLOUR = "#d1495b"
"""Of random weights."""
_LINE = 1.4  # line spacing
_CHARACTER = 0.56  # mean width of a character over its size, in running text


def row_name(result: ErfResult, drawing: Drawing | None = None) -> str:
    """The network's name, with its weights where the name does not say them."""
    weights = result.provenance["weights"]
    shown = drawing.name_of(result.name) if drawing else result.name
    published = weights.get("source") != "file" and not result.random_weights
    if published and shown == result.name and weights["model"].startswith(f"{shown}."):
        return weights["model"]  # the name with the tag of its weights
    named_by_tag = shown.startswith(weights["model"]) and weights.get("source") != "file"
    return shown if named_by_tag and not result.random_weights else f"{shown}, {result.weights_label}"


def caption(results: Sequence[ErfResult], *, shares: Sequence[float] | None = None, each: bool = False) -> str:
    """What made the figure, shortly; the JSON has it whole.

    Args:
        results: At least one.
        shares: Which the squares in the figure hold; empty for a figure without squares, None for the published ones
            that a square of some result holds.
        each: Whether the figure shows the map of each image, not their mean.
    """
    first = results[0].provenance
    counts = sorted({result.num_images for result in results})
    images = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    noun = "image" if counts == [1] else "images"
    sizes = ", ".join(dict.fromkeys("{} × {}".format(*result.contribution.shape) for result in results))
    layers = ", ".join(dict.fromkeys(result.layer for result in results))
    positions = ", ".join(dict.fromkeys(filter(None, map(_position, results))))
    unit = f", {positions}" if positions else ""
    commit = f", commit {found[:10]}" if (found := first.get("git_commit")) else ""
    software = " ".join(filter(None, ["replknet-analysis", first["versions"]["replknet-analysis"]]))
    drawn = ", ".join(f"{t:.0%}" for t in (reached(results, LOG_THRESHOLDS) if shares is None else shares))
    what = f"Squares hold {drawn} of log10(score + 1) / max.\n" if drawn else ""
    mean = "Maps" if each else "Map" if counts == [1] else "Mean"
    heads = dict.fromkeys(result.provenance["weights"].get("head") for result in results)
    head = "".join(f"; checkpoint: {words}" for words in heads if words)
    return (
        f"{mean} of {images} {noun} ({first['data']['name']}) at {sizes} pixels, {first['precision']}{head}.\n"
        f"{what}"
        f"{software}{commit}, torch {first['versions']['torch']}, layer {layers}{unit}"
    )


def _position(result: ErfResult) -> str:
    """Where the unit is, if it is not the central one."""
    position = result.provenance.get("config", {}).get("position", "centre")
    if position == "centre":
        return ""
    if position == "average":
        return "mean over a grid of units"
    down, across = position
    return f"unit at {down:g} of the height and {across:g} of the width"


def reached(results: Sequence[ErfResult], thresholds: Sequence[float]) -> list[float]:
    """The shares that a square within the map holds in at least one of the results, in rising order."""
    found = [area for result in results for area in log_area(result.contribution, thresholds, centre=result.centre)]
    return sorted({area.threshold for area in found if area.reached})


def wrap_caption(text: str, width_in: float) -> str:
    """The lines of a caption, broken where they would not fit a width in inches."""
    room = max(20, int(width_in * 72 / (_CHARACTER * CAPTION_SIZE)))
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, room) or [""])


def caption_height(text: str) -> float:
    """Height in inches of a caption whose lines are as they will be."""
    return (text.count("\n") + 1) * CAPTION_SIZE * _LINE / 72


def write_caption(figure: Figure, at: tuple[float, float], text: str) -> None:
    """Small text at the foot of a figure; `at` is its lower left corner in fractions of the figure."""
    figure.text(*at, text, fontsize=CAPTION_SIZE, color="0.35", va="bottom", linespacing=_LINE)


@cache
def text_width(text: str, *, bold: bool = False) -> float:
    """Width of a line over the size of its characters."""
    font = FontProperties(weight="bold" if bold else "normal", size=10)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return width / 10


def fit_words(text: str, width: float, *, size: float, smallest: float = 5.0, bold: bool = False) -> tuple[str, float]:
    """Break a name after '_', '.', '-', '/' or a blank, and choose its size, so that it fits a width.

    Args:
        text: A line.
        width: Points.
        size: Largest size of the text in points; `smallest`: the least, kept even if the text does not fit then.
        bold: Whether it will be bold.

    Returns: The text with line breaks, at most three lines, and its size.
    """
    pieces = re.findall(r"[^_.\-/ ]*[_.\-/ ]?", text)
    for lines in (1, 2, 3):
        broken = _break(pieces, lines)
        fitting = width / max(text_width(line, bold=bold) for line in broken)
        if fitting >= min(size, 5.6) or lines == 3:
            return "\n".join(broken), max(smallest, min(size, fitting))
    raise AssertionError("not reached")


def _break(pieces: Sequence[str], lines: int) -> list[str]:
    """Pieces in so many lines, or fewer, of which the longest is as short as can be."""
    text = "".join(pieces)
    for room in range(-(-len(text) // lines), len(text) + 1):
        broken = [""]
        for piece in pieces:
            if broken[-1] and len(broken[-1] + piece.rstrip()) > room:
                broken.append("")
            broken[-1] += piece
        if len(broken) <= lines:
            return [line.strip() for line in broken]
    return [text]
