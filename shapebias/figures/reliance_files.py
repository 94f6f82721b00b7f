"""Write the figures of reliance as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from runkit.figure_text import add_caption
from runkit.figures import save_figure
from shapebias.figures.reliance import draw_control, draw_reliance, draw_reliance_curves, draw_suppressions
from shapebias.measures.reliance import Reliance
from shapebias.measures.suppression_control import ControlPoint
from shapebias.results.reliance import PICTURES, RelianceFolder

__all__ = ["write_pictures"]


def write_pictures(
    measured: Sequence[Reliance],
    control: Sequence[ControlPoint],
    shown: Mapping[str, np.ndarray],
    folder: RelianceFolder,
    formats: Sequence[str],
    *,
    description: str = "",
    captions: Mapping[str, str] | None = None,
) -> list[Path]:
    """Draw reliance per cue, its curves, an image under every suppression, and what suppressions do to images.

    Args:
        measured: At least one network.
        control: Measures of the suppressed images; empty if they were not measured.
        shown: Label of a variant -> the image; empty if no images are available.
        folder: Folder for the files.
        formats, description: As for `runkit.figures.save_figure`.
        captions: Stem of a figure -> its caption; missing ones mean no caption.

    Returns: The files. `shapebias.results.reliance.comparison_files` lists them in advance.
    """
    bars, curves, images, what_is_left = PICTURES
    figures = {bars: draw_reliance(measured), curves: draw_reliance_curves(measured)}
    if shown:
        figures[images] = draw_suppressions(shown)
    if control:
        figures[what_is_left] = draw_control(control)
    return [
        path
        for name, figure in figures.items()
        for path in save_figure(
            add_caption(figure, (captions or {}).get(name, "")), folder.root / name, formats, description=description
        )
    ]
