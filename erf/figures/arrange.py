"""Arrangement of the panels of a comparison: a grid if results differ in two properties, or one after another.

If networks are compared before and after training, each has a column, with random weights above trained ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from erf.drawing import Drawing
from erf.results.files import ErfResult, random_above

__all__ = ["LEFT", "RIGHT", "arrange"]

LEFT, RIGHT = 0.42, 0.72
"""Space in inches left and right of the panels, for the tick labels and the colour bar."""
_USUAL_COLUMNS, _MOST_COLUMNS = 4, 6


def arrange(results: Sequence[ErfResult], drawing: Drawing) -> Sequence[Sequence[ErfResult | None]]:
    """Arrange results in rows of panels.

    Args:
        results: At least one result.
        drawing: Options, of which `columns`, `width` and `before_after` are used.

    Returns: The rows. None marks a place that stays empty because a network lacks results with one kind of weights.
    """
    before_after = drawing.before_after or all(result.of_before_after for result in results)
    ordered = random_above(results) if before_after else results
    if drawing.columns is None and (table := _cross(ordered)):
        return table if drawing.width_in is None else _in_blocks(table, _columns_for(drawing.width_in))
    columns = drawing.columns or _columns_for(drawing.width_in)
    if before_after and (blocks := _stack(ordered, columns)):
        return blocks
    columns = min(columns, len(results))
    return [list(ordered[i : i + columns]) for i in range(0, len(ordered), columns)]


def _in_blocks(table: Sequence[Sequence[ErfResult]], columns: int) -> list[Sequence[ErfResult]]:
    """Split a table with more columns than given into blocks, one below the other."""
    starts = range(0, max(map(len, table)), columns)
    return [part for start in starts for row in table if (part := row[start : start + columns])]


def _stack(results: Sequence[ErfResult], columns: int) -> list[list[ErfResult | None]] | None:
    """Arrange results with a column for each network, random weights above trained ones.

    A block of rows has at most `columns` columns. For a single network, each stage or each size has a column. Returns
    None if there is only one column, or only one kind of weights.
    """
    if len({result.random_weights for result in results}) < 2:
        return None
    kinds = [_kinds(result) for result in results]
    by = next((name for name in ("model", "layer", "size") if len({str(kind[name]) for kind in kinds}) > 1), None)
    if by is None:
        return None
    stacks: dict[str, tuple[list[ErfResult], list[ErfResult]]] = {}
    for result, kind in zip(results, kinds, strict=True):
        stacks.setdefault(str(kind[by]), ([], []))[0 if result.random_weights else 1].append(result)
    rows: list[list[ErfResult | None]] = []
    for start in range(0, len(stacks), columns):
        block = list(stacks.values())[start : start + columns]
        for part in (0, 1):
            for row in range(max(len(stack[part]) for stack in block)):
                rows.append([stack[part][row] if row < len(stack[part]) else None for stack in block])
    return rows


def _columns_for(width: float | None) -> int:
    """Number of panels of at least an inch that fit side by side, at most six; four if the width is None."""
    if width is None:
        return _USUAL_COLUMNS
    return max(1, min(_MOST_COLUMNS, int((width - LEFT - RIGHT) / 1.0)))


def _cross(results: Sequence[ErfResult]) -> list[list[ErfResult]] | None:
    """A grid of results that differ in two properties; None if a combination is missing or repeated.

    The property that comes first in `_kinds` varies across the columns. If results do not differ in exactly two
    properties, they are arranged by network.
    """
    kinds = [_kinds(result) for result in results]
    varying = [name for name in kinds[0] if len({str(kind[name]) for kind in kinds}) > 1]
    if len(varying) != 2:
        return _by_network(results, kinds)
    across, down = varying
    columns, rows = (list(dict.fromkeys(str(kind[name]) for kind in kinds)) for name in (across, down))
    places = {(str(kind[down]), str(kind[across])): result for kind, result in zip(kinds, results, strict=True)}
    if len(places) < len(results) or len(places) < len(rows) * len(columns) or len(columns) > _MOST_COLUMNS:
        return None
    return [[places[row, column] for column in columns] for row in rows]


def _by_network(results: Sequence[ErfResult], kinds: Sequence[Mapping[str, Any]]) -> list[list[ErfResult]] | None:
    """A column for each network, if there are several networks with equal numbers of results, above one; else None."""
    networks: dict[str, list[ErfResult]] = {}
    for result, kind in zip(results, kinds, strict=True):
        networks.setdefault(kind["model"], []).append(result)
    alike = len({len(group) for group in networks.values()}) == 1 and 1 < len(networks) < len(results)
    if not alike or len(networks) > _MOST_COLUMNS:
        return None
    return [list(row) for row in zip(*networks.values(), strict=True)]


def _kinds(result: ErfResult) -> Mapping[str, Any]:
    """The properties in which results can differ. If two of them vary, the first varies across the columns."""
    identity = result.provenance.get("identity", {})
    return {
        "model": identity.get("model", result.name),
        "layer": result.provenance["layer"],
        "size": identity.get("size", result.contribution.shape),
        "weights": _weights(identity.get("weights"), result.weights_label),
    }


def _weights(identity: object, label: str) -> str:
    """The kind of weights as text, without the name of the network."""
    if not isinstance(identity, Mapping) or "random" not in identity:
        return label
    return "random" if identity["random"] else str(identity.get("file", "trained"))
