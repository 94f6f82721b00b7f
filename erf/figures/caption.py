"""Text in a figure: the names of results, and a caption that says how the figure was made."""

from collections.abc import Sequence

from erf.drawing import Drawing
from erf.measures.squares import LOG_THRESHOLDS, log_area
from erf.results.files import ErfResult

__all__ = [
    "WARNING_COLOUR",
    "caption",
    "reached",
    "row_name",
]

WARNING_COLOUR = "#d1495b"
"""Of random weights."""


def row_name(result: ErfResult, drawing: Drawing | None = None) -> str:
    """The network's name, with its weights where the name does not say them."""
    weights = result.provenance["weights"]
    shown = drawing.name_of(result.name) if drawing else result.name
    published = weights.get("source") != "file" and not result.random_weights
    if published and shown == result.name and weights["model"].startswith(f"{shown}."):
        return weights["model"]  # the name with the tag of its weights
    named_by_tag = shown.startswith(weights["model"]) and weights.get("source") != "file"
    return shown if named_by_tag and not result.random_weights else f"{shown}, {result.weights_label}"


def caption(
    results: Sequence[ErfResult],
    *,
    shares: Sequence[float] | None = None,
    outside: Sequence[float] = (),
    window: bool = False,
    each: bool = False,
) -> str:
    """What made the figure, shortly; the JSON has it whole.

    Args:
        results: At least one.
        shares: Which the squares in the figure hold; empty for a figure without squares, None for the published ones
            that a square of some result holds.
        outside: Shares of squares that lie outside the window of every panel.
        window: Whether the figure shows windows of the maps.
        each: Whether the figure shows the map of each image, not their mean.
    """
    first = results[0].provenance
    counts = sorted({result.num_images for result in results})
    images = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    noun = "image" if counts == [1] else "images"
    sizes = ", ".join(dict.fromkeys("{} × {}".format(*result.contribution.shape) for result in results))
    layers = ", ".join(dict.fromkeys(result.layer for result in results))
    positions = ", ".join(dict.fromkeys(filter(None, map(_position, results))))
    unit = f", {positions}" if positions else ""
    commit = f", commit {found[:10]}" if (found := first.get("git_commit")) else ""
    software = " ".join(filter(None, ["replknet-analysis", first["versions"]["replknet-analysis"]]))
    drawn = ", ".join(f"{100 * t:.4g}%" for t in (reached(results, LOG_THRESHOLDS) if shares is None else shares))
    what = f"Squares hold {drawn} of log10(score + 1) / max" if drawn else ""
    if outside:
        beyond = ", ".join(f"{t:.4g}%" for t in (100 * share for share in outside))
        one = len(outside) == 1
        subject = f"; {'that' if one else 'those'} of {beyond}" if drawn else f"Squares that hold {beyond}"
        what += f"{subject} {'lies' if one and drawn else 'lie'} outside the window"
    what += ".\n" if what else ""
    if window:
        several = len(results) > 1
        what += "The small pictures show the whole maps" if several else "The small picture shows the whole map"
        what += ", with the window marked.\n"
    mean = "Maps" if each else "Map" if counts == [1] else "Mean"
    heads = dict.fromkeys(result.provenance["weights"].get("head") for result in results)
    head = "".join(f"; checkpoint: {words}" for words in heads if words)
    return (
        f"{mean} of {images} {noun} ({first['data']['name']}) at {sizes} pixels, {first['precision']}{head}.\n"
        f"{what}"
        f"{software}{commit}, torch {first['versions']['torch']}, layer {layers}{unit}"
    )


def _position(result: ErfResult) -> str:
    """Where the unit is, if it is not the central one."""
    position = result.provenance.get("config", {}).get("position", "centre")
    if position == "centre":
        return ""
    if position == "average":
        return "mean over a grid of units"
    down, across = position
    return f"unit at {down:g} of the height and {across:g} of the width"


def reached(results: Sequence[ErfResult], thresholds: Sequence[float]) -> list[float]:
    """The shares that a square within the map holds in at least one of the results, in rising order."""
    found = [area for result in results for area in log_area(result.contribution, thresholds, centre=result.centre)]
    return sorted({area.threshold for area in found if area.reached})
