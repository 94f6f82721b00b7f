"""The pictures of a comparison as files."""

from collections.abc import Sequence
from pathlib import Path

from runkit.figure_text import add_caption
from runkit.figures import save_figure
from shapebias.figures.accuracy import draw_accuracy
from shapebias.figures.shape_bias import draw_column, draw_comparison, draw_forest
from shapebias.results.comparison import Comparison
from shapebias.results.files import ResultFolder

__all__ = ["write_pictures"]


def write_pictures(
    comparison: Comparison, folder: ResultFolder, formats: Sequence[str], *, description: str = "", caption: str = ""
) -> list[Path]:
    """Draw a comparison as `shape-bias`, `shape-bias-column` and `shape-bias-forest`, or with one cue as `accuracy`.

    Args:
        formats, description: As for `runkit.figures.save_figure`.
        caption: Stands at the foot of each picture; empty for none.

    Returns: The files; `shapebias.results.comparison.comparison_files` foretells them.
    """
    series, persons = comparison.series, comparison.persons
    if folder.experiment.two_cues:
        figures = {
            "shape-bias": draw_comparison(series, persons=persons),
            "shape-bias-column": draw_column(series),
            "shape-bias-forest": draw_forest(series, persons=persons),
        }
    else:
        figures = {"accuracy": draw_accuracy(series, persons=persons)}
    return [
        path
        for name, figure in figures.items()
        for path in save_figure(add_caption(figure, caption), folder.root / name, formats, description=description)
    ]
