"""The relation's part of an HTML report: receptive field against shape bias, as `shapebias.relate` wrote it."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from matplotlib.ticker import MaxNLocator

from htmlreport.relation import Correlation
from runkit import UserError, load_json
from runkit.html.page import (
    PLOT_RIGHT,
    Axis,
    Row,
    Section,
    Source,
    Table,
    describe_head,
    links_to,
    on_page,
    read_part,
    render_part,
)
from shapebias.figures.observers import PEOPLE_COLOUR, choose_style
from shapebias.figures.page import FRACTIONS, estimate_cell, marker_outline, say_value, svg_colour
from shapebias.measures.bootstrap import Estimate

__all__ = ["describe_relation"]


def describe_relation(path: Path, page: Path) -> Section:
    """The section of a page.

    Args:
        path: `relation.json`.
        page: Where the page will be, for its links.

    Raises: UserError if the file cannot be read or is none of `shapebias.relate`.
    """
    content = load_json(path)
    try:
        results = content["results"]
        networks = [_describe_network(row, index) for index, row in enumerate(results["networks"])]
        known = {field.name for field in fields(Correlation)}
        correlation = Correlation(**{key: value for key, value in results["correlation"].items() if key in known})
        people = results["people"] and Estimate.from_dict("shape_bias", results["people"])
        head = describe_head(content)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} was not written by shapebias.relate: {error}; write it again") from error
    ends = [end for network in networks for end in (network["field"].value, network["field"].high) if end is not None]
    largest = 1.1 * max(ends)
    ticks = [(share, f"{share:.0%}") for share in MaxNLocator(6).tick_values(0, largest) if share <= largest]
    x = Axis(results["field"], 0, largest, 62, PLOT_RIGHT, tuple(ticks))
    y = Axis("shape bias", 0, 1, 330, 14, FRACTIONS)
    rows = tuple(
        Row(network["label"], (estimate_cell(network["field"]), estimate_cell(network["shape_bias"])))
        for network in networks
    )
    pictures = [path.parent / name for name in content.get("pictures", ())]
    unpaired = "; ".join(f"{name}: {reason}" for name, reason in content.get("unpaired", {}).items())
    facts = [*head, *([("Left out", unpaired)] if unpaired else [])]
    files = links_to([path, path.with_suffix(".csv"), path.with_suffix(".tex"), *pictures], page)
    body = render_part(
        "htmlreport",
        "relation.html",
        x=x,
        y=y,
        networks=networks,
        people=people,
        people_colour=on_page(PEOPLE_COLOUR),
        people_text=f"people: shape bias {say_value(people, full=True)}" if people else "",
        correlation=correlation.describe(),
        table=Table(f"{results['field']}; shape bias; 95% intervals.", ("network", "area ratio", "shape bias"), rows),
        sources=[Source("The relation", path.name, tuple(facts), files)],
    )
    return Section(
        slug="relation",
        title="Receptive field against shape bias",
        body=body,
        random=tuple(row["name"] for row in results["networks"] if row["random"]),
        style=read_part("shapebias.figures", "shape-bias.css"),
    )


def _describe_network(row: Mapping[str, Any], index: int) -> dict[str, Any]:
    style = choose_style(index, random=row["random"])
    field, bias = Estimate.from_dict("field", row), Estimate.from_dict("shape_bias", row)
    return {
        "label": row["label"],
        "random": row["random"],
        "field": field,
        "shape_bias": bias,
        "colour": svg_colour(style),
        "marker": marker_outline(style.marker),
        "filled": style.filled,
        "text": f"{row['label']}\narea ratio {say_value(field, full=True)}\nshape bias {say_value(bias, full=True)}",
    }
