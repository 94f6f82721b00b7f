"""Receptive field against shape bias, from result files alone."""

import csv
import dataclasses
import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy import stats

from htmlreport.relate import build_parser, main
from htmlreport.relation import correlate, read_people, relate
from htmlreport.relation_page import describe_relation
from htmlreport.relation_plot import caption_relation, draw_relation
from runkit import UserError, describe_run
from shapebias.measures.bootstrap import Estimate


def exact(values) -> list[Estimate]:
    return [Estimate(float(value), None, None) for value in values]


def weights(name: str, *, random: bool = False) -> dict:
    return {"model": name, "random": random, "sha256": None if random else name * 4, "seed": 0 if random else None}


def write(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def results(tmp_path):
    """Folders of both tools: field and shape bias increase from a to d, e is random, and f has no field."""

    def field(name: str, ratio: float, *, random=False, size=64, interval=True, file="", **more) -> None:
        entry = {"threshold": 0.5, "side_px": 9, "ratio": round(ratio, 1)}
        if interval:
            entry |= {"ratio_interpolated": ratio, "ratio_interpolated_interval": [ratio - 0.05, ratio + 0.05]}
        published = {"threshold": 0.5, "side_px": None, "ratio": None}
        identity = {"model": name, "weights": weights(name, random=random), "size": size, "layer": "last", **more}
        identity["precision"] = name  # networks may differ in this
        content = {"identity": identity, "weights": {"label": "RANDOM WEIGHTS (seed 0)" if random else name}}
        content["results"] = {"mass_area_ratio": [entry], "area_ratio": [published]}
        write(tmp_path / "erf" / f"{file or name}.json", content)

    def bias(name: str, value: float | None, *, random: bool = False) -> None:
        content = {"config": {"model": name, "weights": weights(name, random=random), "aggregation": "mean"}}
        content["results"] = {"shape_bias": value, "shape_bias_interval": value and [value - 0.1, value + 0.1]}
        write(tmp_path / "bias" / f"{name}.json", content)

    for index, name in enumerate("abcd"):
        field(name, 0.1 + 0.1 * index, interval=name != "a")
        bias(name, 0.2 + 0.1 * index)
    field("e", 0.9, random=True)
    bias("e", 0.5, random=True)
    bias("f", 0.5)
    people = {"kind": "people", "shape_bias": 0.96, "shape_bias_interval": [0.94, 0.97]}
    write(tmp_path / "bias" / "shape-bias.json", {"config": {"people": 10}, "results": {"observers": [people]}})
    write(tmp_path / "erf" / "comparison.json", {"results": []})
    return tmp_path, field, bias


def test_networks_are_paired_by_their_weights(results):
    folder, field, _ = results
    relation = relate([folder / "erf"], [folder / "bias"])
    assert [network.name for network in relation.networks] == ["a", "b", "c", "d"]
    assert relation.networks[0].field == Estimate(0.1, None, None)  # an older file: to a whole pixel, no interval
    assert relation.networks[1].field == Estimate(0.2, pytest.approx(0.15), pytest.approx(0.25))
    assert relation.networks[1].shape_bias.value == pytest.approx(0.3)
    assert (relation.correlation.networks, relation.correlation.spearman) == (4, 1.0)
    assert relation.measured == {"size": 64, "layer": "last"}
    reasons = {name[0]: reason for name, reason in relation.unpaired.items()}
    assert reasons == {"e": "random weights", "f": "no receptive field of these weights"}

    field("d", 0.4, random=True)  # now the field is of other weights than the shape bias
    relation = relate([folder / "erf"], [folder / "bias"])
    assert [network.name for network in relation.networks] == ["a", "b", "c"]


def test_fields_of_one_layer_and_size_are_taken(results, capsys):
    folder, field, _ = results
    for index, name in enumerate("abcd"):
        field(name, 0.9 - 0.1 * index, layer="1", file=f"{name}-1")
        field(name, 0.5 + 0.1 * index, size=128, file=f"{name}-128")
        field(name, 0.7, position="average", file=f"{name}-average")
    paths = [folder / "erf"], [folder / "bias"]
    with pytest.raises(UserError, match=r"are both of a with .*; name one, or choose by --layer and --size"):
        relate(*paths)
    assert relate(*paths, size=64).correlation.spearman == pytest.approx(1)
    assert relate(*paths, layer="1").correlation.spearman == pytest.approx(-1)
    assert [n.field.value for n in relate(*paths, size=128).networks] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    for index, name in enumerate("abcd"):
        field(name, 0.1 + 0.1 * index, size=[96, 32], file=f"{name}-96x32")
    assert relate(*paths, size=(96, 32)).measured["size"] == [96, 32]
    size = build_parser().parse_args(["--erf", "a", "--shape-bias", "b", "--size", "96x32"]).size
    assert relate(*paths, size=size).correlation.spearman == pytest.approx(1)
    with pytest.raises(SystemExit):
        build_parser().parse_args(["--erf", "a", "--shape-bias", "b", "--size", "96by32"])
    assert "'96by32' is not a size: give a side in pixels, such as 512, or height and width" in capsys.readouterr().err


def test_random_weights_are_shown_hollow_and_never_correlated(results):
    folder, _, _ = results
    relation = relate([folder / "erf"], [folder / "bias"], random=True)
    assert [network.random for network in relation.networks] == [False] * 4 + [True]
    assert relation.networks[-1].label == "e, RANDOM WEIGHTS (seed 0)"
    assert relation.correlation.networks == 4
    ax = draw_relation(relation, people=read_people([folder / "bias"]), field="area").axes[0]
    marks = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    assert to_hex(marks["e, RANDOM WEIGHTS (seed 0)"].get_markerfacecolor()) == "#ffffff"
    assert list(marks["people"].get_ydata()) == [0.96, 0.96]
    assert (list(marks["b"].get_xdata()), list(marks["b"].get_ydata())) == ([0.2], pytest.approx([0.3]))
    whiskers = [line for line in ax.lines if line.get_marker() == "None" and len(line.get_xdata()) == 2]
    assert len(whiskers) == 1 + 5 + 4  # people; shape bias of five networks; fields of four
    assert "4 networks: too few for a conclusion" in ax.get_title()
    ax.figure.draw_without_rendering()
    width = ax.figure.get_size_inches()[0] * ax.figure.dpi
    box = ax.title.get_window_extent()
    assert (box.x0 >= 0, box.x1 <= width) == (True, True)
    assert ax.get_xlim()[1] > 0.95  # the whole of the widest interval


def test_correlations_equal_scipys_also_with_ties():
    rng = np.random.default_rng(0)
    for n in (3, 8, 30):
        x = rng.integers(0, max(3, n // 3), n).astype(float)
        x[:2] = 0, 1
        y = rng.normal(size=n) + x
        result = correlate(exact(x), exact(y))
        assert result.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
        assert result.kendall == pytest.approx(stats.kendalltau(x, y).statistic)


def test_the_interval_of_many_networks_holds_the_truth_and_few_prove_little():
    rng = np.random.default_rng(1)
    truth = 6 / np.pi * np.arcsin(0.6 / 2)  # Spearman's rho of a normal distribution of correlation 0.6
    held, widths = [], []
    for _ in range(100):
        x = rng.normal(size=40)
        result = correlate(exact(x), exact(0.6 * x + 0.8 * rng.normal(size=40)), resamples=200)
        low, high = result.spearman_interval
        held.append(low <= truth <= high)
        widths.append(high - low)
    assert np.mean(held) == pytest.approx(0.94, abs=0.05)
    few = correlate(exact(range(4)), exact([0, 2, 1, 3]))
    assert few.spearman_interval[1] - few.spearman_interval[0] > 2 * np.mean(widths)
    assert "too few for a conclusion" in few.describe()
    assert "next to nothing" not in correlate(exact(range(10)), exact(range(10))).describe()
    assert correlate(exact(range(2)), exact(range(2))).spearman is None
    assert correlate(exact([1] * 5), exact(range(5))).describe().startswith("no rank correlation: 5 trained networks")


def test_networks_that_differ_less_than_their_errors_have_no_order():
    """Three networks in perfect order: if exact, all draws agree; with large errors, any order is possible."""
    falling = exact([0.3, 0.2, 0.1])
    assert correlate(exact(range(3)), falling).spearman_interval == (-1, -1)
    vague = [Estimate(e.value, e.value - 0.3, e.value + 0.3) for e in falling]
    result = correlate(exact(range(3)), vague)
    assert result.spearman == pytest.approx(-1)
    assert result.spearman_interval[0] == pytest.approx(-1)
    assert result.spearman_interval[1] > 0.8
    assert result.kendall_p == pytest.approx(1 / 3)  # 2 of 6 orders are as extreme


def test_everything_is_written_without_torch(results):
    folder, _, _ = results
    command = [sys.executable, "-X", "importtime", "-m", "shapebias.relate", "--erf", str(folder / "erf")]
    command += ["--shape-bias", str(folder / "bias"), "--output", str(folder / "out"), "--formats", "svg"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not imported & {"torch", "erf", "replknet"}
    assert "left out e (" in done.stderr
    assert "Spearman's rho +1.00" in done.stdout
    content = json.loads((folder / "out" / "relation.json").read_text(encoding="utf-8"))
    assert content["results"]["people"] == {"shape_bias": 0.96, "shape_bias_interval": [0.94, 0.97]}
    assert content["results"]["correlation"]["networks_are_few"] is True
    assert content["results"]["networks"][0]["field_interval"] is None
    with (folder / "out" / "relation.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a", "b", "c", "d"]
    assert (rows[0]["field_low"], float(rows[1]["field_value"])) == ("", 0.2)
    assert "people" in (folder / "out" / "relation.svg").read_text(encoding="utf-8")
    assert (folder / "out" / "relation.tex").read_text(encoding="utf-8").count(" & ") == 5 * 4


def test_what_cannot_be_compared_is_refused(results, capsys):
    folder, field, _ = results
    paths = ["--erf", str(folder / "erf"), "--shape-bias", str(folder / "bias"), "--output", str(folder / "out")]

    def error(*more: str) -> str:
        assert main([*paths, *more]) == 2
        return capsys.readouterr().err

    assert "has no area ratio at 0.2; it has 0.5" in error("--threshold", "0.2")
    assert "no square holds 0.5 of the map" in error("--field", "published")
    with pytest.raises(SystemExit, match="2"):
        main([*paths, "--threshold", "7"])
    assert "--threshold 7 must lie between 0 and 1" in capsys.readouterr().err
    field("d", 0.4, size=128)
    assert "was not measured like the others (size: 64 -> 128)" in error()
    field("d", 0.4)
    write(folder / "bias" / "twin.json", json.loads((folder / "bias" / "b.json").read_text(encoding="utf-8")))
    assert "are both of b with the same weights; name one" in error()
    (folder / "bias" / "twin.json").write_text('{"config": {"weights": {"model": "x"}}}')
    assert "twin.json is not a result of this project" in error()
    with pytest.raises(UserError, match="does not exist"):
        relate([folder / "nowhere"], [folder / "bias"])
    with pytest.raises(UserError, match="no network was measured by both tools"):
        relate([folder / "erf" / "comparison.json"], [folder / "bias" / "f.json"])


def change(path: Path, **settings) -> None:
    """Change settings of a result, such as those of another run."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["config"] |= settings
    write(path, content)


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        ({"aggregation": "max"}, "aggregation: mean -> max"),
        ({"stimuli": {"images": 48}}, "stimuli.images: (absent) -> 48"),
        ({"preprocessing": "toolbox"}, "preprocessing: (absent) -> toolbox"),
        ({"mean": [0.0], "std": [1.0]}, "mean: (absent) -> [0.0]; std: (absent) -> [1.0]"),
    ],
)
def test_shape_biases_that_were_measured_in_other_ways_are_refused(results, settings, difference):
    folder, *_ = results
    change(folder / "bias" / "f.json", **settings)  # it has no field
    change(folder / "bias" / "a.json", precision="bfloat16")
    assert len(relate([folder / "erf"], [folder / "bias"]).networks) == 4
    change(folder / "bias" / "b.json", **settings)
    with pytest.raises(UserError) as refused:
        relate([folder / "erf"], [folder / "bias"])
    message = f"b.json was not measured like the others ({difference}): shape biases can be compared only for the same"
    assert message in str(refused.value)


def test_shape_biases_of_other_classes_are_refused(results):
    folder, *_ = results
    content = json.loads((folder / "bias" / "b.json").read_text(encoding="utf-8"))
    classes = {"name": "classes of pets.txt", "comparable": False}
    write(folder / "bias" / "b.json", {**content, "classes": classes})
    with pytest.raises(UserError, match=r"classes: \(absent\) -> classes of pets.txt"):
        relate([folder / "erf"], [folder / "bias"])
    of_another_head = {"name": "classes of ImageNet-22k by WordNet", "comparable": True}
    write(folder / "bias" / "b.json", {**content, "classes": of_another_head})
    assert len(relate([folder / "erf"], [folder / "bias"]).networks) > 1


def test_an_undefined_shape_bias_is_left_out(results):
    folder, _, bias = results
    bias("b", None)
    relation = relate([folder / "erf"], [folder / "bias"])
    assert [network.name for network in relation.networks] == ["a", "c", "d"]
    assert "its shape bias is not defined" in relation.unpaired.values()


def test_help_shows_runnable_examples():
    lines = [
        line for line in build_parser().format_help().splitlines() if line.startswith("  python -m shapebias.relate")
    ]
    assert len(lines) == 3
    for line in lines:
        build_parser().parse_args(line.split("shapebias.relate ")[1].split())


@pytest.fixture
def relied(results):
    """Reliance of a to c, and of g, which has a field but no ImageNet head for the cue-conflict images."""
    folder, field, _ = results
    field("g", 0.6)
    for index, name in enumerate("abcg"):
        identity = {"model": name, "weights": weights(name)}
        low = 0.5 - 0.1 * index
        cues = {
            "shape": {"reliance": low, "reliance_interval": [low - 0.05, low + 0.05]},
            "colour": {"reliance": -0.02, "reliance_interval": [-0.05, 0.01]},
        }
        write(folder / "reliance" / f"{name}.json", {"config": identity, "results": {"cues": cues}})
    together = {"config": {"networks": ["a"], "weights": [weights("a")]}, "results": {}}
    write(folder / "reliance" / "reliance.json", together)
    return folder


def test_reliance_stands_beside_shape_bias(relied):
    relation = relate([relied / "erf"], [relied / "bias"], reliance=[relied / "reliance"])
    by_name = {network.name: network for network in relation.networks}
    assert list(by_name) == ["a", "b", "c", "d", "g"]
    assert by_name["g"].shape_bias.value is None
    assert by_name["d"].reliance == {}
    assert by_name["b"].reliance["shape"].value == pytest.approx(0.4)
    assert relation.correlation.networks == 4  # g has no shape bias
    assert relation.of_reliance["shape"].networks == 4  # d has no reliance
    assert relation.of_reliance["shape"].spearman == pytest.approx(-1)
    assert relation.of_reliance["colour"].spearman is None  # all alike
    figure = draw_relation(relation, people=read_people([relied / "bias"]), field="area")
    panels = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_ylabel() for ax in panels] == [
        "shape bias (95% intervals)",
        "reliance on shape",
        "reliance on colour",
    ]
    assert panels[2].get_ylim()[0] < -0.05  # the lowest interval is inside
    figure.draw_without_rendering()
    for ax in panels:
        box, around = ax.title.get_window_extent(), ax.get_tightbbox()
        assert box.width <= figure.bbox.width / 3, ax.get_title()
        assert around.x1 <= figure.bbox.x1
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ["people", "a", "b", "c", "d", "g"]


def test_reliances_that_were_measured_in_other_ways_are_refused(relied):
    paths, b = ([relied / "erf"], [relied / "bias"]), relied / "reliance" / "b.json"
    change(b, class_names=["cat", "dog"])  # the order of its outputs
    assert len(relate(*paths, reliance=[relied / "reliance"]).networks) == 5
    change(b, images={"number": 9})
    with pytest.raises(UserError, match=r"b\.json was not .* 9\): reliance can be compared only for the same images"):
        relate(*paths, reliance=[relied / "reliance"])


def test_reliance_alone_is_enough(relied, capsys):
    arguments = ["--erf", str(relied / "erf"), "--reliance", str(relied / "reliance"), "--output", str(relied / "out")]
    assert main(arguments) == 0
    assert "reliance on shape: Spearman's rho -1.00" in capsys.readouterr().out
    content = json.loads((relied / "out" / "relation.json").read_text(encoding="utf-8"))
    assert content["results"]["correlation_of_reliance"]["shape"]["networks"] == 4
    assert content["results"]["networks"][-1]["shape_bias"] is None
    with (relied / "out" / "relation.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["a", "b", "c", "g"]
    assert float(rows[1]["reliance_shape_value"]) == pytest.approx(0.4)
    section = describe_relation(relied / "out" / "relation.json", relied / "out" / "report.html")
    assert section.title == "Receptive field against shape bias and reliance"
    assert "reliance on colour -0.020 [-0.050, 0.010]" in section.body
    with pytest.raises(SystemExit):
        main(["--erf", str(relied / "erf")])
    assert "take --shape-bias, --reliance, or both" in capsys.readouterr().err


def test_weights_of_a_users_own_code_are_told_apart(results):
    folder, _, _ = results
    for name in ("erf/a.json", "bias/a.json"):
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        block = content["identity" if name.startswith("erf") else "config"]
        block["weights"]["code_sha256"] = "abc"
        write(folder / name, content)
    assert [network.name for network in relate([folder / "erf"], [folder / "bias"]).networks] == ["a", "b", "c", "d"]


def test_the_caption_gives_the_first_digits_of_the_images_hash(results):
    folder, *_ = results
    relation = relate([folder / "erf"], [folder / "bias"])
    asked = dataclasses.replace(relation, measured={"images": "ab" * 32, "num_images": 5, "size": 512, "layer": "last"})
    head = describe_run(program="shapebias.relate", arguments=[], started=datetime.now(timezone.utc), seconds=0.0)
    words = caption_relation(asked, head)
    assert "Fields: mean of 5 images at 512 × 512 pixels, layer last." in words
