"""Text that fits the place that it has in a figure: captions of several lines, names that are broken where they may be.

Importing this module loads matplotlib, importing `runkit` does not.
"""

import itertools
import re
from collections.abc import Sequence
from functools import cache

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

__all__ = ["CAPTION_SIZE", "caption_height", "fit_words", "text_width", "wrap_caption", "write_caption"]

CAPTION_SIZE = 6.0  # points
_LINE = 1.4  # line spacing
_LEGIBLE = 5.6  # points: a text is broken before it becomes smaller
_PIECE = r"[^_.\-/ ]*[_.\-/ ]?"


def wrap_caption(text: str, width_in: float) -> str:
    """The lines of a caption, broken where they would not fit a width in inches."""
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
    """Break a text at its blanks, and choose its size, so that it fits a width.

    Where a word is too long for that, the text is broken after '_', '.', '-' and '/', too.

    Args:
        text: A line.
        width: Points.
        size: Largest size of the text in points; `smallest`: the least, kept even if the text does not fit then.
        bold: Whether it will be bold.

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
