"""Experiments with one cue (edge drawings, silhouettes): stimuli, answers, measures and the command line."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runkit import UserError
from shapebias.answers.decisions import decide
from shapebias.answers.observers import find_people, pool_people, write_raw_data
from shapebias.figures.accuracy import draw_accuracy
from shapebias.measures.ranks import rank_cues
from shapebias.measures.shape_bias import error_consistency, measure
from shapebias.network import inference
from shapebias.run import main
from shapebias.stimuli.categories import CATEGORIES, IMAGENET_INDICES
from shapebias.stimuli.experiments import CUE_CONFLICT, EXPERIMENTS
from shapebias.stimuli.images import Stimulus, parse_image_name, read_stimuli

EDGE = EXPERIMENTS["edge"]
NETWORK = "test_efficientnet"


@pytest.fixture(scope="session")
def drawings(tmp_path_factory) -> Path:
    """Ten grey images of each category."""
    folder = tmp_path_factory.mktemp("drawings") / "edge"
    for category in CATEGORIES:
        (folder / category).mkdir(parents=True)
        for number in range(1, 11):
            Image.new("RGB", (224, 224), "grey").save(folder / category / f"{category}{number}.png")
    return folder


@pytest.fixture
def people(tmp_path, drawings) -> Path:
    """Two persons: one is always right, the other always says cat."""
    stimuli = read_stimuli(drawings, EDGE)
    write_raw_data(tmp_path / "people/1.csv", "subject-01", stimuli, [item.shape for item in stimuli])
    write_raw_data(tmp_path / "people/2.csv", "subject-02", stimuli, ["cat"] * 160)
    return tmp_path / "people"


def test_stimuli_are_those_of_the_experiment(drawings, benchmark_folder, tmp_path):
    stimuli = read_stimuli(drawings, EDGE)
    assert (len(stimuli), {item.texture for item in stimuli}) == (160, {""})
    assert (stimuli.describe()["name"], stimuli[3:5].experiment) == ("edge", EDGE)
    assert stimuli.is_published_list
    with pytest.raises(UserError, match="is not one of the cue-conflict images: by its name it has no texture"):
        read_stimuli(drawings, CUE_CONFLICT)
    with pytest.raises(UserError, match="is not one of the edge drawings: by its name it has a texture of its own"):
        read_stimuli(benchmark_folder, EDGE)
    copy = Path(shutil.copytree(drawings, tmp_path / "edge"))
    (copy / "cat" / "cat3.png").unlink()
    with pytest.raises(UserError, match="holds 9 images, the benchmark has 10 of each category"):
        read_stimuli(copy, EDGE)


def test_one_cue_is_measured_by_accuracy_alone(make_observer):
    answers = {"cat1.png": "cat", "cat2.png": "dog", "dog1.png": "dog", "dog2.png": "na"}
    probabilities = np.zeros((4, 1000), np.float32)
    probabilities[:, IMAGENET_INDICES["cat"][0]] = 0.7, 0.2, 0.2, 0.2
    probabilities[:, IMAGENET_INDICES["dog"][0]] = 0.3, 0.8, 0.8, 0.8
    ranks = rank_cues(probabilities, list(answers))
    assert "texture_rank" not in ranks
    result = measure(make_observer(answers, ranks=ranks))
    assert result.accuracy.value == 2 / 4
    assert result.accuracy.low < 0.5 < result.accuracy.high
    assert {name: entry["accuracy"].value for name, entry in result.categories.items()} == {"cat": 0.5, "dog": 0.5}
    assert result.shape_reciprocal_rank.value == pytest.approx((1 + 1 / 2 + 1 + 1) / 4)
    undefined = ("shape_bias", "fraction_correct_shape", "fraction_correct_texture", "coverage", "neither")
    assert all(getattr(result, key).value is None for key in (*undefined, "texture_reciprocal_rank"))
    assert result.no_answer == 1 / 4


def test_a_network_on_drawings_leaves_answers_accuracy_and_picture(drawings, people, tmp_path, monkeypatch, capsys):
    values = np.random.default_rng(3).random((160, 1000), np.float32)
    values /= values.sum(axis=1, keepdims=True)
    monkeypatch.setattr(inference, "predict", lambda *_, **__: values)
    command = ["--experiment", "edge", "--humans", str(people), "--output", str(tmp_path / "out")]
    network = ["--model", NETWORK, "--weights", "random", "--stimuli", str(drawings), "--device", "cpu"]
    assert main([*command, *network]) == 0
    folder = tmp_path / "out" / "shapebias"
    raw = folder / "raw" / "edge" / "edge_test-efficientnet_session-1.csv"
    with raw.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["object_response"] for row in rows] == decide(values)
    assert {row["condition"] for row in rows} == {"NaN"}  # as the toolbox writes it
    content = json.loads((folder / "edge" / f"{NETWORK}.json").read_text(encoding="utf-8"))
    hits = sum(row["object_response"] == row["category"] for row in rows)
    assert content["results"]["accuracy"] == hits / 160
    assert content["results"]["shape_bias"] is None
    assert content["data"]["name"] == "edge"
    names = {path.name for path in (folder / "edge").iterdir()}
    assert {"accuracy.json", "accuracy.csv", "accuracy.tex", "accuracy.png", "differences.csv"} <= names
    comparison = json.loads((folder / "edge" / "accuracy.json").read_text(encoding="utf-8"))["results"]
    assert {pair["measure"] for pair in comparison["differences"]["pairs"]} == {"accuracy"}
    first = capsys.readouterr().out
    assert first.splitlines()[0].split() == ["observer", "accuracy", "95%", "interval", "kappa", "with", "people"]

    saved = str(folder / "edge" / f"{NETWORK}.probabilities.npz")
    assert main(["--from-probabilities", saved, *command]) == 0
    assert capsys.readouterr().out == first
    assert main(["--from-probabilities", saved, *command[2:]]) == 2
    assert "is of the experiment edge; say --experiment" in capsys.readouterr().err
    again = ["--humans", str(people), "--output", str(tmp_path / "again")]
    assert main(["--from-csv", str(raw), "--experiment", "edge", *again]) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[-3:] == first.splitlines()[2].split()[-3:]
    assert main(["--from-csv", str(raw), "--humans", str(people), "--output", str(tmp_path / "wrong")]) == 2
    assert "by its name, not to cue-conflict" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()


def test_picture_shows_each_category_people_first(make_observer):
    images = [f"{category}{number}.png" for category in CATEGORIES for number in (1, 2)]
    right = {image: parse_image_name(image)[0] for image in images}
    half = {image: answer if image.endswith("1.png") else "na" for image, answer in right.items()}
    person = make_observer(right, name="subject-01", kind="person")
    series = [measure(make_observer(half)), measure(pool_people([person]))]
    left, overall = draw_accuracy(series, persons=[measure(person)]).axes
    assert len([label for label in left.get_yticklabels() if label.get_text()]) == 16
    points = {(line.get_xdata()[0], line.get_ydata()[0]) for line in overall.lines if len(line.get_xdata()) == 1}
    assert points == {(1.0, 0), (1.0, 0.33), (0.5, 1)}  # people, each person below, the network
    assert [text.get_text() for text in overall.texts] == ["people (n = 1)", "net"]


# 10 persons, right answers in all 1600 trials, counted in the published files
@pytest.mark.data
@pytest.mark.parametrize(("name", "right"), [("edge", 1394), ("silhouette", 1205)])
def test_published_people(data_dir, name, right):
    persons = find_people(data_dir / "human" / name, EXPERIMENTS[name])
    result = measure(pool_people(persons))
    assert (result.trials, result.accuracy.value) == (1600, right / 1600)
    assert read_stimuli(data_dir / f"{name}s", EXPERIMENTS[name]).describe()["sha256_verified"] == "full"
    first, second = (person.trials.set_index("image").sort_index() for person in persons[:2])
    agree = (first["response"] == first["shape"]) == (second["response"] == second["shape"])
    assert error_consistency(*persons[:2]).observed == agree.mean()


def test_names_of_one_cue_are_read_as_the_toolbox_writes_them(tmp_path):
    stimuli = [Stimulus(Path("oven10.png"), "oven", "")]
    write_raw_data(tmp_path / "a.csv", "net", stimuli, ["knife"])
    assert (tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()[1] == "net,1,1,NaN,knife,oven,NaN,oven10.png"
