"""How every figure of the project looks, begins and is saved.

There are two kinds of drawing functions. `plot_*` draws one chart on the Axes that it is given, or on new ones of
pyplot, which a notebook and `plt.show()` show; it returns the Axes. `draw_*` makes a whole Figure and returns it.
pyplot does not know of that Figure, so it needs no window system and does not have to be closed; a notebook shows it
where it is the value of a cell. Neither ever chooses or changes matplotlib's backend.

Importing this module loads matplotlib, importing `runkit` does not.
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
"""Okabe and Ito's colours without their red, which is left to people, and four more: readers with any colour vision
tell them apart."""
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
"""Differences from matplotlib's default style, with whose other settings figures are drawn whatever the user's are."""


@contextmanager
def style() -> Iterator[None]:
    """The style for the length of a block; afterwards the user's settings are back."""
    with matplotlib.style.context(["default", STYLE]):
        yield


class StyledFigure(Figure):
    """A Figure that is also saved in the style, however it is saved, and that any notebook shows as a picture."""

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
    """An empty figure that pyplot does not know of, and the style to draw it in.

    Args:
        width, height: Inches.
        layout: Layout engine or its name; None for a figure that is laid out by hand.
    """
    with style():
        yield StyledFigure(figsize=(width, height), layout=layout)


@contextmanager
def axes_or_new(
    ax: Axes | None, width: float = COLUMN_WIDTH, height: float = 2.6, *, layout: Any = "constrained"
) -> Iterator[Axes]:
    """The Axes to draw on: those that the user gave, in the user's own style, or new ones of pyplot in ours.

    Args:
        ax: The user's Axes, or None.
        width, height, layout: Size and layout of the new figure, as for `new_figure`.
    """
    if ax is not None:
        yield ax
        return
    import matplotlib.pyplot as plt

    # outside of the style: the first figure loads the backend, and what that sets up for a notebook has to stay
    figure = plt.figure(figsize=(width, height), facecolor="white", FigureClass=StyledFigure)
    with style():
        figure.set_layout_engine(layout)
        yield figure.subplots()


def save_figure(figure: Figure, stem: Path, formats: Sequence[str] = ("png",), *, description: str = "") -> list[Path]:
    """Write a figure as `<stem>.<format>`; each file is whole or absent, and the same figure makes the same bytes.

    Args:
        formats: Of 'png' (300 dots per inch), 'pdf' and 'svg'.
        description: Text kept inside the file, such as the command that made it.

    Returns: The files.
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
