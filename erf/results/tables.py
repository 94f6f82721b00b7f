"""Tables of the measures of several receptive fields: text, CSV, LaTeX, and the paired differences between them."""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from erf.measures.bootstrap import Resampled
from erf.measures.squares import LOG_THRESHOLDS, MASS_THRESHOLDS, SquareArea, log_area, mass_area
from erf.measures.summary import QUANTITIES, Quantity, each_threshold, no_such_measure
from erf.results.files import ErfResult
from runkit import SCHEMA_VERSION, UserError, format_table, save_csv, save_json, save_latex
from runkit.intervals import note_on_few
from runkit.numbers import Form

__all__ = [
    "COLUMNS",
    "PUBLISHED_COLUMNS",
    "Columns",
    "Shown",
    "are_paired",
    "area_rows",
    "comparison_files",
    "difference_rows",
    "measure_rows",
    "note_on_intervals",
    "read_columns",
    "shown_measures",
    "summary",
    "text_table",
    "write_tables",
]

Row = dict[str, Any]
Columns = tuple[tuple[str, float | None, str, Form], ...]
_PERCENT = Form(1, factor=100, unit="%")
# the columns of printed tables: measure, threshold or None, heading, format of the number
COLUMNS: Columns = (
    ("mass_area_ratio", 0.5, "area holding 50%", _PERCENT),
    ("mass_area_ratio", 0.9, "area holding 90%", _PERCENT),
    ("rms_radius_px", None, "RMS radius", Form(1)),
    ("anisotropy", None, "anisotropy", Form(3)),
    ("participation_area_px", None, "participation area", Form(0)),
    ("gaussian_sigma_px", None, "Gaussian width", Form(1)),
    ("gaussian_r2", None, "R²", Form(3)),
    ("theoretical_ratio", 0.9, "side holding 90% / theoretical", Form(2)),
)
_PUBLISHED_IN_LATEX: Columns = tuple(("area_ratio", t, f"log, {t:.0%}", _PERCENT) for t in LOG_THRESHOLDS)
_USUAL_IN_LATEX: Columns = (
    ("area_ratio", 0.5, "published (%)", Form(1, factor=100)),
    ("mass_area_ratio", 0.5, "mass (%)", Form(1, factor=100)),
)
"""The two area ratios at 50%. Beside a name with its weights, they fit a column of 8.5 cm in footnotesize."""
ALL_IN_LATEX: Columns = (*_PUBLISHED_IN_LATEX, *COLUMNS)
PUBLISHED_COLUMNS: Columns = tuple(
    ("area_ratio", t, f"t = {t:.0%}", Form(2, factor=100, unit="%")) for t in LOG_THRESHOLDS
)


_MASS_TITLE = (
    "Area ratio on the score itself, free of the gradients' scale; squares of a whole, odd number of pixels that hold\n"
    "more than the share (the measures below use squares of fractional side that hold exactly the share, so they are\n"
    "slightly smaller):"
)


class Shown(NamedTuple):
    """A measure as shown in tables. `value` is None if it is not defined; `interval` is empty if there is none."""

    value: float | None
    text: str
    interval: str


def read_columns(words: Sequence[str]) -> Columns:
    """Parse the columns of a table from words such as 'rms_radius_px' and 'mass_area_ratio@0.5'.

    'all' stands for all usual columns, and no words for the two that fit a column of a paper.

    Raises: UserError for a word that is not a measure, or a threshold that the measure does not have.
    """
    if list(words) == ["all"]:
        return ALL_IN_LATEX
    columns = []
    for word in words:
        name, at, text = word.partition("@")
        quantity = QUANTITIES.get(name)
        if quantity is None:
            raise UserError(f"--tex-columns {word}: {no_such_measure(name, QUANTITIES)}")
        known = {f"{threshold:g}": threshold for threshold in quantity.thresholds}
        if known and text not in known:
            raise UserError(f"--tex-columns {word}: write {name}@T with T one of {', '.join(known)}")
        if at and not known:
            raise UserError(f"--tex-columns {word}: {name} is a single number; write {name}")
        columns.append(_column(name, known.get(text)))
    return tuple(columns) or _USUAL_IN_LATEX


def _column(name: str, threshold: float | None) -> tuple[str, float | None, str, Form]:
    """The column of a measure: the usual one if there is one, otherwise one headed by the measure's own name."""
    for column in (*_PUBLISHED_IN_LATEX, *COLUMNS):
        if column[:2] == (name, threshold):
            return column
    quantity = QUANTITIES[name]
    form = _PERCENT if "area_ratio" in name else Form({"px": 1, "pixels": 0, "degrees": 1}.get(quantity.unit, 3))
    return (name, threshold, quantity.label + ("" if threshold is None else f", {threshold:.0%}"), form)


def write_tables(results: Sequence[ErfResult], stem: Path, *, tex_columns: Columns | None = None) -> list[Path]:
    """Write the tables of at least two results; returns the files.

    Args:
        results: The measured results.
        stem: Stem of the file names.
        tex_columns: Measures in the LaTeX table, as returned by `read_columns`; None for the usual ones.

    Writes `<stem>.csv` (squares), `<stem>-measures.csv` (all measures), `<stem>-differences.csv` (paired differences,
    if two results use the same images), `<stem>.tex`, and `<stem>.json` with all of them.
    """
    squares = [row for result in results for row in area_rows(result)]
    measures = [row for result in results for row in measure_rows(result)]
    differences = [row for a, b in combinations(results, 2) if are_paired(a, b) for row in difference_rows(a, b)]
    models = [
        {"name": r.name, "weights": r.provenance["weights"], "identity": r.provenance["identity"]} for r in results
    ]
    files = _table_files(stem)
    squares_csv, measures_csv, differences_csv, tex, json_path = files
    save_csv(squares_csv, squares)
    save_csv(measures_csv, measures)
    if differences:
        save_csv(differences_csv, differences)
    else:
        differences_csv.unlink(missing_ok=True)  # from an earlier comparison
    _save_latex(tex, results, tex_columns or read_columns(()))
    content = {"schema": SCHEMA_VERSION, "models": models, "results": squares, "measures": measures}
    save_json(json_path, content | {"differences": differences})
    return [path for path in files if path != differences_csv or differences]


def comparison_files(folder: Path, formats: Sequence[str]) -> list[Path]:
    """The additional files of a run with several results; `-differences.csv` only if two use the same images."""
    pictures = [folder / f"{name}.{suffix}" for name in ("comparison", "comparison-curves") for suffix in formats]
    return _table_files(folder / "comparison") + pictures


def _table_files(stem: Path) -> list[Path]:
    ends = (".csv", "-measures.csv", "-differences.csv", ".tex", ".json")
    return [stem.with_name(stem.name + end) for end in ends]


def _head(result: ErfResult) -> Row:
    return {
        "model": result.name,
        "weights": result.provenance["weights"]["model"],
        "random_weights": result.random_weights,
        "num_images": result.num_images,
        "size_px": _size_of(result),
        "layer": result.provenance["layer"],
    }


def _size_of(result: ErfResult) -> int | str:
    """Side of a square map, or height and width such as `384x128`."""
    height, width = result.contribution.shape
    return height if height == width else f"{height}x{width}"


def area_rows(result: ErfResult) -> list[Row]:
    """Squares of whole pixels, by the published definition and without the logarithm, with one row per threshold."""
    families = {
        "log10(score+1)/max": log_area(result.contribution, LOG_THRESHOLDS, centre=result.centre),
        "score": mass_area(result.contribution, MASS_THRESHOLDS, centre=result.centre),
    }
    return [{**_head(result), "scale": scale, **asdict(area)} for scale, areas in families.items() for area in areas]


def measure_rows(result: ErfResult) -> list[Row]:
    """All measures with their intervals: one row per measure, or per threshold of a measure."""
    head, values = _head(result), result.measured.values
    return [
        {**head, **_labels(name, quantity, threshold), **_numbers("value", part)}
        for name, quantity in QUANTITIES.items()
        if name in values
        for threshold, part in each_threshold(quantity, values[name])
    ]


def summary(result: ErfResult) -> Row:
    """What `--json` prints for a result: the network, the images and all measures; undefined numbers are None."""
    numbers = ("measure", "threshold", "unit", "value", "low", "high")
    head = {**_head(result), "layer_taken": result.provenance.get("layer_taken")}
    if note := note_on_intervals([result]):
        head["note"] = note
    return {**head, "measures": [{key: row[key] for key in numbers} for row in measure_rows(result)]}


def are_paired(first: ErfResult, second: ErfResult) -> bool:
    """Whether two results use the same images, and the sums of these images are available for both."""
    same = first.image_names == second.image_names
    return bool(first.sums and second.sums and same) and (
        first.provenance["data"]["sha256"] == second.provenance["data"]["sha256"]
    )


def difference_rows(first: ErfResult, second: ErfResult) -> list[Row]:
    """First minus second in every measure except the orientation, with intervals from the same resamples of images."""
    ours, theirs = first.measured.values, second.measured.values
    return [
        {
            "model": first.name,
            "minus": second.name,
            **_labels(name, quantity, threshold),
            **_numbers("difference", part),
        }
        for name, quantity in QUANTITIES.items()
        if name in ours and name in theirs and quantity.unit != "degrees"
        for threshold, part in each_threshold(quantity, ours[name] - theirs[name])
    ]


def _labels(name: str, quantity: Quantity, threshold: float | None) -> Row:
    return {"measure": name, "threshold": threshold, "unit": quantity.unit}


def _numbers(name: str, value: Resampled) -> Row:
    low, high = value.interval()
    numbers = {name: value.estimate, "low": low, "high": high}
    return {key: float(number) if np.isfinite(number) else None for key, number in numbers.items()}


def text_table(results: Sequence[ErfResult]) -> str:
    """Text table: area ratios by the published definition and without its logarithm, then the other measures."""

    def squares(areas: Sequence[SquareArea]) -> list[str]:
        return ["not reached" if a.ratio is None else f"{a.ratio:.2%} {a.side_px:>5}" for a in areas]

    def block(title: str, thresholds: Sequence[float], areas_of: Callable[..., list[SquareArea]]) -> str:
        header = ["network", "weights", "layer", "images", *(f"{t:.0%}  side" for t in thresholds)]
        rows = [
            [
                r.name,
                r.weights_label,
                r.layer,
                str(r.num_images),
                *squares(areas_of(r.contribution, thresholds, centre=r.centre)),
            ]
            for r in results
        ]
        return f"{title}\n{format_table(header, rows)}"

    header = ["network", *(heading for _, _, heading, _ in COLUMNS)]
    measures = format_table(header, [[r.name, *_cells(r)] for r in results])
    notes = list(filter(None, [note_on_intervals(results), *map(_off_centre, results)]))
    return "\n\n".join(
        [
            block("Area ratio as published, on log10(score + 1) / max; side in pixels:", LOG_THRESHOLDS, log_area),
            block(_MASS_TITLE, MASS_THRESHOLDS, mass_area),
            f"Measures free of the scale, in pixels or ratios, with 95% intervals over images:\n{measures}",
            *(["\n".join(notes)] if notes else []),
        ]
    )


def note_on_intervals(results: Sequence[ErfResult]) -> str:
    """A warning if intervals are based on too few images; empty if none is needed."""
    return note_on_few(len(result.sums) for result in results if result.sums)


def _off_centre(result: ErfResult) -> str:
    """Why the square that holds 90% is larger than the theoretical field, if it is; else ''."""
    ratio = shown_measures(result, (COLUMNS[-1],))[0].value
    theoretical = result.provenance.get("theoretical_field", {})
    side, centred = theoretical.get("side_px"), theoretical.get("centred_side_px")
    if ratio is None or ratio <= 1 or side is None or centred is None:
        return ""
    return (
        f"{result.name}: the unit's theoretical field of {side[0]} x {side[1]} pixels is not a square round pixel "
        f"{result.centre}, as squares here are; one of {centred} pixels holds all of it."
    )


def _name_with_weights(result: ErfResult) -> str:
    """A single name for a network and its weights: with the tag of published ones, or `, RANDOM`; empty for others."""
    weights, label = result.provenance["weights"], result.weights_label
    architecture = weights["model"].partition(".")[0]
    named = next((name for name in (weights["model"], architecture) if f"{result.name}.".startswith(f"{name}.")), None)
    if named is None:
        return ""
    rest = f"{result.name}.".removeprefix(named).rstrip(".")  # such as `.pretrained.layer-0`
    if result.random_weights:
        return f"{architecture}{_WORD_OF_WEIGHTS.sub('', rest)}, RANDOM"
    return f"{weights['model']}{_WORD_OF_WEIGHTS.sub('', rest)}" if label == f"weights {weights['model']}" else ""


_WORD_OF_WEIGHTS = re.compile(r"^\.(?:auto|pretrained|random)(?=\.|$)")


def _save_latex(path: Path, results: Sequence[ErfResult], columns: Columns) -> None:
    header = ["network", "weights", *(heading for _, _, heading, _ in columns)]
    rows = [[result.name, result.weights_label, *_cells_of(result, columns)] for result in results]
    notes = ["lengths and areas in pixels, 95% intervals over images in brackets", note_on_intervals(results)]
    random = list(dict.fromkeys(result.weights_label for result in results if result.random_weights))
    if columns == _USUAL_IN_LATEX and all(map(_name_with_weights, results)) and len(random) < 2:
        header[1:2], rows = [], [[_name_with_weights(one), *row[2:]] for one, row in zip(results, rows, strict=True)]
        notes += [f"RANDOM: {label}" for label in random]
    save_latex(path, header, rows, note="\n".join(filter(None, notes)))


def shown_measures(result: ErfResult, columns: Columns = COLUMNS) -> list[Shown]:
    """Estimate and interval of the measure of each column."""
    shown = []
    for name, threshold, _, form in columns:
        measured = result.measured.values.get(name)
        if measured is None:
            shown.append(Shown(None, "–", ""))
            continue
        part = next(part for at, part in each_threshold(QUANTITIES[name], measured) if at == threshold)
        numbers = _numbers("value", part)
        written = form.write(numbers["value"], numbers["low"], numbers["high"])
        shown.append(Shown(numbers["value"], written.value, written.brackets))
    return shown


def _cells(result: ErfResult) -> list[str]:
    return _cells_of(result, COLUMNS)


def _cells_of(result: ErfResult, columns: Columns) -> list[str]:
    return [f"{shown.text} {shown.interval}".rstrip() for shown in shown_measures(result, columns)]
