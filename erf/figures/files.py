"""Pictures as files: a result beside its measures, and several results compared, with their tables."""

from collections.abc import Sequence
from pathlib import Path

from erf.figures.curves import draw_curves
from erf.figures.maps import draw_comparison, draw_result
from erf.results.files import ErfResult, save_measures
from erf.results.tables import write_tables
from runkit import file_stem
from runkit.figures import save_figure

__all__ = ["write_comparison", "write_result"]


def write_result(result: ErfResult, folder: Path, *, scale: str, formats: Sequence[str]) -> None:
    """Measure a result and write its `.json` and its picture into `folder`.

    Raises: UserError as `erf.results.files.check_result`.
    """
    stem = folder / file_stem(result.name)
    save_measures(result, stem.with_name(stem.name + ".json"))
    save_figure(draw_result(result, scale=scale), stem, formats, description=result.provenance["command"])


def write_comparison(results: Sequence[ErfResult], folder: Path, *, scale: str, formats: Sequence[str]) -> list[Path]:
    """Write the tables and pictures `comparison*` of several results into `folder`; returns the files."""
    written = write_tables(results, folder / "comparison")
    description = " | ".join(dict.fromkeys(result.provenance["command"] for result in results))
    figures = {"comparison": draw_comparison(results, scale=scale), "comparison-curves": draw_curves(results)}
    for name, figure in figures.items():
        written += save_figure(figure, folder / name, formats, description=description)
    return written
