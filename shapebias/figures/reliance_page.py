"""The section of an HTML report on reliance: bars per cue and curves with values on hover, tables, provenance."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from runkit import load_json
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
from shapebias.figures.observers import Style
from shapebias.figures.page import difference_cell, estimate_cell, say_value
from shapebias.figures.reliance import draw_reliance, draw_reliance_curves, left_of, styled
from shapebias.measures.reliance import Reliance
from shapebias.measures.suppression_control import CONTROLS, ControlPoint
from shapebias.results.reliance import RelianceFolder, comparison_files, notes_on_reliance, read_comparison
from shapebias.results.reliance_content import RelianceComparison
from shapebias.stimuli.suppressions import CUES

__all__ = ["describe_reliance"]

_SLUGS = ("reliance-bars", "reliance-curves")


def describe_reliance(path: Path, page: Path) -> Section:
    """Make the section of a page on reliance.

    Args:
        path: Path of `reliance.json`.
        page: Path of the page to be written, for its links.

    Raises: UserError if the file cannot be read or was not written by `shapebias.reliance`.
    """
    content = read_comparison(path)
    measured = [Reliance.from_dict(one) for one in content["results"]["networks"]]
    styles = styled(measured)
    control = content["results"]["control"]
    body = render_part(
        "shapebias.figures",
        "reliance.html",
        images=measured[0].images,
        labelled=measured[0].chance is not None,
        slugs=" ".join(_SLUGS),
        observers=[{"key": style.key, "label": one.label} for one, style in styles],
        figures=[_bars(styles), _curves(styles)],
        cues=_cue_table(measured),
        variants=_variant_table(measured),
        differences=_difference_table(content, measured),
        control=_control_table([ControlPoint.from_dict(row) for row in control["variants"]]) if control else None,
        definitions={name.replace("_", " "): text for name, text in CONTROLS.items()},
        sources=_list_sources(content, path, page),
    )
    return Section(
        slug="reliance",
        title="Reliance on shape, texture and colour",
        body=body,
        random=tuple(one.name for one in measured if one.random),
        style=read_part("shapebias.figures", "shape-bias.css"),
        script=read_part("shapebias.figures", "shape-bias.js"),
    )


def _bars(styles: Sequence[tuple[Reliance, Style]]) -> dict[str, Any]:
    says = {
        f"{style.key}-bar-{cue}": f"{one.label}\nreliance on {cue}: {say_value(value, full=True)}"
        for one, style in styles
        for cue, value in one.reliance.items()
    }
    picture = embed_figure(
        draw_reliance([one for one, _ in styles]), slug=_SLUGS[0], label="Reliance per cue, of each network", says=says
    )
    return {"picture": picture, "caption": "Reliance per cue, with 95% intervals."}


def _curves(styles: Sequence[tuple[Reliance, Style]]) -> dict[str, Any]:
    measured = [one for one, _ in styles]
    says: dict[str, list[str]] = {}
    for one, style in styles:
        for name in one.suppressions:
            says[f"{style.key}-{name}"] = [
                f"{one.label}\n{point.variant}: {left_of(measured)} {say_value(left, full=True)}"
                for point in one.points
                if point.suppression in ("", name) and (left := point.left) is not None
            ]
    figure = draw_reliance_curves(measured)
    label = f"{left_of(measured).capitalize()} against the strength of each suppression"
    caption = "A panel for each suppression, from the image as it is (–) to the strongest; bands are 95% intervals."
    return {"picture": embed_figure(figure, slug=_SLUGS[1], label=label, says=says), "caption": caption}


def _cue_table(measured: Sequence[Reliance]) -> Table:
    labelled = measured[0].chance is not None
    cues = [cue for cue in CUES if any(cue in one.reliance for one in measured)]
    names = list(dict.fromkeys(name for one in measured for name in one.areas))
    rows = []
    for one in measured:
        accuracy = one.points[0].accuracy
        cells = [estimate_cell(accuracy)] if labelled and accuracy else []
        cells += [_optional(one.reliance.get(cue)) for cue in cues] + [_optional(one.areas.get(name)) for name in names]
        rows.append(Row(one.label, tuple(cells)))
    notes = notes_on_reliance(measured)
    text = f"Reliance on each cue, and the area under the curve of {left_of(measured)} of each suppression."
    columns = [*(["accuracy"] if labelled else []), *cues, *(f"area, {name}" for name in names)]
    return Table(f"{text} {notes}".rstrip(), ("network", *columns), tuple(rows))


def _variant_table(measured: Sequence[Reliance]) -> Table:
    columns = ["suppression"]
    labelled = measured[0].chance is not None
    columns += ["accuracy", "relative accuracy"] if labelled else []
    rows = []
    for one in measured:
        for point in one.points:
            values = [point.accuracy, point.relative_accuracy] if labelled else []
            cells = [_optional(value) for value in [*values, point.changed]]
            rows.append(Row(one.label, (Cell(point.variant, point.variant), *cells)))
    return Table("Every variant, with 95% intervals.", ("network", *columns, "answers changed"), tuple(rows))


def _difference_table(content: RelianceComparison, measured: Sequence[Reliance]) -> Table:
    labels = {one.name: one.label for one in measured}
    rows = []
    for pair in content["results"]["differences"]["pairs"]:
        names = [labels.get(pair[side], pair[side]) for side in ("first", "second")]  # type: ignore[literal-required]
        of = labels.get(pair["of"], pair["of"])
        cells = (
            Cell(of, of),
            difference_cell(pair["difference"], pair["low"], pair["high"]),
            Cell(f"{pair['p']:.4f}", pair["p"]),
            Cell(f"{pair['p_holm']:.4f}", pair["p_holm"]),
        )
        rows.append(Row(" − ".join(names), cells))
    text = "Reliance of the first minus that of the second, paired over images, with Holm's correction."
    return Table(text, ("pair", "of", "difference", "p", "p (Holm)"), tuple(rows))


def _control_table(control: Sequence[ControlPoint]) -> Table:
    rows = [Row(point.variant, tuple(_optional(point.left[key]) for key in CONTROLS)) for point in control]
    text = "Shares of the images as they are that a suppression leaves, whatever a network makes of it."
    return Table(text, ("variant", *(name.replace("_", " ") for name in CONTROLS)), tuple(rows))


def _optional(value: Any) -> Cell:
    return Cell("–") if value is None else estimate_cell(value)


def _list_sources(content: RelianceComparison, path: Path, page: Path) -> list[Source]:
    """Provenance of the comparison, followed by that of each network's answers if they are in the same folder."""
    answers = "\n".join(f"{entry['file']}, SHA-256 {entry['sha256']}" for entry in content["probabilities"])
    folder = RelianceFolder(path.parent)
    pictures = [path.with_name(name) for name in content["pictures"]]
    files = links_to([*comparison_files(folder, ()), *pictures], page)
    sources = [Source("The comparison", path.name, (*describe_head(content), ("Answers", answers)), files)]
    for name in content["config"]["networks"]:
        result = folder.json_of(name)
        if result.exists():
            made = load_json(result)
            data = made["data"]
            images = f"{data['images_chosen']} of {data['images_found']} in {data['name']}, {data['classes_matched']}"
            facts = (*describe_weights(made["weights"]), ("Images", images), *describe_head(made))
            links = links_to(folder.files_of(name), page)
            label = "" if made["weights"]["random"] else made["weights"]["label"]
            sources.append(Source(made["label"], label, facts, links))
    return sources
