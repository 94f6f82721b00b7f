"""Text that fits the space it has in a figure: captions of several lines, and names broken where they may be.

Importing this module loads matplotlib; importing `runkit` does not.
"""

import itertools
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from runkit.figures import style

__all__ = [
    "CAPTION_SIZE",
    "add_caption",
    "caption_height",
    "count_words",
    "fit_words",
    "list_names",
    "software_words",
    "text_width",
    "wrap_caption",
    "write_caption",
]

CAPTION_SIZE = 6.0  # points
_LINE = 1.4  # line spacing
_MOST_NAMED = 8  # maximum number of names in a caption
_EDGE = 0.06  # inches around a caption
_LEGIBLE = 5.6  # points; a text is broken into lines before its size goes below this
_PIECE = r"[^_.\-/ ]*[_.\-/ ]?"


def wrap_caption(text: str, width_in: float) -> str:
    """Break the text of a caption into lines that fit a width in inches."""
    room = width_in * 72 / CAPTION_SIZE
    lines = []
    for given in text.splitlines():
        line = ""
        for word in given.split(" "):
            longer = f"{line} {word}" if line else word
            if line and text_width(longer) > room:
                lines.append(line)
                line = word
            else:
                line = longer
        lines.append(line)
    return "\n".join(lines)


def caption_height(text: str) -> float:
    """Height in inches of a caption that has already been broken into lines."""
    return (text.count("\n") + 1) * CAPTION_SIZE * _LINE / 72


def write_caption(figure: Figure, at: tuple[float, float], text: str) -> None:
    """Write small text at the bottom of a figure; `at` is its lower left corner in fractions of the figure."""
    figure.text(*at, text, fontsize=CAPTION_SIZE, color="0.35", va="bottom", linespacing=_LINE)


def count_words(number: int, one: str, several: str) -> str:
    """A number and its noun: "1 image", "1,280 images"."""
    return f"{number:,} {one if number == 1 else several}"


def list_names(names: Sequence[str], *, between: str = "; ", last: str = "; and ") -> str:
    """Names for a caption, separated by semicolons. Of many, only the first eight are named, and the rest counted.

    Args:
        between: Separator between two names.
        last: Text before the number of names that are left out.
    """
    more = f"{last}{len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return between.join(names[:_MOST_NAMED]) + more


def add_caption(figure: Figure, text: str) -> Figure:
    """Add a caption at the bottom of a finished figure. The figure grows by its height; the rest keeps its size.

    Args:
        figure: A figure laid out by hand or by a layout engine. The engine does not run again.
        text: Paragraphs of the caption, one on each line; they are wrapped. An empty text changes nothing.

    Returns: The figure.
    """
    if not text:
        return figure
    width, height = figure.get_size_inches()
    words = wrap_caption(text, width - 2 * _EDGE)
    foot = caption_height(words) + 2 * _EDGE
    taller = height + foot
    low, share = foot / taller, height / taller
    if figure.get_layout_engine() is not None:
        with style():
            for _ in range(2):  # an axis knows the width of its tick labels only after it was drawn
                figure.draw_without_rendering()
        figure.set_layout_engine("none")
    for ax in figure.axes:
        old = ax.get_position(original=True)
        ax.set_position((old.x0, low + share * old.y0, old.width, share * old.height))
    for words_above in figure.texts:
        words_above.set_y(low + share * words_above.get_position()[1])
    for legend in figure.legends:
        box = legend.get_bbox_to_anchor().transformed(figure.transFigure.inverted())
        place = (box.x0, low + share * box.y0, box.width, share * box.height)
        legend.set_bbox_to_anchor(place, figure.transFigure)
    figure.set_size_inches(width, taller)
    write_caption(figure, (_EDGE / width, _EDGE / taller), words)
    return figure


def software_words(head: Mapping[str, Any]) -> str:
    """The version of this project that made a result, with its commit if that is known.

    Args:
        head: Head of a result file, as created by `runkit.describe_run`.
    """
    commit = f", commit {found[:10]}" if (found := head.get("git_commit")) else ""
    return f"replknet-analysis {head['versions']['replknet-analysis']}{commit}"


@cache
def text_width(text: str, *, bold: bool = False) -> float:
    """Width of a line divided by its font size."""
    font = FontProperties(weight="bold" if bold else "normal", size=10)
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return width / 10


def fit_words(text: str, width: float, *, size: float, smallest: float = 5.0, bold: bool = False) -> tuple[str, float]:
    """Break a text at its spaces and choose its font size so that it fits a width.

    If a word is too long, the text is also broken after '_', '.', '-' and '/'.

    Args:
        text: A single line.
        width: Width in points.
        size: Largest font size in points.
        smallest: Smallest font size in points, which is kept even if the text does not fit then.
        bold: Whether the text is bold.

    Returns: The text with line breaks, at most three lines, and its size.
    """
    found = []
    for pieces, lines in itertools.product((re.findall(r"[^ ]+ ?", text), re.findall(_PIECE, text)), (1, 2, 3)):
        broken = _break(pieces, lines)
        fitting = width / max(text_width(line, bold=bold) for line in broken)
        found.append((fitting, "\n".join(broken)))
        if fitting >= min(size, _LEGIBLE):
            break
    fitting, words = found[-1]
    return words, max(smallest, min(size, fitting))


def _break(pieces: Sequence[str], lines: int) -> list[str]:
    """Join pieces into at most this many lines, so that the longest line is as short as possible."""
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
