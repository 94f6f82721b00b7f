"""Text in figures: the names of results, and a caption that describes how the figure was made."""

import re
from collections.abc import Mapping, Sequence

from erf.drawing import Drawing
from erf.measures.squares import LOG_THRESHOLDS, square_areas
from erf.results.files import ErfResult
from runkit.figure_text import list_names, software_words

__all__ = [
    "OF_USER",
    "SQUARE_NAMES",
    "WARNING_COLOUR",
    "caption",
    "reached",
    "row_name",
    "weights_words",
]

WARNING_COLOUR = "#d1495b"
"""Colour of text that marks random weights."""
OF_USER = ("file", "built", "given")
"""Sources of weights that the user brought, of which nobody knows whether they are trained."""
SQUARE_NAMES = {"published": "published squares", "mass": "squares of the mass"}
"""Names of the squares in captions and legends."""
_HELD = {"published": "log10(score + 1) / max", "mass": "the contribution itself"}
"""Quantity of which the squares hold shares, in words."""


def weights_words(result: ErfResult, drawing: Drawing | None = None) -> str:
    """The label of the weights, without the name of the network if the displayed name already contains it."""
    label, shown = result.weights_label, drawing.name_of(result.name) if drawing else result.name
    source = result.provenance["weights"].get("source")
    if source == "built" and label.endswith(f" by {shown}"):
        return label.removesuffix(f" by {shown}")
    if result.random_weights or source in OF_USER:
        return label
    network, _, tag = label.removeprefix("weights ").partition(".")
    if not label.startswith("weights ") or not tag or not f"{shown}.".startswith(f"{network}."):
        return label
    return "trained weights" if f"{shown}.".startswith(f"{network}.{tag}.") else f"weights {tag}"


def row_name(result: ErfResult, drawing: Drawing | None = None) -> str:
    """The name of a result, with its weights unless the name already contains them."""
    weights = result.provenance["weights"]
    shown = drawing.name_of(result.name) if drawing else result.name
    published = weights.get("source") not in OF_USER and not result.random_weights
    if published and shown == result.name and weights["model"].startswith(f"{shown}."):
        return weights["model"]  # the name with the tag of its weights
    named_by_tag = published and shown.startswith(weights["model"])
    return shown if named_by_tag else f"{shown}, {weights_words(result, drawing)}"


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
    first, about = results[0].provenance, _Attribution(results, labels or {})
    counts = sorted({result.num_images for result in results})
    images = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    mean = "Maps" if each else "Map" if counts == [1] else "Mean"
    data = about.say([result.provenance["data"]["name"] for result in results])
    made = [
        about.say(["{}\u00a0×\u00a0{} pixels".format(*result.contribution.shape) for result in results]),
        about.say([result.provenance["precision"] for result in results]),
        about.say([_normalisation(result) for result in results]),
    ]
    heads = about.say([result.provenance["weights"].get("head") or "" for result in results])
    positions = about.say([_position(result) for result in results], of=True)
    layers = about.say([result.layer for result in results], of=True)
    lines = [
        f"{mean} of {images} {'image' if counts == [1] else 'images'} ({data}) at {', '.join(filter(None, made))}."
        f"{_say_skipped(results)}",
        _say_stopped(results),
        f"Checkpoint: {heads}." if heads else "",
        *_say_initialised(results, about),
        _say_squares(reached(results, LOG_THRESHOLDS, squares) if shares is None else shares, outside, squares),
        f"The small {'pictures show the whole maps' if len(results) > 1 else 'picture shows the whole map'}, with the "
        "window marked."
        if window
        else "",
        " ".join(notes),
        ", ".join(
            filter(None, [software_words(first), f"torch {first['versions']['torch']}", f"layer {layers}", positions])
        ),
    ]
    return "\n".join(filter(None, lines))


class _Attribution:
    """Says, in words, which results of a figure something is true of.

    Args:
        results: The results.
        labels: Name of a result -> its name in the figure.
    """

    def __init__(self, results: Sequence[ErfResult], labels: Mapping[str, str]):
        models = [str(result.provenance.get("identity", {}).get("model", result.name)) for result in results]
        labelled = {model for result, model in zip(results, models, strict=True) if result.name in labels}
        self.names = [labels.get(result.name, result.name) for result in results]
        self.models = [
            name if model in labelled else model for name, model in zip(self.names, models, strict=True)
        ]  # a network one of whose results has another name in the figure is named as its panels are

    def say(self, values: Sequence[str], *, of: bool = False) -> str:
        """Join the different values, each with its networks, unless every network has all of them.

        Args:
            values: One for each result, empty where there is nothing to say.
            of: Whether to write "value of network" instead of "value (network)".
        """
        groups = _group(values, self.models)
        if all(set(names) == set(self.models) for names in groups.values()):
            return ", ".join(filter(None, groups))
        if sum(map(len, groups.values())) > len(set(self.models)):  # the same network has several values
            groups = _group(values, self.names)
        said = {value: _listed(names) for value, names in groups.items() if value}
        if of:
            return "; ".join(f"{value} of {names}" for value, names in said.items())
        return ", ".join(f"{value} ({names})" for value, names in said.items())


def _group(values: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """The distinct names of each value, in order."""
    groups: dict[str, list[str]] = {}
    for value, name in dict.fromkeys(zip(values, names, strict=True)):
        groups.setdefault(value, []).append(name)
    return groups


def _listed(names: Sequence[str]) -> str:
    return list_names(names, between=", ", last=" and ")


def _normalisation(result: ErfResult) -> str:
    """How the images were normalised, where the user chose it; otherwise empty."""
    asked = result.provenance.get("identity", {})
    named = {"mean": asked.get("mean"), "standard deviation": asked.get("std")}
    chosen = [f"{name} {', '.join(f'{x:g}' for x in numbers)}" for name, numbers in named.items() if numbers]
    return f"images normalised by {' and '.join(chosen)}" if chosen else ""


def _say_stopped(results: Sequence[ErfResult]) -> str:
    """A sentence on the rule by which images were added; empty if their number was fixed."""
    rules = [result.provenance["stopping"]["until"] for result in results if "stopping" in result.provenance]
    if not rules:
        return ""
    shares = " or ".join(f"{100 * share:.3g}%" for share in dict.fromkeys(rules))
    return (
        "Images were added until the 95% interval of the side that holds half of the contribution was narrower than "
        f"{shares} of it."
    )


def _say_squares(shares: Sequence[float], outside: Sequence[float], squares: str) -> str:
    """A sentence on the shares that the squares hold, and on squares that lie outside the window; empty without any."""
    name, seen = SQUARE_NAMES[squares].capitalize(), ", ".join(f"{100 * share:.4g}%" for share in shares)
    hidden = ", ".join(f"{100 * share:.4g}%" for share in outside)
    words = f"{name} hold {seen} of {_HELD[squares]}" if seen else ""
    if hidden and seen:
        words += f"; {'that' if len(outside) == 1 else 'those'} of {hidden} "
        words += f"{'lies' if len(outside) == 1 else 'lie'} outside the window"
    elif hidden:
        words = f"{name} that hold {hidden} lie outside the window"
    return f"{words}." if words else ""


def _say_initialised(results: Sequence[ErfResult], about: _Attribution) -> list[str]:
    """A sentence for each way in which random weights differ from what the library draws."""
    inits = [(result.provenance["weights"].get("init") or "") if result.random_weights else "" for result in results]
    drawn = [re.sub(r"\d+ (?=[a-z])", "", init) for init in inits]  # without the numbers of layers
    groups = _group(drawn, about.models)
    return [f"Random weights of {_listed(names)}: {how}." for how, names in groups.items() if ", with " in how]


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
    return f"unit at {100 * down:g}% of the height and {100 * across:g}% of the width, from the top left"


def reached(results: Sequence[ErfResult], thresholds: Sequence[float], squares: str = "published") -> list[float]:
    """The thresholds that a square within the map reaches in at least one of the results, in ascending order."""
    maps = ((result.contribution, result.centre) for result in results)
    found = [area for values, at in maps for area in square_areas(values, thresholds, of=squares, centre=at)]
    return sorted({area.threshold for area in found if area.reached})
