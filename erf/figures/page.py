"""The section of an HTML report on receptive fields: maps on one colour scale, squares at any share, curves, tables.

Everything is derived from saved results (`.npz`). The curves are the figure of `erf.figures.curves`. The maps are
pictures in a grid that adapts to the width of the browser window, with squares on top that a slider changes. The
squares for all positions of the slider are computed here, by the functions that also compute those of the JSON file;
the page's script only looks them up.
"""

import base64
import io
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from PIL import Image

from erf.figures.caption import caption, row_name
from erf.figures.curves import draw_curves, profile_of
from erf.figures.maps import colour_map
from erf.measures.squares import SquareArea, log_area, mass_area
from erf.results.files import ErfResult, check_result, load_result, results_in
from erf.results.tables import COLUMNS, PUBLISHED_COLUMNS, note_on_intervals, shown_measures
from runkit import file_stem, load_json
from runkit.figures import INK
from runkit.html.page import (
    Cell,
    Row,
    Section,
    Source,
    Table,
    describe_head,
    describe_weights,
    links_to,
    read_part,
    render_part,
)
from runkit.html.picture import embed_figure

__all__ = ["SHARES", "describe_maps", "read_folder"]

SHARES = tuple(percent / 100 for percent in range(1, 100))
"""Shares that can be chosen with the slider."""
_START = 0.5
_FOR_SCRIPT = ("size", "centre", "sides", "ratios")  # what the slider's script needs of a map
_LOWEST = -4  # decades, as in the figures
_MAX_SIDE = 320  # pixels of an embedded map: about its size on the page, so that a browser scales it little
_READINGS = 64  # largest number of places at which a curve can be read off


def read_folder(folder: Path) -> list[ErfResult]:
    """Load the finished results in a folder, in the order of the last comparison, followed by all others.

    Raises: UserError if a result is damaged.
    """
    results = [load_result(path) for path in results_in(folder)]
    comparison = folder / "comparison.json"
    compared = load_json(comparison).get("models", []) if comparison.exists() else []
    order = {model["name"]: place for place, model in enumerate(compared)}
    return sorted(results, key=lambda result: order.get(result.name, len(order)))


def describe_maps(results: Sequence[ErfResult], folder: Path, page: Path) -> Section:
    """Build the section of a page.

    Args:
        results: At least one result, in the order of the page.
        folder: Folder with their files.
        page: Future path of the page, to which its links are relative.

    Raises: UserError as `erf.results.files.check_result`.
    """
    for result in results:
        check_result(result)
    maps = [_describe_map(result) for result in results]
    body = render_part(
        "erf.figures",
        "receptive-fields.html",
        maps=maps,
        squares={"shares": SHARES, "maps": [{key: one[key] for key in _FOR_SCRIPT} for one in maps]},
        start=_START,
        scale=_describe_scale(),
        caption=caption(results, shares=()),
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
    """Picture and squares of one map, for the template and, without the picture, for the script."""
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
        "ratios": {measure: [area.ratio for area in areas] for measure, areas in squares.items()},
        "numbers": {measure: _numbers(areas[SHARES.index(_START)]) for measure, areas in squares.items()},
        "picture": _picture(result.contribution),
    }


def _numbers(area: SquareArea) -> dict[str, Any]:
    """The initial numbers of a square on the page; its script formats those of other squares in the same way."""
    if area.side_px is None or area.ratio is None:
        return {"side": "not reached", "side_px": None, "ratio": "–", "ratio_value": None}
    return {
        "side": f"{area.side_px} px",
        "side_px": area.side_px,
        "ratio": f"{area.ratio:.2%}",
        "ratio_value": area.ratio,
    }


def _picture(contribution: np.ndarray) -> str:
    """The map as a PNG of 256 colours in a data URI, on the scale 'decades'.

    Large maps are reduced by a whole factor and thereby smoothed. Otherwise their fine grid, which comes from the
    strides of the network, would produce a moiré pattern on the screen.
    """
    factor = -(-max(contribution.shape) // _MAX_SIDE)
    height, width = (round(n / factor) for n in contribution.shape)
    shares = Image.fromarray((contribution / contribution.max()).astype(np.float32))
    blocks = np.asarray(shares.resize((width, height), Image.Resampling.BILINEAR))
    levels = np.log10(np.maximum(blocks, 10.0**_LOWEST)) / -_LOWEST + 1  # over the largest pixel, not the largest block
    image = Image.fromarray(np.rint(levels * 255).clip(0, 255).astype(np.uint8))
    image.putpalette(colour_map()(np.arange(256), bytes=True)[:, :3].tobytes())
    file = io.BytesIO()
    image.save(file, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _describe_scale() -> dict[str, Any]:
    stops = [to_hex(colour) for colour in colour_map()(np.linspace(0, 1, 18))]
    return {"stops": ", ".join(stops), "decades": list(range(_LOWEST, 1))}


def _describe_curves(results: Sequence[ErfResult]) -> dict[str, Any]:
    """The figure of the curves, with values that can be read off and a line at the share of the slider."""
    figure = draw_curves(results, most=len(results))  # one pair of panels, from which values are read off
    left, right = figure.axes
    names = [row_name(result) for result in results]
    shares = [result.measured.mass_curve.estimate for result in results]
    densities = [profile_of(result).estimate for result in results]
    sides, radii = range(1, int(left.get_xlim()[1]) + 1, 2), range(int(right.get_xlim()[1]) + 1)
    says = {
        **_add_readings(left, "side", sides, "square of {} px", names, shares, "{:.1%}"),
        **_add_readings(right, "radius", radii, "{} px from the centre", names, densities, "{:.3g} times an even map"),
    }
    left.axhline(_START, color=INK, linewidth=0.8, linestyle=(0, (2, 3)), gid="share-line")
    label = "Share of the contribution in centred squares, and density by distance from the centre"
    picture = embed_figure(figure, slug="receptive-fields", label=label, says=says)
    height = left.get_position().height * figure.get_figheight() * 72
    return {"picture": picture, "height": round(height, 2)}


def _add_readings(
    ax: Axes,
    name: str,
    places: Sequence[int],
    where: str,
    names: Sequence[str],
    curves: Sequence[np.ndarray],
    form: str,
) -> dict[str, str]:
    """Cover the Axes with at most `_READINGS` invisible stripes, which show each curve's value at their middle.

    Args:
        ax: The Axes with the curves.
        name: Prefix of the stripes' ids.
        places: Positions of the curves' values on the horizontal axis.
        where, form: Formats of a place and of a value.
        names, curves: Name of each curve, and its values from the first place on.

    Returns: Id of a stripe -> its text.
    """
    chosen = np.unique(np.linspace(0, len(places) - 1, min(len(places), _READINGS)).round().astype(int))
    middles = [float(places[index]) for index in chosen]
    edges = [ax.get_xlim()[0], *((a + b) / 2 for a, b in pairwise(middles)), ax.get_xlim()[1]]
    says = {}
    for index, low, high in zip(chosen.tolist(), edges[:-1], edges[1:], strict=True):
        gid = f"{name}-{places[index]}"
        ax.axvspan(low, high, facecolor="none", edgecolor="none", gid=gid)
        values = [f"{one}: {form.format(curve[index])}" for one, curve in zip(names, curves, strict=True)
                  if index < len(curve)]  # fmt: skip
        says[gid] = "\n".join([where.format(places[index]), *values])
    return says


def _table(text: str, results: Sequence[ErfResult], columns: Any) -> Table:
    text = " ".join(filter(None, [text, note_on_intervals(results)]))
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
    where = f"layer {result.layer}, {height} × {width} pixels, centre of the squares at pixel {result.centre}"
    feature_map = unit.get("feature_map")
    stem = folder / file_stem(result.name)
    facts = [
        *describe_weights(made["weights"]),
        ("Images", images + (f"; left out: {reasons}" if reasons else "")),
        ("Map", where + (f", feature map {feature_map[0]} × {feature_map[1]}" if feature_map else "")),
        ("Computed in", f"{made['precision']} on {made['device']}{', plain form' if made.get('plain') else ''}"),
        *describe_head(made),
    ]
    files = [stem.with_name(stem.name + suffix) for suffix in (".json", ".npz", ".images.csv", ".png", ".pdf", ".svg")]
    return Source(result.name, result.weights_label, tuple(facts), links_to(files, page))
