"""Write the figures of a comparison as files."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from runkit.figure_text import add_caption
from runkit.figures import save_figure
from shapebias.figures.accuracy import draw_accuracy
from shapebias.figures.shape_bias import draw_column, draw_comparison, draw_forest
from shapebias.results.comparison import Comparison, comparison_path, picture_ends
from shapebias.results.files import ResultFolder

__all__ = ["write_pictures"]


def write_pictures(
    comparison: Comparison,
    folder: ResultFolder,
    formats: Sequence[str],
    *,
    description: str = "",
    captions: Mapping[str, str] | None = None,
) -> list[Path]:
    """Draw a comparison as `shape-bias`, `shape-bias-column` and `shape-bias-forest`, or with one cue as `accuracy`.

    Args:
        comparison: The comparison of observers.
        folder: Folder for the files.
        formats, description: As for `runkit.figures.save_figure`.
        captions: Suffix of a figure's name, from `picture_ends` -> its caption; missing ones mean no caption.

    Returns: The files. `shapebias.results.comparison.comparison_files` lists them in advance.
    """
    series, persons = comparison.series, comparison.persons
    draw: dict[str, Callable[..., Figure]] = {
        "": partial(draw_comparison, persons=persons),
        "-column": draw_column,
        "-forest": partial(draw_forest, persons=persons),
    }
    if not folder.experiment.two_cues:
        draw[""] = partial(draw_accuracy, persons=persons)
    stem, words = comparison_path(folder).stem, captions or {}
    return [
        path
        for end in picture_ends(folder.experiment)
        for path in save_figure(
            add_caption(draw[end](series), words.get(end, "")),
            folder.root / f"{stem}{end}",
            formats,
            description=description,
        )
    ]
