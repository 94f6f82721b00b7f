"""Sensitivity to choices, on probabilities for which every choice gives a different answer."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

from shapebias.answers.decisions import decide, decide_among_all
from shapebias.answers.probabilities import Probabilities, save_probabilities
from shapebias.sensitivity import build_parser, main, measure_choices
from shapebias.stimuli.categories import IMAGENET_INDICES

CATS, DOGS, KNIFE = (IMAGENET_INDICES[name] for name in ("cat", "dog", "knife"))
IMAGES = ["cat1-dog1.png", "dog1-knife1.png", "knife1-cat1.png", "cat2-cat1.png"]


def probabilities(preprocessing: str = "model", **config) -> Probabilities:
    """The mean gives knife (one class), the sum dog (109 classes), the maximum cat; the best class has no category."""
    values = np.full((4, 1000), 1e-6, np.float32)
    values[:, list(DOGS)] = 0.002  # sum .218
    values[:, CATS[0]] = 0.11  # mean over 6: .018
    values[:, KNIFE[0]] = 0.1  # mean over 1: .1
    values[:, 0] = 0.4
    if preprocessing == "toolbox":
        values[:, CATS[0]] = 0.5
    weights = {"model": "net", "random": False, "sha256": "0", "seed": None}
    provenance = {
        "config": {"model": "net", "preprocessing": preprocessing, "weights": weights, **config},
        "subject": "net",
        "label": "net",
        "weights": {"random": False},
        "data": {"name": "cue-conflict"},
    }
    return Probabilities(values, IMAGES, provenance)


def test_the_best_of_all_classes_may_have_no_category():
    values = probabilities().values
    assert decide_among_all(values) == [None] * 4
    assert decide_among_all(probabilities("toolbox").values) == ["cat"] * 4
    assert {name: decide(values, aggregation=name)[0] for name in ("mean", "sum", "max")} == {
        "mean": "knife",
        "sum": "dog",
        "max": "cat",
    }


def test_every_choice_is_measured():
    choices = measure_choices([probabilities(), probabilities("toolbox")])
    found = {(c.preprocessing, c.classes, c.aggregation): c for c in choices}
    assert len(choices) == len(found) == 8
    bias = {key: choice.measurement.shape_bias.value for key, choice in found.items()}
    # of three images in conflict: knife is a texture and a shape, dog a texture and a shape, cat a shape and a texture
    assert bias == {
        ("model", 16, "mean"): 1 / 2,
        ("model", 16, "sum"): 1 / 2,
        ("model", 16, "max"): 1 / 2,
        ("model", 1000, ""): None,
        ("toolbox", 16, "mean"): 1 / 2,
        ("toolbox", 16, "sum"): 1 / 2,
        ("toolbox", 16, "max"): 1 / 2,
        ("toolbox", 1000, ""): 1 / 2,
    }
    assert found["model", 16, "mean"].changed == 0
    assert found["model", 16, "sum"].changed == found["model", 1000, ""].changed == 1
    top = found["model", 1000, ""].measurement
    assert (top.coverage.value, top.no_answer) == (0, 1)
    # cat is second, knife third; a dog class comes after class 0, cat and knife
    assert top.shape_reciprocal_rank.value == pytest.approx((1 / 2 + 1 / 4 + 1 / 3) / 3)
    assert found["model", 16, "mean"].measurement.shape_reciprocal_rank.value is None


def test_the_table_is_written_without_torch(tmp_path):
    for preprocessing in ("toolbox", "model"):
        save_probabilities(probabilities(preprocessing), tmp_path / f"{preprocessing}.npz")
    command = [sys.executable, "-X", "importtime", "-m", "shapebias.sensitivity", "--output", str(tmp_path)]
    command += [str(tmp_path / "toolbox.npz"), str(tmp_path / "model.npz")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert not imported & {"torch", "matplotlib"}
    lines = done.stdout.splitlines()
    assert [line.split()[1:4] for line in lines[2:4]] == [["model", "16", "mean"], ["model", "16", "sum"]]
    with (tmp_path / "shapebias" / "sensitivity.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    content = json.loads((tmp_path / "shapebias" / "sensitivity.json").read_text(encoding="utf-8"))
    assert [row["answers_changed"] for row in content["results"]["choices"]] == [
        float(r["answers_changed"]) for r in rows
    ]
    assert len(rows) == 8
    assert (tmp_path / "shapebias" / "sensitivity.tex").read_text(encoding="utf-8").count(r"\\") == 9


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (probabilities(), "the preprocessing 'model' of net is named twice"),
        (probabilities("toolbox", weights={"model": "net", "sha256": "1"}), "has other weights or images"),
    ],
)
def test_files_that_do_not_fit_are_refused(other, message, tmp_path, capsys):
    save_probabilities(probabilities(), tmp_path / "a.npz")
    save_probabilities(other, tmp_path / "b.npz")
    assert main([str(tmp_path / "a.npz"), str(tmp_path / "b.npz"), "--output", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err
    edge = probabilities()
    edge.provenance["data"]["name"] = "edge"
    save_probabilities(edge, tmp_path / "edge.npz")
    assert main([str(tmp_path / "edge.npz"), "--output", str(tmp_path)]) == 2
    assert "is of the experiment edge; shape bias needs cue-conflict" in capsys.readouterr().err


def test_help_shows_runnable_examples():
    text = build_parser().format_help()
    examples = [line for line in text.splitlines() if line.startswith("  python -m shapebias.sensitivity")]
    assert len(examples) == 2
    for line in examples:
        build_parser().parse_args(line.split("sensitivity ")[1].split())
