"""The benchmark's pictures as files, each drawn from the content of `benchmark.json` alone."""

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
    """What is drawn: end of the file's name -> a function of the width alone.

    Args:
        content: Content of the benchmark's JSON.
        all_of_them: Whether also what changes with the conditions, matrices and confusion, as far as the datasets have
            it.
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
    """Write `<stem>` (bars) and `<stem>-scatter` as wide as a page; or all pictures, each also as wide as a column
    (`-column`).

    Args:
        content: Content of the benchmark's JSON.
        stem: Path of the files without their ends.
        formats, description: As for `runkit.figures.save_figure`.
        all_of_them: As for `benchmark_pictures`.
        captions: End of a picture's name -> what stands at its foot; None for nothing.

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
