"""How every figure of the project is created, styled and saved.

There are two kinds of drawing functions. `plot_*` draws one chart on the given Axes, or on new Axes of pyplot, which
notebooks and `plt.show()` display, and returns the Axes. `draw_*` makes a whole Figure and returns it. pyplot does not
know this Figure, so it needs no window system and does not have to be closed; a notebook displays it as the value of a
cell. Neither kind chooses or changes matplotlib's backend.

Importing this module loads matplotlib; importing `runkit` does not.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.rcsetup import cycler

from runkit.files import atomic_write
from runkit.paper import COLUMN_WIDTH, PAGE_WIDTH

__all__ = [
    "COLOURS",
    "COLUMN_WIDTH",
    "INK",
    "PAGE_WIDTH",
    "STYLE",
    "StyledFigure",
    "axes_or_new",
    "new_figure",
    "save_figure",
    "style",
]

COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#5C00C2", "#B8A24A", "#470052", "#B85CFF",
)  # fmt: skip
"""Okabe and Ito's colours except for red, which is reserved for people, and four more colours. Readers with any kind of
colour vision can tell them apart."""
INK = "0.15"
STYLE: dict[str, Any] = {
    "font.size": 7.5,
    "axes.titlesize": 8.5,
    "axes.labelsize": 7.5,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.title_fontsize": 7.0,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.prop_cycle": cycler(color=COLOURS),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 4.0,
    "grid.color": "0.9",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "xtick.minor.size": 1.8,
    "ytick.minor.size": 1.8,
    "hatch.linewidth": 0.6,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,  # TrueType: journals refuse Type 3, which is matplotlib's default
    "ps.fonttype": 42,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "replknet-analysis",  # the same figure makes the same file
}
"""Differences from matplotlib's default style. Figures use its other settings, whatever the user has set."""


@contextmanager
def style() -> Iterator[None]:
    """Use the style inside this context, and restore the user's settings afterwards."""
    with matplotlib.style.context(["default", STYLE]):
        yield


class StyledFigure(Figure):
    """A Figure that is always saved in this style, and that any notebook shows as a picture."""

    def savefig(self, *args: Any, **options: Any) -> None:
        """As `matplotlib.figure.Figure.savefig`."""
        with style():
            super().savefig(*args, **options)

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=self.dpi)
        return picture.getvalue()


@contextmanager
def new_figure(width: float, height: float, *, layout: Any = "constrained") -> Iterator[StyledFigure]:
    """An empty figure that pyplot does not know, inside a context with the style to draw it in.

    Args:
        width, height: Size in inches.
        layout: Layout engine or its name; None for a figure that is laid out by hand.
    """
    with style():
        yield StyledFigure(figsize=(width, height), layout=layout)


@contextmanager
def axes_or_new(
    ax: Axes | None, width: float = COLUMN_WIDTH, height: float = 2.6, *, layout: Any = "constrained"
) -> Iterator[Axes]:
    """The Axes to draw on: the given ones in the user's own style, or new ones of pyplot in the style of this project.

    Args:
        ax: The user's Axes, or None.
        width, height, layout: Size and layout of the new figure, as for `new_figure`.
    """
    if ax is not None:
        yield ax
        return
    import matplotlib.pyplot as plt

    # outside of the style: the first figure loads the backend, whose setup for notebooks must persist
    figure = plt.figure(figsize=(width, height), facecolor="white", FigureClass=StyledFigure)
    with style():
        figure.set_layout_engine(layout)
        yield figure.subplots()


def save_figure(figure: Figure, stem: Path, formats: Sequence[str] = ("png",), *, description: str = "") -> list[Path]:
    """Write a figure as `<stem>.<format>`. Each file is complete or absent, and equal figures give equal bytes.

    Args:
        formats: Any of 'png' (300 dots per inch), 'pdf' and 'svg'.
        description: Text to store in the file, such as the command that made it.

    Returns: The files written.
    Raises: UserError if a file cannot be written.
    """
    metadata: dict[str, dict[str, Any]] = {
        "png": {"Description": description},
        "pdf": {"Subject": description, "CreationDate": None},
        "svg": {"Description": description, "Date": None},
    }
    written = []
    for suffix in formats:
        path = stem.with_name(f"{stem.name}.{suffix}")
        with atomic_write(path) as temporary, style():
            figure.savefig(temporary, format=suffix, dpi=300, metadata=metadata[suffix])
        written.append(path)
    return written
