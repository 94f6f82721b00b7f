"""The relation's part of an HTML report: receptive field against shape bias, as `shapebias.relate` wrote it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from markupsafe import Markup

from htmlreport.relation import Correlation, Network, Relation
from htmlreport.relation_plot import draw_relation
from runkit import UserError, load_json
from runkit.html.page import Row, Section, Source, Table, describe_head, links_to, render_part
from runkit.html.picture import embed_figure
from shapebias.figures.observers import choose_style
from shapebias.figures.page import estimate_cell, say_value
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
        networks = [_read_network(row) for row in results["networks"]]
        known = {field.name for field in fields(Correlation)}
        correlation = Correlation(**{key: value for key, value in results["correlation"].items() if key in known})
        people = results["people"] and Estimate.from_dict("shape_bias", results["people"])
        head = describe_head(content)
    except (KeyError, TypeError) as error:
        raise UserError(f"{path} was not written by shapebias.relate: {error}; write it again") from error
    rows = tuple(Row(one.label, (estimate_cell(one.field), estimate_cell(one.shape_bias))) for one in networks)
    pictures = [path.parent / name for name in content.get("pictures", ())]
    unpaired = "; ".join(f"{name}: {reason}" for name, reason in content.get("unpaired", {}).items())
    facts = [*head, *([("Left out", unpaired)] if unpaired else [])]
    files = links_to([path, path.with_suffix(".csv"), path.with_suffix(".tex"), *pictures], page)
    body = render_part(
        "htmlreport",
        "relation.html",
        picture=_picture(networks, correlation, people, results["field"]),
        people=people,
        table=Table(f"{results['field']}; shape bias; 95% intervals.", ("network", "area ratio", "shape bias"), rows),
        sources=[Source("The relation", path.name, tuple(facts), files)],
    )
    random = tuple(network.name for network in networks if network.random)
    return Section(slug="relation", title="Receptive field against shape bias", body=body, random=random)


def _read_network(row: Mapping[str, Any]) -> Network:
    estimates = (Estimate.from_dict(key, row) for key in ("field", "shape_bias"))
    return Network(row["name"], row["label"], row["random"], *estimates)


def _picture(networks: Sequence[Network], correlation: Correlation, people: Estimate | None, field: str) -> Markup:
    """The relation's figure, in which every point says its values."""
    says: dict[str, str | list[str]] = {
        f"{choose_style(index).key}-points": [
            f"{one.label}\narea ratio {say_value(one.field, full=True)}\n"
            f"shape bias {say_value(one.shape_bias, full=True)}"
        ]
        for index, one in enumerate(networks)
    }
    if people and people.value is not None:
        says["observer-people-average"] = f"people: shape bias {say_value(people, full=True)}"
    figure = draw_relation(Relation(tuple(networks), correlation, {}, {}), people=people, field=field)
    return embed_figure(figure, slug="relation", label="Receptive field against shape bias", says=says)
