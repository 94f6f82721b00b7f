"""The section of an HTML report on receptive field against shape bias, from the files of `shapebias.relate`."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from markupsafe import Markup

from htmlreport.relation import Correlation, Network, Relation
from htmlreport.relation_plot import draw_relation
from runkit import UserError, load_json
from runkit.files import reason_in_words
from runkit.html.page import Cell, Row, Section, Source, Table, describe_head, links_to, render_part
from runkit.html.picture import embed_figure
from shapebias.figures.observers import choose_style
from shapebias.figures.page import estimate_cell, say_value
from shapebias.measures.bootstrap import Estimate
from shapebias.stimuli.suppressions import CUES

__all__ = ["describe_relation"]


def describe_relation(path: Path, page: Path) -> Section:
    """Build the section of a page.

    Args:
        path: Path of `relation.json`.
        page: Future path of the page, to which its links are relative.

    Raises: UserError if the file cannot be read or was not written by `shapebias.relate`.
    """
    content = load_json(path)
    try:
        results = content["results"]
        networks = [_read_network(row) for row in results["networks"]]
        known = {field.name for field in fields(Correlation)}

        def read(row: Mapping[str, Any]) -> Correlation:
            return Correlation(**{key: value for key, value in row.items() if key in known})

        correlation = read(results["correlation"])
        of_reliance = {cue: read(row) for cue, row in results.get("correlation_of_reliance", {}).items()}
        people = results["people"] and Estimate.from_dict("shape_bias", results["people"])
        head = describe_head(content)
    except (KeyError, TypeError) as error:
        reason = reason_in_words(error)
        raise UserError(f"{path} was not written by shapebias.relate: {reason}; write it again") from error
    rows = tuple(
        Row(
            one.label,
            (
                estimate_cell(one.field),
                estimate_cell(one.shape_bias),
                *(estimate_cell(one.reliance[cue]) if cue in one.reliance else Cell("–") for cue in of_reliance),
            ),
        )
        for one in networks
    )
    relation = Relation(tuple(networks), correlation, {}, {}, of_reliance)
    columns = ("network", "area ratio", "shape bias", *(f"reliance on {cue}" for cue in of_reliance))
    measures = f"{results['field']}; shape bias{'; reliance on each cue' if of_reliance else ''}; 95% intervals."
    pictures = [path.parent / name for name in content.get("pictures", ())]
    unpaired = "; ".join(f"{name}: {reason}" for name, reason in content.get("unpaired", {}).items())
    facts = [*head, *([("Left out", unpaired)] if unpaired else [])]
    files = links_to([path, path.with_suffix(".csv"), path.with_suffix(".tex"), *pictures], page)
    body = render_part(
        "htmlreport",
        "relation.html",
        picture=_picture(relation, people, results["field"]),
        people=people,
        table=Table(measures, columns, rows),
        sources=[Source("The relation", path.name, tuple(facts), files)],
    )
    random = tuple(network.name for network in networks if network.random)
    title = "Receptive field against shape bias" + (" and reliance" if of_reliance else "")
    return Section(slug="relation", title=title, body=body, random=random)


def _read_network(row: Mapping[str, Any]) -> Network:
    area, bias = (Estimate.from_dict(key, row) for key in ("field", "shape_bias"))
    reliance = {cue: Estimate.from_dict(f"reliance_{cue}", row) for cue in CUES if f"reliance_{cue}" in row}
    return Network(row["name"], row["label"], row.get("weights", ""), row["random"], area, bias, reliance)


def _picture(relation: Relation, people: Estimate | None, field: str) -> Markup:
    """The figure of the relation, in which every point has a text with its values."""
    says: dict[str, str | list[str]] = {}
    for index, one in enumerate(relation.networks):
        key, words = choose_style(index).key, f"{one.label}\narea ratio {say_value(one.field, full=True)}"
        if one.shape_bias.value is not None:
            says[f"{key}-points"] = [f"{words}\nshape bias {say_value(one.shape_bias, full=True)}"]
        for cue, estimate in one.reliance.items():
            says[f"{key}-{cue}-points"] = [f"{words}\nreliance on {cue} {say_value(estimate, full=True)}"]
    has_bias = any(one.shape_bias.value is not None for one in relation.networks)
    if people and people.value is not None and has_bias:
        says["observer-people-average"] = f"people: shape bias {say_value(people, full=True)}"
    figure = draw_relation(relation, people=people, field=field)
    label = "Receptive field against shape bias" + (" and reliance on cues" if relation.of_reliance else "")
    return embed_figure(figure, slug="relation", label=label, says=says)
