"""The benchmark's section of an HTML report: figures with values on hover, tables, and their provenance."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runkit.html.page import Cell, Row, Section, Source, Table, describe_head, links_to, read_part, render_part
from runkit.html.picture import embed_figure
from runkit.numbers import Form
from shapebias.answers.raw_data import RANDOM_SUFFIX
from shapebias.figures.benchmark import draw_benchmark, draw_scatter
from shapebias.figures.benchmark_conditions import CURVES, draw_conditions
from shapebias.figures.benchmark_style import PEOPLE, benchmark_styles
from shapebias.figures.observers import Style
from shapebias.figures.page import difference_cell
from shapebias.measures.benchmark import MEASURES
from shapebias.results.benchmark import read_benchmark
from shapebias.results.benchmark_content import BenchmarkFile, Curves
from shapebias.results.benchmark_tables import (
    MEASURE_NAMES,
    benchmark_files,
    count_significant,
    name_printed,
    order_networks,
)

__all__ = ["describe_benchmark"]

_CURVE_NAMES = {
    "accuracy": "Accuracy",
    "error_consistency": "Error consistency with people",
    "entropy": "Entropy of answers",
}


def describe_benchmark(path: Path, page: Path) -> Section:
    """Make the benchmark's section of a page.

    Args:
        path: Path of `benchmark.json`.
        page: Path of the page to be written, for its links.

    Raises: UserError if the file cannot be read or was not written by `shapebias.benchmark`.
    """
    content = read_benchmark(path)
    styles = benchmark_styles(content)
    figures = [_bars(content, styles)]
    if content["networks"]:
        figures.append(_scatter(content, styles))
    if any(dataset["curves"] for dataset in content["datasets"].values()):
        figures += [_conditions(content, styles, curve) for curve in CURVES]
    labels = [(PEOPLE.key, "people")]
    labels += [(styles[name].key, content["networks"][name]["label"]) for name in order_networks(content)]
    random = [name.removesuffix(RANDOM_SUFFIX) for name, row in content["networks"].items() if row["random"]]
    body = render_part(
        "shapebias.figures",
        "benchmark.html",
        scope=content["scope"],
        intervals=content["interval"] is not None,
        faults=content["faults"],
        slugs=" ".join(figure["slug"] for figure in figures),
        observers=[{"key": key, "label": label} for key, label in labels],
        figures=figures,
        networks=_network_table(content),
        datasets=_dataset_table(content),
        differences=_difference_table(content),
        sources=_list_sources(content, path, page),
    )
    return Section(
        slug="benchmark",
        title="Networks against people",
        body=body,
        random=tuple(random),
        style=read_part("shapebias.figures", "shape-bias.css"),
        script=read_part("shapebias.figures", "shape-bias.js"),
    )


def _bars(content: BenchmarkFile, styles: Mapping[str, Style]) -> dict[str, Any]:
    says = {}
    for label, numbers, style in _observers(content, styles):
        for measure, name in MEASURE_NAMES.items():
            if numbers[measure] is not None:
                says[f"{style.key}-bar-{measure}"] = f"{label}\n{name} {_say(numbers, measure)}"
    caption = "People first, then networks by mean rank; the dashed line is people's number."
    if content["published"]:
        caption += " Grey rows are printed in the toolbox's README, rounded and without intervals."
    return _figure("bars", draw_benchmark(content, published=content["published"]), says, "The four numbers", caption)


def _scatter(content: BenchmarkFile, styles: Mapping[str, Style]) -> dict[str, Any]:
    says = {}
    for label, numbers, style in _observers(content, styles):
        for index, across in enumerate(MEASURES):
            for up in MEASURES[index + 1 :]:
                if numbers[across] is not None and numbers[up] is not None:
                    lines = [f"{MEASURE_NAMES[measure]} {_say(numbers, measure)}" for measure in (across, up)]
                    says[f"{style.key}-{across}-{up}-point"] = "\n".join([label, *lines])
    caption = "Each number against each other one; dashed, what independent observers of that accuracy would have."
    return _figure("scatter", draw_scatter(content), says, "Each number against each other one", caption)


def _conditions(content: BenchmarkFile, styles: Mapping[str, Style], measure: Any) -> dict[str, Any]:
    title = f"{_CURVE_NAMES[measure]} over conditions"
    says: dict[str, list[str]] = {}
    for name, dataset in content["datasets"].items():
        if dataset["curves"] is None:
            continue
        curves: Mapping[str, Any] = dataset["curves"]
        curve: Curves = curves[measure]
        rows = [(PEOPLE, "people", curve["people"])]
        rows += [(styles[n], content["networks"][n]["label"], row) for n, row in curve["networks"].items()]
        for style, label, row in rows:
            says[f"{style.key}-{name}"] = [
                f"{label}\n{dataset['title']}, {condition['label']}: {value:.3f}"
                for condition, value in zip(dataset["conditions"], row, strict=True)
                if value is not None
            ]
    caption = (
        "A panel for each dataset with conditions; those on a grey background do not count in the benchmark. The band "
        "is the range of persons, a dotted line is chance."
    )
    return _figure(measure, draw_conditions(content, measure), says, title, caption, is_open=measure == "accuracy")


def _figure(
    name: str, figure: Any, says: Mapping[str, Any], title: str, caption: str, *, is_open: bool = True
) -> dict[str, Any]:
    slug = f"benchmark-{name.replace('_', '-')}"
    picture = embed_figure(figure, slug=slug, label=title, says=says)
    return {"slug": slug, "picture": picture, "title": title, "caption": caption, "open": is_open}


def _observers(content: BenchmarkFile, styles: Mapping[str, Style]) -> list[tuple[str, Mapping[str, Any], Style]]:
    """Label, numbers and style of people and of every network."""
    networks = content["networks"]
    return [("people", content["people"], PEOPLE), *((networks[n]["label"], networks[n], styles[n]) for n in networks)]


def _network_table(content: BenchmarkFile) -> Table:
    rows = [Row("people", (*(_cell(content["people"], measure) for measure in MEASURES), Cell("–"), Cell("–")))]
    for name in order_networks(content):
        network = content["networks"][name]
        numbers = [_cell(network, measure) for measure in MEASURES]
        count = len(network["datasets"])
        rows.append(Row(network["label"], (*numbers, _cell(network, "mean_rank", digits=2), Cell(str(count), count))))
    for printed in content["published"]:
        values = [_cell(printed, measure) for measure in MEASURES]
        rows.append(Row(name_printed(content, printed), (*values, Cell("–"), Cell("–"))))
    text = f"{content['scope']}. Means over datasets; the mean rank is of the last three numbers, among these networks."
    return Table(text, ("network", *MEASURE_NAMES.values(), "mean rank", "datasets"), tuple(rows))


def _dataset_table(content: BenchmarkFile) -> Table:
    rows = []
    for dataset, one in content["datasets"].items():
        observers: list[tuple[str, Mapping[str, Any]]] = [("people", content["people"]["datasets"][dataset])]
        observers += [
            (content["networks"][name]["label"], content["networks"][name]["datasets"][dataset])
            for name in order_networks(content)
            if dataset in content["networks"][name]["datasets"]
        ]
        for label, numbers in observers:
            cells = [Cell(one["title"], one["title"]), *(_cell(numbers, measure) for measure in MEASURES)]
            rows.append(Row(label, tuple(cells)))
    text = "Each dataset by itself, over the conditions that count."
    return Table(text, ("observer", "dataset", *MEASURE_NAMES.values()), tuple(rows))


def _difference_table(content: BenchmarkFile) -> Table:
    rows = []
    for pair in content["differences"]["pairs"]:
        names = [content["networks"][name]["label"] for name in (pair["first"], pair["second"])]
        cells = [
            Cell(MEASURE_NAMES[pair["measure"]], pair["measure"]),
            difference_cell(pair["difference"], pair["low"], pair["high"]),
            _p_cell(pair["p"]),
            _p_cell(pair["p_holm"]),
            _p_cell(pair["p_holm_persons"]),
        ]
        rows.append(Row(" − ".join(names), tuple(cells)))
    text = (
        "Every pair: first minus second, paired 95% interval and p value with the same persons, corrected by Holm for "
        "all pairs of a number, and corrected with other persons, too. "
    )
    text += " ".join(
        f"{MEASURE_NAMES[row['measure']]}: {row['significant']} of {row['pairs']} pairs differ at 5%."
        for row in count_significant(content)
        if row["significant"] is not None
    )
    return Table(text, ("pair", "number", "difference", "p", "p (Holm)", "p (Holm, persons)"), tuple(rows))


def _list_sources(content: BenchmarkFile, path: Path, page: Path) -> list[Source]:
    """Provenance of the benchmark: the command, and every file of answers."""
    answers = [f"{row['file']}, {row['trials']} trials, SHA-256 {row['sha256']}" for row in content["raw_data"]]
    facts = [*describe_head(content), ("Answers", "\n".join(answers))]
    pictures = [path.with_name(name) for name in content["pictures"]]
    files = links_to([*benchmark_files(path.with_suffix("")), *pictures], page)
    return [Source("The benchmark", path.name, tuple(facts), files)]


def _say(numbers: Mapping[str, Any], name: str, *, digits: int = 3) -> str:
    value, interval = numbers[name], numbers.get(f"{name}_interval") or (None, None)
    return "not defined" if value is None else str(Form(digits).write(value, *interval))


def _cell(numbers: Mapping[str, Any], name: str, *, digits: int = 3) -> Cell:
    value, interval = numbers[name], numbers.get(f"{name}_interval") or (None, None)
    if value is None:
        return Cell("–")
    written = Form(digits).write(value, *interval)
    return Cell(written.value, value, written.brackets)


def _p_cell(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell("<0.0001" if value < 1e-4 else f"{value:.4f}", value)
