"""Tables of the benchmark for the terminal, as CSV and for LaTeX, made only from the content of `benchmark.json`."""

import csv
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from runkit import format_table, save_csv, save_latex
from runkit.numbers import FRACTION, Form
from runkit.options import PICTURE_FORMATS
from shapebias.measures.benchmark import MEASURES
from shapebias.results.benchmark_content import BenchmarkFile, BenchmarkMeasures, PublishedNetwork
from shapebias.stimuli.experiments import EXPERIMENTS

__all__ = [
    "MEASURE_NAMES",
    "PICTURE_ENDS",
    "PICTURE_WIDTHS",
    "benchmark_files",
    "count_significant",
    "name_printed",
    "order_networks",
    "picture_files",
    "read_published",
    "show_benchmark",
    "summarise_networks",
    "table_of_networks",
    "table_of_significant",
    "write_tables",
]

MEASURE_NAMES = {
    "ood_accuracy": "OOD accuracy",
    "accuracy_difference": "accuracy difference",
    "observed_consistency": "observed consistency",
    "error_consistency": "error consistency",
}
"""Measure -> its name in tables and figures."""
PICTURE_ENDS = ("", "-scatter", "-accuracy", "-error-consistency", "-entropy", "-matrices", "-confusion")
"""Suffixes of the names of all figures that `shapebias.figures.benchmark_files` can draw."""
PICTURE_WIDTHS = ("", "-column")
"""Further suffixes for figures as wide as a page, and as wide as a column."""
_SOURCE = "bethgelab/model-vs-human, README.md of 2025-04-17 (d034d03)"
_ENDS = ("_interval", "_interval_persons")
SIGNIFICANT = 0.05
"""Significance level of differences, for p values corrected for all pairs of a measure."""


def read_published() -> list[PublishedNetwork]:
    """Read the networks of the toolbox's printed table: the best of the paper's 52 and a few later ones, rounded."""
    text = resources.files("shapebias.results").joinpath("published_networks.csv").read_text(encoding="utf-8")
    rows: list[PublishedNetwork] = []
    for row in csv.DictReader(text.splitlines()):
        accuracy, difference, observed, error = (float(row[name]) if row[name] else None for name in MEASURES)
        rows.append(
            {
                "model": row["model"],
                "ood_accuracy": accuracy,
                "accuracy_difference": difference,
                "observed_consistency": observed,
                "error_consistency": error,
                "source": _SOURCE,
            }
        )
    return rows


def picture_files(stem: Path) -> list[Path]:
    """List all figures that may be next to `<stem>.json`, in every width and format."""
    names = product(PICTURE_ENDS, PICTURE_WIDTHS, PICTURE_FORMATS)
    return [stem.with_name(f"{stem.name}{end}{width}.{suffix}") for end, width, suffix in names]


def order_networks(content: BenchmarkMeasures) -> list[str]:
    """Order the networks by mean rank, the best first, followed by those without a rank."""
    ranks = {name: network["mean_rank"] for name, network in content["networks"].items()}
    return sorted(ranks, key=lambda name: (ranks[name] is None, ranks[name] or 0.0))


def table_of_networks(
    content: BenchmarkMeasures, published: Sequence[PublishedNetwork] = ()
) -> tuple[list[str], list[list[str]]]:
    """Make a readable table (header and rows) of people, networks by mean rank, and printed networks.

    Intervals are for other images and the same persons.
    """
    rows = [["people", *(_say(content["people"], name) for name in MEASURES), "-"]]
    total = len(content["datasets"])
    for name in order_networks(content):
        network = content["networks"][name]
        part = "" if len(network["datasets"]) == total else f" ({len(network['datasets'])} of {total} datasets)"
        missing = f", {network['missing_trials']} trials missing" if network["missing_trials"] else ""
        numbers = [_say(network, measure) for measure in MEASURES]
        rows.append([f"{network['label']}{part}{missing}", *numbers, _say(network, "mean_rank", digits=2)])
    for row in published:
        values: Mapping[str, Any] = row
        rows.append([name_printed(content, row), *(_number(values[name]) for name in MEASURES), "-"])
    return ["network", *MEASURE_NAMES.values(), "mean rank"], rows


def count_significant(content: BenchmarkMeasures) -> list[dict[str, Any]]:
    """Count the pairs of networks that differ significantly at 5% after Holm's correction, for each measure.

    Returns: One row per measure, none without differences: `measure`; `pairs`; `significant`, for other images and the
        same persons; `significant_persons`, for other images and other persons; `half_interval`, half of the median
        width of the paired intervals. A count is None if a p value is not known, as with a single person.
    """
    counts = []
    for measure in MEASURES:
        pairs = [pair for pair in content["differences"]["pairs"] if pair["measure"] == measure]
        if not pairs:
            continue
        images, persons = ([pair[key] for pair in pairs] for key in ("p_holm", "p_holm_persons"))
        counts.append(
            {
                "measure": measure,
                "pairs": len(pairs),
                "significant": _count_below(images),
                "significant_persons": _count_below(persons),
                "half_interval": median(pair["high"] - pair["low"] for pair in pairs) / 2,
            }
        )
    return counts


def _count_below(p_values: Sequence[float | None]) -> int | None:
    """Number of significant p values; None if any of them is not known."""
    known = [p for p in p_values if p is not None]
    return sum(p < SIGNIFICANT for p in known) if len(known) == len(p_values) else None


def table_of_significant(content: BenchmarkMeasures) -> tuple[list[str], list[list[str]]]:
    """Make a readable table (header and rows) of the result of `count_significant`."""
    header = ["pairs that differ (5%, Holm)", "other images", "other persons, too", "half of a typical interval"]
    rows = []
    for row in count_significant(content):
        persons = row["significant_persons"]
        cells = [f"{count} of {row['pairs']}" if count is not None else "-" for count in (row["significant"], persons)]
        rows.append([MEASURE_NAMES[row["measure"]], *cells, f"{row['half_interval']:.3f}"])
    return header, rows


def name_printed(content: BenchmarkMeasures, row: PublishedNetwork) -> str:
    """Return the name of a printed network for tables, which says if only its values cover all 17 datasets."""
    whole = len(content["datasets"]) == len(EXPERIMENTS)
    return f"{row['model']}, printed" + ("" if whole else f" for {len(EXPERIMENTS)} datasets")


def show_benchmark(content: BenchmarkFile) -> str:
    """Format the benchmark for the terminal: its scope, the table, how to read it, and the number of differences."""
    header, rows = table_of_networks(content, content["published"])
    lines = [content["scope"], "", format_table(header, rows)]
    if content["interval"]:
        lines += [
            "",
            "In brackets 95% intervals, with other images and the same persons; ranks among these networks.",
        ]
        if "note" in content["interval"]:
            lines.append(content["interval"]["note"])
    header, rows = table_of_significant(content)
    if rows:
        lines += ["", format_table(header, rows)]
    return "\n".join(lines)


def summarise_networks(content: BenchmarkMeasures) -> list[dict[str, Any]]:
    """Make the rows of `benchmark.csv`: unrounded plain values for people and for each network."""
    rows = [_flat({"name": "people", "label": "people", "kind": "people"}, content["people"], content)]
    for name in order_networks(content):
        network = content["networks"][name]
        rows.append(_flat({"name": name, "label": network["label"], "kind": "network"}, network, content))
    return rows


def write_tables(content: BenchmarkFile, stem: Path) -> list[Path]:
    """Write `<stem>.csv` (people and networks, one row each), `<stem>.tex` and further tables, and return the files.

    The further tables are `<stem>-datasets.csv`, `<stem>-conditions.csv` and `<stem>-differences.csv`.
    """
    header, rows = table_of_networks(content, content["published"])
    grey = range(len(rows) - len(content["published"]), len(rows))
    note = f"{content['scope']}; the numbers in full are in {stem.name}.json"
    return [
        save_csv(stem.with_name(f"{stem.name}.csv"), summarise_networks(content)),
        save_csv(stem.with_name(f"{stem.name}-datasets.csv"), _rows_of_datasets(content)),
        save_csv(stem.with_name(f"{stem.name}-conditions.csv"), _rows_of_conditions(content)),
        save_csv(stem.with_name(f"{stem.name}-differences.csv"), list(content["differences"]["pairs"])),
        save_latex(stem.with_name(f"{stem.name}.tex"), header, rows, note=note, grey=grey),
    ]


def benchmark_files(stem: Path) -> list[Path]:
    """List the JSON file, followed by the files that `write_tables` writes."""
    ends = (".json", ".csv", "-datasets.csv", "-conditions.csv", "-differences.csv", ".tex")
    return [stem.with_name(f"{stem.name}{end}") for end in ends]


def _flat(head: Mapping[str, Any], numbers: Mapping[str, Any], content: BenchmarkMeasures) -> dict[str, Any]:
    """A row of a CSV: every measure, the ends of its intervals in separate columns, and ranks for networks."""
    row: dict[str, Any] = {**head, "datasets": len(numbers["datasets"]), "scope": content["scope"]}
    for name in (*MEASURES, *(f"{measure}_rank" for measure in (*MEASURES, "mean"))):
        row[name] = numbers.get(name)
        for end in _ENDS:
            low, high = numbers.get(f"{name}{end}") or (None, None)
            suffix = end.removeprefix("_interval")
            row |= {f"{name}_low{suffix}": low, f"{name}_high{suffix}": high}
    row["accuracy_difference_bias"] = numbers["accuracy_difference_bias"]
    row["missing_trials"] = numbers.get("missing_trials")
    row["kappa_is_one"] = numbers["kappa_is_one"]
    return row


def _rows_of_datasets(content: BenchmarkMeasures) -> list[dict[str, Any]]:
    rows = []
    observers: list[tuple[str, str, Mapping[str, Any]]] = [("people", "people", content["people"])]
    observers += [(name, "network", network) for name, network in content["networks"].items()]
    for dataset in content["datasets"]:
        for name, kind, numbers in observers:
            if dataset in numbers["datasets"]:
                one = numbers["datasets"][dataset]
                row: dict[str, Any] = {"dataset": dataset, "name": name, "kind": kind}
                for measure in MEASURES:
                    row[measure] = one[measure]
                    for end in _ENDS:
                        low, high = one[f"{measure}{end}"] or (None, None)
                        suffix = end.removeprefix("_interval")
                        row |= {f"{measure}_low{suffix}": low, f"{measure}_high{suffix}": high}
                row["missing_trials"] = one.get("missing_trials")
                row["kappa_is_one"] = one["kappa_is_one"]
                rows.append(row)
    return rows


def _rows_of_conditions(content: BenchmarkMeasures) -> list[dict[str, Any]]:
    """Rows for every condition of the datasets with conditions, for networks, people and each person."""
    rows = []
    for dataset, one in content["datasets"].items():
        if one["curves"] is None:
            continue
        curves: Mapping[str, Any] = one["curves"]
        observers = [("network", name) for name in curves["accuracy"]["networks"]]
        observers += [("people", ""), *(("person", name) for name in curves["accuracy"]["persons"])]
        for kind, name in observers:
            values = {
                measure: curve["people"] if kind == "people" else curve[f"{kind}s"][name]
                for measure, curve in curves.items()
            }
            for position, condition in enumerate(one["conditions"]):
                rows.append(
                    {
                        "dataset": dataset,
                        "condition": condition["token"],
                        "kept": condition["kept"],
                        "name": name or "people",
                        "kind": kind,
                        **{measure: row[position] for measure, row in values.items()},
                    }
                )
    return rows


def _say(numbers: Mapping[str, Any], name: str, *, digits: int = 3) -> str:
    """Format a value with its interval."""
    value, interval = numbers[name], numbers[f"{name}_interval"] or (None, None)
    return "-" if value is None else str(Form(digits).write(value, *interval))


def _number(value: float | None) -> str:
    return "-" if value is None else FRACTION(value)
