"""The receptive fields' part of an HTML report: maps under one colour scale, squares at any share, curves, tables.

Everything comes from saved results (`.npz`). Squares at the shares of the slider are found here, by the functions that
find those of the JSON: the page's script looks them up and computes none.
"""

import base64
import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.colors import to_hex
from PIL import Image

from erf.figures.curves import choose_colours
from erf.figures.maps import caption, row_name
from erf.measures.squares import SquareArea, log_area, mass_area
from erf.results.files import ErfResult, check_result, file_stem, load_result
from erf.results.tables import COLUMNS, PUBLISHED_COLUMNS, shown_measures
from runkit.html.page import (
    PLOT_RIGHT,
    Axis,
    Cell,
    Row,
    Section,
    Source,
    Table,
    describe_head,
    describe_weights,
    links_to,
    on_page,
    read_part,
    render_part,
)

__all__ = ["SHARES", "describe_maps", "read_folder"]

SHARES = tuple(percent / 100 for percent in range(1, 100))
"""Shares that the slider can be set to."""
_START = 0.5
_DECADES = 4
_MAX_SIDE = 512  # pixels of an embedded map
_CURVE_POINTS = 128
_READINGS = 64  # places at which the curves can be read off


def read_folder(folder: Path) -> list[ErfResult]:
    """The finished results in a folder, by the names of their files.

    Raises: UserError if one is damaged.
    """
    paths = sorted(path for path in folder.glob("*.npz") if not path.name.endswith(".partial.npz"))
    return [load_result(path) for path in paths]


def describe_maps(results: Sequence[ErfResult], folder: Path, page: Path) -> Section:
    """The section of a page.

    Args:
        results: At least one, in the order of the page.
        folder: Where their files are.
        page: Where the page will be, for its links.

    Raises: UserError as `erf.results.files.check_result`.
    """
    for result in results:
        check_result(result)
    maps = [_describe_map(result) for result in results]
    body = render_part(
        "erf.figures",
        "receptive-fields.html",
        maps=maps,
        squares={"shares": SHARES, "maps": [{key: one[key] for key in ("size", "centre", "sides")} for one in maps]},
        start=_START,
        scale=_describe_scale(),
        caption=caption(results, squares=False),
        curves=_describe_curves(results),
        published=_table(
            "As published: area of the smallest centred square that holds more than a share t of log10(score + 1) / "
            "max, over the area of the map, with 95% intervals over images. It depends on the scale of the gradients.",
            results,
            PUBLISHED_COLUMNS,
        ),
        measures=_table(
            "Free of the scale of the gradients: areas of squares that hold shares of the score, the other measures in "
            "pixels or ratios, with 95% intervals over images.",
            results,
            COLUMNS,
        ),
        sources=[_describe_source(result, folder, page) for result in results],
        files=links_to(sorted(folder.glob("comparison*")), page),
    )
    return Section(
        slug="receptive-fields",
        title="Effective receptive fields",
        body=body,
        random=tuple(result.name for result in results if result.random_weights),
        style=read_part("erf.figures", "receptive-fields.css"),
        script=read_part("erf.figures", "receptive-fields.js"),
    )


def _describe_map(result: ErfResult) -> dict[str, Any]:
    """Picture and squares of one map, for the template and (without the picture) the script."""
    height, width = result.contribution.shape
    squares = {
        "mass": mass_area(result.contribution, SHARES, centre=result.centre),
        "log": log_area(result.contribution, SHARES, centre=result.centre),
    }
    return {
        "name": result.name,
        "row_name": row_name(result),
        "label": result.weights_label,
        "size": [height, width],
        "centre": list(result.centre),
        "sides": {measure: [area.side_px for area in areas] for measure, areas in squares.items()},
        "numbers": {measure: _numbers(areas[SHARES.index(_START)]) for measure, areas in squares.items()},
        "picture": _picture(result.contribution),
    }


def _numbers(area: SquareArea) -> dict[str, Any]:
    """What the page says of a square at first; its script says it likewise of others."""
    if area.side_px is None or area.ratio is None:
        return {"side": "not reached", "side_px": None, "ratio": "–", "ratio_value": None}
    return {
        "side": f"{area.side_px} px",
        "side_px": area.side_px,
        "ratio": f"{area.ratio:.2%}",
        "ratio_value": area.ratio,
    }


def _palette() -> np.ndarray:
    """The colours of the scale, uint8 (256, 3)."""
    return np.rint(np.array(sns.color_palette("mako", 256)) * 255).astype(np.uint8)


def _picture(contribution: np.ndarray) -> str:
    """The map as a PNG of 256 colours in a data URI: log10(score / max) from -4 to 0; large maps in means of blocks."""
    shares = (contribution / contribution.max()).astype(np.float32)
    factor = max(1.0, max(shares.shape) / _MAX_SIDE)
    height, width = (round(n / factor) for n in shares.shape)
    shown = np.asarray(Image.fromarray(shares).resize((width, height), Image.Resampling.BOX))
    levels = np.log10(np.maximum(shown, 10.0**-_DECADES)) / _DECADES + 1
    image = Image.fromarray(np.rint(levels * 255).clip(0, 255).astype(np.uint8))
    image.putpalette(_palette().tobytes())
    file = io.BytesIO()
    image.save(file, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _describe_scale() -> dict[str, Any]:
    stops = [to_hex(colour / 255) for colour in _palette()[np.linspace(0, 255, 18).round().astype(int)]]
    return {"stops": ", ".join(stops), "decades": list(range(-_DECADES, 1))}


def _describe_curves(results: Sequence[ErfResult]) -> dict[str, Any]:
    """Share of the mass against the side of centred squares: axes, a line a result, and places to read it off."""
    shares = [result.measured.mass_curve.estimate for result in results]
    largest = max(min(result.contribution.shape) for result in results)
    quarters = tuple((side, f"{side:.0f}") for side in (largest * i / 4 for i in range(5)))
    x = Axis("side of the centred square (pixels)", 0, largest, 62, PLOT_RIGHT, quarters)
    y = Axis("share of the score", 0, 1, 300, 12, tuple((t / 5, f"{t / 5:.0%}") for t in range(6)))
    lines = []
    for result, share, colour in zip(results, shares, choose_colours(results), strict=True):
        chosen = np.unique(np.linspace(0, len(share) - 1, min(len(share), _CURVE_POINTS)).round().astype(int))
        low, high = result.measured.mass_curve.interval()
        there = [(x.at(2 * i + 1), i) for i in chosen.tolist()]
        band = [(at, high[i]) for at, i in there] + [(at, low[i]) for at, i in reversed(there)]
        known = not np.isnan(low).any()
        lines.append(
            {
                "name": row_name(result),
                "colour": on_page(to_hex(colour)),
                "random": result.random_weights,
                "points": " ".join(f"{at},{y.at(float(share[i]))}" for at, i in there),
                "band": " ".join(f"{at},{y.at(float(value))}" for at, value in band) if known else "",
            }
        )
    sides = sorted({2 * round(largest * i / _READINGS / 2) + 1 for i in range(_READINGS)})
    edges = [0.0, *((a + b) / 2 for a, b in pairwise(sides)), float(largest)]
    readings = [
        {
            "left": x.at(left),
            "width": round(x.at(right) - x.at(left), 2),
            "text": "\n".join(
                [f"square of {side} px"]
                + [
                    f"{row_name(result)}: {share[side // 2]:.1%}"
                    for result, share in zip(results, shares, strict=True)
                    if side // 2 < len(share)
                ]
            ),
        }
        for side, left, right in zip(sides, edges[:-1], edges[1:], strict=True)
        if left < right
    ]
    return {"x": x, "y": y, "lines": lines, "readings": readings}


def _table(text: str, results: Sequence[ErfResult], columns: Any) -> Table:
    rows = [
        Row(
            row_name(result),
            tuple(Cell(shown.text, shown.value, shown.interval) for shown in shown_measures(result, columns)),
        )
        for result in results
    ]
    return Table(text, ("network", *(heading for _, _, heading, _ in columns)), tuple(rows))


def _describe_source(result: ErfResult, folder: Path, page: Path) -> Source:
    made = result.provenance
    data, skipped, unit = made["data"], made.get("skipped", []), made.get("unit", {})
    images = f"{data['images_used']} of {data['images_found']} ({data['name']}), SHA-256 {data['sha256']}"
    reasons = "; ".join(f"{entry['image']}: {entry['reason']}" for entry in skipped)
    height, width = result.contribution.shape
    where = f"layer {made['layer']}, {height} × {width} pixels, centre of the squares at pixel {result.centre}"
    feature_map = unit.get("feature_map")
    stem = folder / file_stem(result.name)
    facts = [
        *describe_weights(made["weights"]),
        ("Images", images + (f"; left out: {reasons}" if reasons else "")),
        ("Map", where + (f", feature map {feature_map[0]} × {feature_map[1]}" if feature_map else "")),
        ("Computed in", f"{made['precision']} on {made['device']}{', plain form' if made.get('plain') else ''}"),
        *describe_head(made),
    ]
    files = [stem.with_name(stem.name + suffix) for suffix in (".json", ".npz", ".png", ".pdf", ".svg")]
    return Source(result.name, result.weights_label, tuple(facts), links_to(files, page))
