"""Writing pictures to files: those of a single result, and of a comparison of several results with its tables."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from erf.drawing import Drawing
from erf.figures.curves import draw_curves
from erf.figures.panels import draw_comparison, draw_result
from erf.figures.sheet import draw_sheet
from erf.figures.window import choose_window, settle_crop
from erf.results.files import ErfResult, save_measures
from erf.results.tables import Columns, write_tables
from runkit import file_stem
from runkit.figures import save_figure

__all__ = ["redraw_alike", "write_comparison", "write_result"]


def write_result(
    result: ErfResult, folder: Path, *, drawing: Drawing, formats: Sequence[str], sheets: Sequence[str] = ()
) -> None:
    """Measure a result and write its `.json` and its pictures into `folder`.

    Args:
        sheets: Sheets of single images' maps to draw, from 'maps' and 'overlay'. They require a result with these maps.

    Raises: UserError as `erf.results.files.check_result`.
    """
    stem = folder / file_stem(result.name)
    save_measures(result, stem.with_name(stem.name + ".json"))
    _draw_result(result, stem, drawing, formats, sheets)


def redraw_alike(
    results: Sequence[ErfResult], folder: Path, *, drawing: Drawing, formats: Sequence[str], sheets: Sequence[str] = ()
) -> None:
    """Draw those single results again whose window differs from the common window of all results of the run.

    Args:
        results: Results that `write_result` has drawn, each with a window chosen for it alone.
        folder, drawing, formats, sheets: As for `write_result`.
    """
    maps = [(result.contribution, result.centre) for result in results]
    common = settle_crop(maps, drawing)
    for result, one in zip(results, maps, strict=True):
        if choose_window([one], drawing) != choose_window([one], common):
            _draw_result(result, folder / file_stem(result.name), common, formats, sheets)


def _draw_result(
    result: ErfResult, stem: Path, drawing: Drawing, formats: Sequence[str], sheets: Sequence[str]
) -> None:
    command, options = result.provenance["command"], _options(drawing)
    save_figure(draw_result(result, **options), stem, formats, description=command)
    for sheet in sheets:
        figure = draw_sheet(result, overlay=sheet == "overlay", **options)
        save_figure(figure, stem.with_name(f"{stem.name}.{sheet}"), formats, description=command)


def write_comparison(
    results: Sequence[ErfResult],
    folder: Path,
    *,
    drawing: Drawing,
    formats: Sequence[str],
    tex_columns: Columns | None = None,
) -> list[Path]:
    """Write the tables and pictures `comparison*` of several results into `folder` and return the files."""
    written = write_tables(results, folder / "comparison", tex_columns=tex_columns)
    description = " | ".join(dict.fromkeys(result.provenance["command"] for result in results))
    options = _options(drawing)
    figures = {"comparison": draw_comparison(results, **options), "comparison-curves": draw_curves(results, **options)}
    for name, figure in figures.items():
        written += save_figure(figure, folder / name, formats, description=description)
    return written


def _options(drawing: Drawing) -> dict[str, Any]:
    """The options of a drawing that are not None, as keyword arguments of the drawing functions."""
    options = {field.name: getattr(drawing, field.name) for field in fields(drawing)}
    return {name: value for name, value in options.items() if value is not None}
