"""List networks and the sources of their trained weights, for `--list-models` of both tools."""

import fnmatch
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import timm

from replknet.foreign import is_code
from replknet.weights.sources import source_of_weights
from replknet.zoo import ResolvedWeights, WeightsRecord, resolve_weights
from runkit import UserError, format_table, write_json, write_out

__all__ = [
    "SOURCES",
    "ForeseenWeights",
    "ListedNetwork",
    "find_source",
    "foresee_weights",
    "list_networks",
    "show_networks",
]

SOURCES = {
    "package": "installed",
    "file": "file",
    "cache": "cached",
    "download": "downloadable",
    None: "random only",
}
"""Maps the source of trained weights (None: there are none) to its label; weights on this machine come first."""


@dataclass(frozen=True)
class ListedNetwork:
    """A network with one set of trained weights, or without any.

    Attributes:
        name: `arch.tag`, or the architecture alone where no weights are published.
        weights: One of the labels in `SOURCES`.
        input_size_px: Side in pixels of the images that the weights were made for.
        num_classes: Number of classes of the head.
    """

    name: str
    weights: str
    input_size_px: int | None
    num_classes: int | None


def list_networks(pattern: str = "*", *, num_classes: Collection[int] = ()) -> list[ListedNetwork]:
    """List the networks whose name matches, those with weights on this machine first, then by name.

    Nothing is fetched or built.

    Args:
        pattern: Pattern with the wildcards `*`, `?` and `[...]`; one without them matches all names that contain it.
        num_classes: Restricts the list to networks whose head has one of these numbers of classes; empty for all.
    """
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    rows = {row.name: row for row in map(_list, timm.list_models(include_tags=True))}  # one row for all untrained tags
    trained = {name.partition(".")[0] for name, row in rows.items() if row.weights != SOURCES[None]}
    fitting = [
        row
        for name, row in rows.items()
        if any(fnmatch.fnmatch(part, wanted) for part in (name, name.partition(".")[0]))
        and (row.weights != SOURCES[None] or name not in trained)
        and (not num_classes or row.num_classes in num_classes)
    ]
    order = list(SOURCES.values())
    return sorted(fitting, key=lambda row: (order.index(row.weights), row.name))


def find_source(name: str, weights: str = "auto") -> str | None:
    """Determine where `replknet.zoo.resolve_weights` would take weights from, without fetching or reading them.

    Returns: 'random', 'built' if the user's code gives the network its weights, or a key of `SOURCES`.
    Raises: UserError for an unknown network or tag.
    """
    if is_code(name):
        return "built" if weights in ("auto", "pretrained", "random") else "file"
    resolve_weights(name, "random")  # raises for an unknown name
    if weights == "random":
        return weights
    if weights not in ("auto", "pretrained"):
        return "file"
    content = _describe_weights(name)
    tag = content.get("tag")
    return source_of_weights(f"{name.partition('.')[0]}.{tag}" if tag else name, content)


@dataclass(frozen=True)
class ForeseenWeights:
    """The weights that `--weights` would select, as far as they are known without a download.

    Attributes:
        weights: The resolved weights; a placeholder with only the network's name if they would be downloaded.
        label: Description of where they would come from.
        at_hand: Whether they are available without a download.
    """

    weights: ResolvedWeights
    label: str
    at_hand: bool


def foresee_weights(name: str, weights: str = "auto", *, seed: int = 0) -> ForeseenWeights:
    """Resolve weights like `replknet.zoo.resolve_weights`, but without downloading any.

    Raises: UserError as `replknet.zoo.resolve_weights`.
    """
    if find_source(name, weights) == "download":
        stand_in = ResolvedWeights(name, WeightsRecord(name, "download"), None)
        return ForeseenWeights(stand_in, SOURCES["download"], at_hand=False)
    resolved = resolve_weights(name, weights, seed=seed)
    record = resolved.record
    label = record.label if record.random or record.source in ("file", "built") else SOURCES[record.source]
    return ForeseenWeights(resolved, label, at_hand=True)


def _list(name: str) -> ListedNetwork:
    content = _describe_weights(name)
    source, size = source_of_weights(name, content), content.get("input_size")
    shown = name if source else name.partition(".")[0]
    return ListedNetwork(shown, SOURCES[source], size and size[-1], content.get("num_classes"))


def _describe_weights(name: str) -> Mapping[str, Any]:
    """timm's description of a network's weights."""
    cfg = timm.get_pretrained_cfg(name, allow_unregistered=True)
    return {} if cfg is None else {**cfg.to_dict(), "tag": cfg.tag}


def show_networks(pattern: str, *, as_json: bool, num_classes: Collection[int] = ()) -> None:
    """Write the matching networks to stdout, as a table or as JSON; arguments as for `list_networks`.

    Raises: UserError if there is none.
    """
    networks = list_networks(pattern, num_classes=num_classes)
    if not networks:
        classes = " with a head that is known" if num_classes else ""
        raise UserError(f"--list-models {pattern}: no network{classes} is called so; patterns are like resnet*")
    if as_json:
        write_json({"networks": [asdict(row) for row in networks]})
        return
    counts = Counter(row.weights for row in networks)
    said = ", ".join(f"{counts[word]} {word}" for word in SOURCES.values() if counts[word])
    rows = [[row.name, row.weights, str(row.input_size_px or "-")] for row in networks]
    write_out(f"{format_table(['network', 'weights', 'input px'], rows)}\n\n{len(networks)} in all: {said}")
