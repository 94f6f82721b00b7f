"""Text in figures: the names of results, and a caption that describes how the figure was made."""

from collections.abc import Mapping, Sequence

from erf.drawing import Drawing
from erf.measures.squares import LOG_THRESHOLDS, square_areas
from erf.results.files import ErfResult
from runkit.figure_text import list_names

__all__ = [
    "SQUARE_NAMES",
    "WARNING_COLOUR",
    "caption",
    "reached",
    "row_name",
    "weights_words",
]

WARNING_COLOUR = "#d1495b"
"""Colour of text that marks random weights."""
SQUARE_NAMES = {"published": "published squares", "mass": "squares of the mass"}
"""Names of the squares in captions and legends."""
_HELD = {"published": "log10(score + 1) / max", "mass": "the contribution itself"}
"""Quantity of which the squares hold shares, in words."""


def weights_words(result: ErfResult, drawing: Drawing | None = None) -> str:
    """The label of the weights, without the name of the network if the displayed name already contains it."""
    label, shown = result.weights_label, drawing.name_of(result.name) if drawing else result.name
    if result.random_weights or result.provenance["weights"].get("source") == "file":
        return label
    network, _, tag = label.removeprefix("weights ").partition(".")
    if not label.startswith("weights ") or not tag or not f"{shown}.".startswith(f"{network}."):
        return label
    return "trained weights" if f"{shown}.".startswith(f"{network}.{tag}.") else f"weights {tag}"


def row_name(result: ErfResult, drawing: Drawing | None = None) -> str:
    """The name of a result, with its weights unless the name already contains them."""
    weights = result.provenance["weights"]
    shown = drawing.name_of(result.name) if drawing else result.name
    published = weights.get("source") != "file" and not result.random_weights
    if published and shown == result.name and weights["model"].startswith(f"{shown}."):
        return weights["model"]  # the name with the tag of its weights
    named_by_tag = shown.startswith(weights["model"]) and weights.get("source") != "file"
    return shown if named_by_tag and not result.random_weights else f"{shown}, {weights_words(result, drawing)}"


def caption(
    results: Sequence[ErfResult],
    *,
    shares: Sequence[float] | None = None,
    outside: Sequence[float] = (),
    window: bool = False,
    each: bool = False,
    squares: str = "published",
    notes: Sequence[str] = (),
    labels: Mapping[str, str] | None = None,
) -> str:
    """A short description of how the figure was made. The JSON file has all details.

    Args:
        results: At least one result.
        shares: Shares that the squares in the figure hold. Empty for a figure without squares, None for the published
            shares that a square reaches in at least one result.
        outside: Shares of squares that lie outside the window of every panel.
        window: Whether the figure shows windows of the maps.
        each: Whether the figure shows the maps of single images instead of their mean.
        squares: Quantity of which the squares hold shares, from `erf.drawing.SQUARES`.
        notes: Further sentences, such as on requested elements that are not visible.
        labels: Name of a result -> its name in the figure.
    """
    first = results[0].provenance
    counts = sorted({result.num_images for result in results})
    images = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    noun = "image" if counts == [1] else "images"
    sizes = ", ".join(dict.fromkeys("{}\u00a0×\u00a0{}".format(*result.contribution.shape) for result in results))
    layers = _name_layers(results, labels or {})
    positions = ", ".join(dict.fromkeys(filter(None, map(_position, results))))
    unit = f", {positions}" if positions else ""
    commit = f", commit {found[:10]}" if (found := first.get("git_commit")) else ""
    software = " ".join(filter(None, ["replknet-analysis", first["versions"]["replknet-analysis"]]))
    drawn = ", ".join(
        f"{100 * t:.4g}%" for t in (reached(results, LOG_THRESHOLDS, squares) if shares is None else shares)
    )
    name = SQUARE_NAMES[squares].capitalize()
    what = f"{name} hold {drawn} of {_HELD[squares]}" if drawn else ""
    if outside:
        beyond = ", ".join(f"{t:.4g}%" for t in (100 * share for share in outside))
        one = len(outside) == 1
        subject = f"; {'that' if one else 'those'} of {beyond}" if drawn else f"{name} that hold {beyond}"
        what += f"{subject} {'lies' if one and drawn else 'lie'} outside the window"
    what += ".\n" if what else ""
    if window:
        several = len(results) > 1
        what += "The small pictures show the whole maps" if several else "The small picture shows the whole map"
        what += ", with the window marked.\n"
    what += f"{' '.join(notes)}\n" if notes else ""
    mean = "Maps" if each else "Map" if counts == [1] else "Mean"
    heads = dict.fromkeys(result.provenance["weights"].get("head") for result in results)
    head = "".join(f"; checkpoint: {words}" for words in heads if words)
    return (
        f"{mean} of {images} {noun} ({first['data']['name']}) at {sizes} pixels, {first['precision']}{head}."
        f"{_say_skipped(results)}\n"
        f"{_say_initialised(results, labels or {})}"
        f"{what}"
        f"{software}{commit}, torch {first['versions']['torch']}, layer {layers}{unit}"
    )


def _name_layers(results: Sequence[ErfResult], labels: Mapping[str, str]) -> str:
    """The names of the layers; with the networks that each belongs to, unless every network has all layers."""
    networks: dict[str, dict[str, None]] = {}
    for result in results:
        model = str(result.provenance.get("identity", {}).get("model", result.name))
        networks.setdefault(result.layer, {})[labels.get(result.name, model)] = None
    everyone = {name for names in networks.values() for name in names}
    if all(set(names) == everyone for names in networks.values()):
        return ", ".join(networks)
    return "; ".join(
        f"{layer} of {list_names(list(names), between=', ', last=' and ')}" for layer, names in networks.items()
    )


def _say_initialised(results: Sequence[ErfResult], labels: Mapping[str, str]) -> str:
    """A line on each way in which random weights differ from what the library draws; empty if none do."""
    networks: dict[str, dict[str, None]] = {}
    for result in results:
        weights = result.provenance["weights"]
        drawn = weights.get("init") or ""
        if result.random_weights and ", with " in drawn:
            networks.setdefault(drawn, {})[labels.get(result.name, weights["model"])] = None
    return "".join(
        f"Random weights of {list_names(list(names), between=', ', last=' and ')}: {drawn}.\n"
        for drawn, names in networks.items()
    )


def _say_skipped(results: Sequence[ErfResult]) -> str:
    """A sentence on skipped images; empty if there were none."""
    counts = {(len(result.provenance.get("skipped", ())), result.num_images) for result in results}
    most = max(skipped for skipped, _ in counts)
    if not most:
        return ""
    if len(counts) > 1:
        fewest = min(skipped for skipped, _ in counts)
        number = f"{most}" if fewest == most else f"{fewest} to {most}"
        return f" Images that were skipped: {number}."
    ((skipped, used),) = counts
    return f" {skipped} of {skipped + used} images {'was' if skipped == 1 else 'were'} skipped."


def _position(result: ErfResult) -> str:
    """The position of the unit in words; empty for the central unit."""
    position = result.provenance.get("config", {}).get("position", "centre")
    if position == "centre":
        return ""
    if position == "average":
        return "mean over a grid of units"
    down, across = position
    return f"unit at {down:g} of the height and {across:g} of the width"


def reached(results: Sequence[ErfResult], thresholds: Sequence[float], squares: str = "published") -> list[float]:
    """The thresholds that a square within the map reaches in at least one of the results, in ascending order."""
    maps = ((result.contribution, result.centre) for result in results)
    found = [area for values, at in maps for area in square_areas(values, thresholds, of=squares, centre=at)]
    return sorted({area.threshold for area in found if area.reached})
