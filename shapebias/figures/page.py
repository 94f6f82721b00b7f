"""The shape-bias section of an HTML report: the matrix plot with its values, bars with intervals, tables, provenance.

Everything comes from the comparison that a run wrote (`shape-bias.json`, or `accuracy.json` with one cue) and the
result files next to it. The plot is the figure of that name, in which observers can be switched off.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from runkit import load_json
from runkit.files import list_visible
from runkit.html.page import (
    Cell,
    Link,
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
from runkit.numbers import DIFFERENCE, FRACTION
from shapebias.answers.observers import RANDOM_SUFFIX
from shapebias.figures.accuracy import draw_accuracy
from shapebias.figures.observers import Style, choose_styles, rank
from shapebias.figures.shape_bias import draw_comparison
from shapebias.measures.shape_bias import Estimate, Measurement
from shapebias.results.comparison import Comparison, comparison_path, read_comparison
from shapebias.results.files import ResultFolder, notes_on
from shapebias.stimuli.experiments import EXPERIMENTS, Experiment

__all__ = ["describe_answers", "difference_cell", "estimate_cell", "find_folders", "say_value", "title_of"]

_COLUMNS = {
    "shape_bias": "shape bias",
    "fraction_correct_shape": "shape accuracy",
    "fraction_correct_texture": "texture accuracy",
    "coverage": "coverage",
    "accuracy": "accuracy",
    "shape_reciprocal_rank": "shape MRR",
    "texture_reciprocal_rank": "texture MRR",
}
"""Measure -> heading. Measures that no observer has are left out."""
_WHOLE = {"shape_bias": ("average", "bar"), "accuracy": ("end",)}
"""Measure -> parts of the figure that show its value over all trials."""
_TITLES = {"cue-conflict": "Shape bias", "edge": "Edge drawings"}


def find_folders(output: Path) -> list[ResultFolder]:
    """Find the folders of experiments that have a comparison in a run's output folder."""
    folders = (ResultFolder.of(output, experiment) for experiment in EXPERIMENTS.values())
    return [folder for folder in folders if comparison_path(folder).exists()]


def describe_answers(folder: ResultFolder, page: Path) -> Section:
    """Make an experiment's section of a page.

    Args:
        folder: Folder of the experiment, with its comparison.
        page: Path of the page to be written, for its links.

    Raises: UserError if the comparison is missing or damaged.
    """
    path = comparison_path(folder)
    comparison = read_comparison(path)
    slug, two_cues = folder.experiment.name, folder.experiment.two_cues
    key = "shape_bias" if two_cues else "accuracy"
    series = sorted(comparison.series, key=lambda measurement: rank(measurement, key))
    styles = choose_styles(comparison.series)
    body = render_part(
        "shapebias.figures",
        "shape-bias.html",
        slug=slug,
        what=folder.experiment.what,
        two_cues=two_cues,
        people=comparison.people is not None,
        observers=[
            {"key": styles[row.name].key, "label": row.label, "value": say_value(getattr(row, key))} for row in series
        ],
        picture=_picture(comparison, series, styles, slug, key),
        measures=_measure_table(comparison, series, folder.experiment),
        categories=_category_table(series, key),
        differences=_difference_table(comparison),
        sources=_list_sources(comparison, folder, page),
    )
    return Section(
        slug=slug,
        title=title_of(folder.experiment),
        body=body,
        random=tuple(measurement.name.removesuffix(RANDOM_SUFFIX) for measurement in series if measurement.random),
        style=read_part("shapebias.figures", "shape-bias.css"),
        script=read_part("shapebias.figures", "shape-bias.js"),
    )


def title_of(experiment: Experiment) -> str:
    """Return the heading of an experiment's section."""
    return _TITLES.get(experiment.name, experiment.title)


def _picture(
    comparison: Comparison, series: Sequence[Measurement], styles: Mapping[str, Style], slug: str, key: str
) -> Markup:
    """The comparison's figure, where each point and each mark of all trials shows its value on hover."""

    def say(measurement: Measurement, where: str, estimate: Estimate) -> str:
        return f"{measurement.label}\n{where}: {_COLUMNS[key]} {say_value(estimate, full=True)}"

    says: dict[str, str | list[str]] = {}
    for measurement in series:
        name, whole = styles[measurement.name].key, say(measurement, "all categories", getattr(measurement, key))
        says[f"{name}-points"] = [
            say(measurement, category, estimates[key]) + _say_fractions(estimates)
            for category, estimates in measurement.categories.items()
            if estimates[key].value is not None
        ]
        if getattr(measurement, key).value is not None:
            says |= {f"{name}-{part}": whole for part in _WHOLE[key]}
    draw = draw_comparison if key == "shape_bias" else draw_accuracy
    label = f"{_COLUMNS[key].capitalize()} of each observer, by category of the shape and over all images"
    return embed_figure(draw(comparison.series, persons=comparison.persons), slug=slug, label=label, says=says)


def _say_fractions(estimates: Mapping[str, Estimate]) -> str:
    shape, texture = estimates["fraction_correct_shape"], estimates["fraction_correct_texture"]
    if shape.value is None:
        return ""
    return f"\n{say_value(shape)} of trials by shape, {say_value(texture)} by texture"


def _measure_table(comparison: Comparison, series: Sequence[Measurement], experiment: Experiment) -> Table:
    keys = [key for key in _COLUMNS if any(getattr(row, key).value is not None for row in series)]
    rows = []
    for measurement in series:
        kappa = comparison.with_people(measurement.name)
        cells = [estimate_cell(getattr(measurement, key)) for key in keys]
        cells += [
            Cell("–" if kappa is None else f"{kappa:.3f}", kappa),
            Cell(str(measurement.trials), measurement.trials),
        ]
        rows.append(Row(measurement.label, tuple(cells)))
    text = "Fractions of trials with 95% intervals over images; kappa is the mean error consistency with each person."
    if "accuracy" in keys:
        text += " Accuracy is the share of all trials whose answer is the category of the shape."
    text = " ".join(filter(None, [text, notes_on(series, experiment)]))
    return Table(text, ("observer", *(_COLUMNS[key] for key in keys), "kappa with people", "trials"), tuple(rows))


def _category_table(series: Sequence[Measurement], key: str) -> Table:
    """The values of the plot as a table, for readers who cannot see it."""
    rows = [
        Row(
            category,
            tuple(
                estimate_cell(row.categories[category][key]) if category in row.categories else Cell("–")
                for row in series
            ),
        )
        for category in sorted({category for row in series for category in row.categories})
    ]
    text = f"{_COLUMNS[key].capitalize()} by category of the shape, with 95% intervals."
    return Table(text, ("category", *(row.label for row in series)), tuple(rows))


def _difference_table(comparison: Comparison) -> Table:
    labels = {row.name: row.label for row in comparison.series}
    rows = [
        Row(
            f"{labels[row.first]} − {labels[row.second]}",
            (
                Cell(_COLUMNS[row.measure], _COLUMNS[row.measure]),
                difference_cell(row.difference, row.low, row.high),
                Cell(f"{row.p:.4f}", row.p),
                Cell(f"{row.p_holm:.4f}", row.p_holm),
            ),
        )
        for row in comparison.differences
    ]
    text = "Every pair: first minus second, paired 95% interval, p of a paired permutation test, and corrected by Holm."
    return Table(text, ("pair", "measure", "difference", "p", "p (Holm)"), tuple(rows))


def _list_sources(comparison: Comparison, folder: ResultFolder, page: Path) -> list[Source]:
    """Provenance of the comparison, followed by that of each network's answers."""
    path = comparison_path(folder)
    head = load_json(path)
    others = (load_json(file) for file in list_visible(folder.root, "*.json") if file != path)
    results = {
        content["results"]["name"]: content for content in others if "raw_data" in content and "results" in content
    }
    people = [entry for entry in head.get("raw_data", ()) if entry["subject"] in {p.name for p in comparison.persons}]
    answers = "\n".join(f"{entry['file']}, SHA-256 {entry['sha256']}" for entry in people)
    pictures = [folder.root / name for name in head.get("pictures", ())]
    tables = [path, *(path.with_suffix(end) for end in (".csv", ".tex")), folder.root / "differences.csv"]
    persons = [("People", f"{len(comparison.persons)} persons\n{answers}")] if comparison.persons else []
    sources = [
        Source("The comparison", path.name, (*describe_head(head), *persons), links_to([*tables, *pictures], page))
    ]
    sources += [
        _describe_source(measurement, results[measurement.name], folder, page)
        for measurement in comparison.networks
        if measurement.name in results
    ]
    return sources


def _describe_source(measurement: Measurement, made: Mapping[str, Any], folder: ResultFolder, page: Path) -> Source:
    weights, data, raw = made.get("weights"), made.get("data"), made["raw_data"]
    facts: list[tuple[str, str]] = describe_weights(weights) if weights else []
    if data:
        facts.append(("Images", f"{data['images']} {folder.experiment.what}, SHA-256 {data['content_sha256']}"))
    facts.append(("Answers", f"{raw['file']}, SHA-256 {raw['sha256']}"))
    name = made["config"].get("model", measurement.name)
    files = [folder.json_of(name), folder.csv_of(name), folder.probabilities_of(name), folder.ranks_of(name)]
    label = "" if measurement.random else weights["label"] if weights else "recorded answers"
    links: Iterable[Link] = links_to(files, page)
    return Source(measurement.label, label, (*facts, *describe_head(made)), tuple(links))


def say_value(estimate: Estimate, *, full: bool = False) -> str:
    """Format a value with three digits; if `full`, with its interval."""
    if estimate.value is None:
        return "not defined"
    written = FRACTION.write(estimate.value, estimate.low, estimate.high)
    return str(written) if full else FRACTION(estimate.value)


def estimate_cell(estimate: Estimate) -> Cell:
    if estimate.value is None:
        return Cell("–")
    written = FRACTION.write(estimate.value, estimate.low, estimate.high)
    return Cell(written.value, estimate.value, written.brackets)


def difference_cell(difference: float, low: float, high: float) -> Cell:
    """Make a table cell of a difference, with its sign and its interval."""
    written = DIFFERENCE.write(difference, low, high)
    return Cell(written.value, difference, written.brackets)
