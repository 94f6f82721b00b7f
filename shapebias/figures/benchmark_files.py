"""Write the benchmark's figures as files, each drawn only from the content of `benchmark.json`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from runkit.figure_text import add_caption
from runkit.figures import COLUMN_WIDTH, PAGE_WIDTH, save_figure
from shapebias.figures.benchmark import draw_benchmark, draw_scatter
from shapebias.figures.benchmark_conditions import CURVES, draw_conditions
from shapebias.figures.benchmark_matrices import draw_confusion, draw_matrices
from shapebias.results.benchmark_content import BenchmarkFile
from shapebias.results.benchmark_tables import PICTURE_WIDTHS

__all__ = ["benchmark_pictures", "write_benchmark_pictures"]

Draw = Callable[..., Figure]


def benchmark_pictures(content: BenchmarkFile, *, all_of_them: bool = False) -> dict[str, Draw]:
    """Return the figures to draw: suffix of the file's name -> a function of the width that draws it.

    Args:
        content: Content of the benchmark's JSON.
        all_of_them: Whether to include, as far as the datasets allow, curves over conditions, matrices and confusion.
    """
    pictures: dict[str, Draw] = {"": partial(draw_benchmark, content, published=content["published"])}
    if content["networks"]:
        pictures["-scatter"] = partial(draw_scatter, content)
    if all_of_them:
        if any(dataset["conditions"] for dataset in content["datasets"].values()):
            for curve in CURVES:
                pictures[f"-{curve.replace('_', '-')}"] = partial(draw_conditions, content, curve)
        if not all(dataset["conditions"] for dataset in content["datasets"].values()):
            pictures["-matrices"] = partial(draw_matrices, content)
        pictures["-confusion"] = partial(draw_confusion, content)
    return pictures


def write_benchmark_pictures(
    content: BenchmarkFile,
    stem: Path,
    formats: Sequence[str],
    *,
    all_of_them: bool = False,
    description: str = "",
    captions: Callable[[str], str] | None = None,
) -> list[Path]:
    """Write the figures `<stem>` (bars) and `<stem>-scatter` at the width of a page.

    With `all_of_them`, write all figures, each also at the width of a column (`-column`).

    Args:
        content: Content of the benchmark's JSON.
        stem: Path of the files without suffixes.
        formats, description: As for `runkit.figures.save_figure`.
        all_of_them: As for `benchmark_pictures`.
        captions: Function that returns the caption for the suffix of a figure's name; None for no captions.

    Returns: The files.
    """
    page, column = PICTURE_WIDTHS
    widths = {page: PAGE_WIDTH, column: COLUMN_WIDTH} if all_of_them else {page: PAGE_WIDTH}
    written = []
    for end, draw in benchmark_pictures(content, all_of_them=all_of_them).items():
        for more, width in widths.items():
            figure = add_caption(draw(width=width), captions(end) if captions else "")
            path = stem.with_name(f"{stem.name}{end}{more}")
            written += save_figure(figure, path, formats, description=description)
    return written
