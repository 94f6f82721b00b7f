"""The benchmark as tables, from the content of `benchmark.json` alone: for the terminal, as CSV, for LaTeX."""

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
"""Measure -> how tables and pictures call it."""
PICTURE_ENDS = ("", "-scatter", "-accuracy", "-error-consistency", "-entropy", "-matrices", "-confusion")
"""How the names of all pictures end that `shapebias.figures.benchmark_files` can draw."""
PICTURE_WIDTHS = ("", "-column")
"""What is added to the name of a picture as wide as a page, and to that of one as wide as a column."""
_SOURCE = "bethgelab/model-vs-human, README.md of 2025-04-17 (d034d03)"
_ENDS = ("_interval", "_interval_persons")
SIGNIFICANT = 0.05
"""A difference whose p value, corrected for all pairs of its number, is below this is counted."""


def read_published() -> list[PublishedNetwork]:
    """The networks of the toolbox's printed table, the best of its paper's 52 and a few later ones, rounded."""
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
    """Every picture that may lie next to `<stem>.json`, in every width and format."""
    names = product(PICTURE_ENDS, PICTURE_WIDTHS, PICTURE_FORMATS)
    return [stem.with_name(f"{stem.name}{end}{width}.{suffix}") for end, width, suffix in names]


def order_networks(content: BenchmarkMeasures) -> list[str]:
    """Networks by mean rank, the best first; then those without a rank."""
    ranks = {name: network["mean_rank"] for name, network in content["networks"].items()}
    return sorted(ranks, key=lambda name: (ranks[name] is None, ranks[name] or 0.0))


def table_of_networks(
    content: BenchmarkMeasures, published: Sequence[PublishedNetwork] = ()
) -> tuple[list[str], list[list[str]]]:
    """Header and rows to be read: people, networks by mean rank, and printed ones; intervals are of other images."""
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
    """How many pairs of networks differ significantly at 5% after Holm's correction, for each number.

    Returns: One row per number, none without differences: `measure`; `pairs`; `significant`, with other images and
        the same persons; `significant_persons`, with other persons, too; `half_interval`, half of the median paired
        interval. A count is None where a p value is not known, as with a single person.
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
    """How many are significant; None if one of them is not known."""
    known = [p for p in p_values if p is not None]
    return sum(p < SIGNIFICANT for p in known) if len(known) == len(p_values) else None


def table_of_significant(content: BenchmarkMeasures) -> tuple[list[str], list[list[str]]]:
    """Header and rows to be read: what `count_significant` counts."""
    header = ["pairs that differ (5%, Holm)", "other images", "other persons, too", "half of a typical interval"]
    rows = []
    for row in count_significant(content):
        persons = row["significant_persons"]
        cells = [f"{count} of {row['pairs']}" if count is not None else "-" for count in (row["significant"], persons)]
        rows.append([MEASURE_NAMES[row["measure"]], *cells, f"{row['half_interval']:.3f}"])
    return header, rows


def name_printed(content: BenchmarkMeasures, row: PublishedNetwork) -> str:
    """How tables call a printed network: its numbers are of all 17 datasets, also where the others' are of fewer."""
    whole = len(content["datasets"]) == len(EXPERIMENTS)
    return f"{row['model']}, printed" + ("" if whole else f" for {len(EXPERIMENTS)} datasets")


def show_benchmark(content: BenchmarkFile) -> str:
    """The table for the terminal, what it covers above it, how to read it below, and how many differences there are."""
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
    """A row of plain values for people and for each network, numbers in full: of `benchmark.csv`."""
    rows = [_flat({"name": "people", "label": "people", "kind": "people"}, content["people"], content)]
    for name in order_networks(content):
        network = content["networks"][name]
        rows.append(_flat({"name": name, "label": network["label"], "kind": "network"}, network, content))
    return rows


def write_tables(content: BenchmarkFile, stem: Path) -> list[Path]:
    """Write `<stem>.csv` (one row per network), `-datasets.csv`, `-conditions.csv`, `-differences.csv`, and
    `<stem>.tex`; returns the files.
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
    """What `write_tables` writes, and the JSON before it."""
    ends = (".json", ".csv", "-datasets.csv", "-conditions.csv", "-differences.csv", ".tex")
    return [stem.with_name(f"{stem.name}{end}") for end in ends]


def _flat(head: Mapping[str, Any], numbers: Mapping[str, Any], content: BenchmarkMeasures) -> dict[str, Any]:
    """A row of a CSV: every number, the ends of its intervals in columns of their own, ranks for networks."""
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
    """Every condition of the datasets that have some, for networks, people and each person."""
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
    """A number with its interval."""
    value, interval = numbers[name], numbers[f"{name}_interval"] or (None, None)
    return "-" if value is None else str(Form(digits).write(value, *interval))


def _number(value: float | None) -> str:
    return "-" if value is None else FRACTION(value)
