"""Tables and curves of several receptive fields, from saved results alone."""

import csv
import json

import matplotlib.pyplot as plt
import numpy as np
import pytest
from example_results import make_erf_result
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from erf.figures.curves import draw_curves, plot_mass_curves, plot_radial_profiles
from erf.measures.summary import QUANTITIES
from erf.measures.sums import map_sums, stack_sums
from erf.results.files import ErfResult
from erf.results.tables import (
    are_paired,
    area_rows,
    difference_rows,
    measure_rows,
    read_columns,
    text_table,
    write_tables,
)
from runkit import UserError

SIZE, IMAGES = 65, 12


def make(name, sigma, *, seed=0, random=False, images="0" * 64, sums=True):
    """A result of Gaussian fields whose widths vary between images, in the same way for networks of the same seed."""
    distance = np.arange(SIZE) - SIZE // 2
    squared = distance[:, None] ** 2 + distance[None, :] ** 2
    widths = sigma * np.random.default_rng(seed).uniform(0.8, 1.2, IMAGES)
    maps = [np.exp(-squared / (2 * width**2)) for width in widths]
    label = "RANDOM WEIGHTS (seed 0)" if random else f"weights {name}"
    provenance = {
        "schema": 2,
        "command": "python -m erf.visualize",
        "weights": {"model": name, "label": label, "random": random},
        "identity": {"model": name},
        "data": {"name": "photos", "sha256": images, "images_used": IMAGES},
        "layer": "last",
        "precision": "float32",
        "versions": {"replknet-analysis": "0", "torch": "2"},
    }
    kept = stack_sums([map_sums(m) for m in maps]) if sums else None
    return ErfResult(name, np.mean(maps, 0), provenance, kept, tuple(map(str, range(IMAGES))))


def read_csv(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_measure_has_its_rows():
    rows = measure_rows(make("net", 8))
    expected = {name: max(len(q.thresholds), 1) for name, q in QUANTITIES.items() if name != "theoretical_ratio"}
    assert {name: sum(row["measure"] == name for row in rows) for name in expected} == expected
    assert {row["layer"] for row in rows} == {"last"}
    by_name = {(row["measure"], row["threshold"]): row for row in rows}
    side = by_name["mass_side_px", 0.5]
    assert side["unit"] == "px"
    assert side["low"] < side["value"] < side["high"]


def test_differences_are_those_of_the_values():
    large, small = make("large", 8), make("small", 6)
    values = {(r["measure"], r["threshold"]): r["value"] for r in measure_rows(large)}
    less = {(r["measure"], r["threshold"]): r["value"] for r in measure_rows(small)}
    rows = difference_rows(large, small)
    assert "orientation_deg" not in {row["measure"] for row in rows}
    for row in rows:
        key = row["measure"], row["threshold"]
        if values[key] is not None and less[key] is not None:
            assert row["difference"] == pytest.approx(values[key] - less[key], abs=1e-12)
    (radius,) = [row for row in rows if row["measure"] == "rms_radius_px"]
    assert radius["low"] > 0  # the same images are large in both: the difference is sure


def test_only_the_same_images_are_paired():
    assert are_paired(make("a", 8), make("b", 6))
    assert not are_paired(make("a", 8), make("b", 6, images="1" * 64))
    assert not are_paired(make("a", 8), make("b", 6, sums=False))


def test_files_of_a_comparison(tmp_path):
    results = [make("net_a", 8), make("net_b", 6, random=True), make("old", 5, sums=False)]
    write_tables(results, tmp_path / "comparison")
    assert len(read_csv(tmp_path / "comparison.csv")) == 3 * (4 + 5)
    assert {row["model"] for row in read_csv(tmp_path / "comparison-measures.csv")} == {"net_a", "net_b", "old"}
    differences = read_csv(tmp_path / "comparison-differences.csv")
    assert {(row["model"], row["minus"]) for row in differences} == {("net_a", "net_b")}
    content = json.loads((tmp_path / "comparison.json").read_text(encoding="utf-8"))
    assert len(content["differences"]) == len(differences)
    assert len(content["measures"]) == len(read_csv(tmp_path / "comparison-measures.csv"))
    latex = (tmp_path / "comparison.tex").read_text(encoding="utf-8")
    assert r"  net\_b, RANDOM & " in latex
    assert "% RANDOM: RANDOM WEIGHTS (seed 0)" in latex
    assert latex.count(r" \\") == 4
    write_tables([results[0], results[2]], tmp_path / "comparison")
    assert not (tmp_path / "comparison-differences.csv").exists()


def test_latex_has_the_columns_asked_for_with_intervals(tmp_path):
    columns = read_columns(["area_ratio@0.5", "rms_radius_px", "sigma_major_px", "mass_side_px@0.9"])
    write_tables([make("a", 8), make("b", 6)], tmp_path / "comparison", tex_columns=columns)
    header, row, _ = [line for line in (tmp_path / "comparison.tex").read_text("utf-8").splitlines() if " & " in line]
    assert header.split(" & ")[2:] == [
        r"log, 50\%", "RMS radius", "standard deviation, major axis", r"side holding mass, 90\% \\"
    ]  # fmt: skip
    assert all("[" in cell for cell in row.split(" & ")[2:])
    write_tables([make("a", 8), make("b", 6)], tmp_path / "usual")
    header, row, _ = [line for line in (tmp_path / "usual.tex").read_text("utf-8").splitlines() if " & " in line]
    assert all("[" in cell for cell in row.split(" & ")[2:])
    assert "theoretical" not in header  # neither result has one
    for word, message in (
        ("rms", "there is no measure 'rms'"),
        ("area_ratio@0.4", "write area_ratio@T with T one of 0.2, 0.3, 0.5, 0.99"),
        ("anisotropy@0.5", "is a single number"),
    ):
        with pytest.raises(UserError, match=message):
            read_columns([word])


def test_latex_fits_a_column_of_a_paper_unless_all_is_asked_for(tmp_path):
    names = ("replknet31n", "replknet13n.random", "resnet18n.pretrained")
    results = []
    for name in names:
        made, model = make_erf_result(name, 8), name.partition(".")[0]
        weights = {"model": f"{model}.imagenette", "label": f"weights {model}.imagenette", "random": False}
        if "random" in name:
            weights = {"model": model, "label": "RANDOM WEIGHTS (seed 0)", "random": True}
        provenance = {**made.provenance, "weights": weights}
        results.append(ErfResult(name, made.contribution, provenance, made.sums, made.image_names))
    write_tables(results, tmp_path / "usual")
    text = (tmp_path / "usual.tex").read_text("utf-8")
    rows = [line for line in text.splitlines() if " & " in line]
    assert rows[0].strip() == r"network & published (\%) & mass (\%) \\"
    called = ["replknet31n.imagenette", "replknet13n, RANDOM", "resnet18n.imagenette"]
    assert [row.split(" & ")[0].strip() for row in rows[1:]] == called
    assert "% RANDOM: RANDOM WEIGHTS (seed 0)" in text
    cells = [[cell.replace("\\\\", "").replace("\\", "").strip() for cell in row.split(" & ")] for row in rows]
    font = FontProperties(family="cmr10", size=8)  # what LaTeX sets footnotesize in

    def width(text):
        return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]

    points = (
        sum(max(map(width, column)) for column in zip(*cells, strict=True)) + 3 * 2 * 6
    )  # two column separations each
    assert points <= 8.5 / 2.54 * 72.27
    write_tables(results, tmp_path / "all", tex_columns=read_columns(["all"]))
    header = next(line for line in (tmp_path / "all.tex").read_text("utf-8").splitlines() if " & " in line)
    assert header.count(" & ") >= 12


def test_the_text_says_why_its_squares_are_larger_than_the_measures():
    result = make("net", 8)
    whole = [row["side_px"] for row in area_rows(result) if row["scale"] == "score" and row["threshold"] == 0.5]
    assert 0 < whole[0] - float(result.side(0.5)) <= 2
    assert whole[0] % 2 == 1
    assert "use squares of fractional side that hold exactly the share" in text_table([result, result])


def test_text_shows_intervals_where_there_are_any():
    *_, new, old = text_table([make("new", 8), make("old", 8, sums=False)]).splitlines()
    assert "[" in new
    assert "[" not in old


def test_curves_carry_bands_and_dash_random_weights():
    results = [make("trained", 8), make("untrained", 6, random=True), make("old", 5, sums=False)]
    _, ax = plt.subplots()
    plot_mass_curves(results, ax=ax)
    trained, untrained, old, even = ax.get_lines()
    assert (trained.get_linestyle(), untrained.get_linestyle(), even.get_linestyle()) == ("-", "--", ":")
    assert len(ax.collections) == 2  # no band without the sums of each image
    np.testing.assert_array_equal(old.get_xdata()[:3], [1, 3, 5])
    np.testing.assert_allclose(trained.get_ydata(), results[0].measured.mass_curve.estimate)
    _, ax = plt.subplots()
    plot_radial_profiles(results, ax=ax)
    assert ax.get_yscale() == "log"
    drawn = ax.get_lines()[: len(results)]
    assert all(np.isnan(line.get_ydata()[:2]).all() and (line.get_ydata()[2:] > 0).all() for line in drawn)
    peaks = [result.measured.radial_profile.estimate[2:].max() for result in results]
    low, high = ax.get_ylim()
    assert low == pytest.approx(min(peaks) / 100)
    assert high > max(peaks)
    figure = draw_curves(results)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "trained",
        "untrained, RANDOM WEIGHTS (seed 0)",
        "old",
    ]
    key = {str(handle.get_label()): handle for handle in figure.legends[1].legend_handles}
    words = ["trained weights", "random weights", "uniform map", "95% interval over images"]
    assert list(key) == words
    assert [key[name].get_linestyle() for name in list(key)[:2]] == ["-", "--"]
