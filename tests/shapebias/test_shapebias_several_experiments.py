"""One run over several experiments: networks are loaded once, images decoded once, and datasets resumed alone."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from replknet import zoo
from runkit.fetch.download import DownloadError
from shapebias import benchmark
from shapebias.answers.decisions import decide
from shapebias.answers.observers import write_raw_data
from shapebias.network import inference
from shapebias.run import main, parse_config
from shapebias.stimuli.categories import CATEGORIES
from shapebias.stimuli.experiments import CUE_CONFLICT, EXPERIMENTS
from shapebias.stimuli.images import Stimuli, read_stimuli

NETWORK, OTHER = "test_efficientnet", "resnet18"  # the first wants 160 pixels, the other 224, which the images have
pytestmark = pytest.mark.usefixtures("no_pictures")

ONE_CUE = ("edge", "silhouette")
PEOPLE = ("subject-01", "subject-02")


@pytest.fixture
def stimuli(link_images, tmp_path) -> Path:
    """A folder with ten images of each category for two experiments."""
    for name in ONE_CUE:
        for category in CATEGORIES:
            link_images(tmp_path / "stimuli" / name / category, [f"{category}{number}.png" for number in range(1, 11)])
    return tmp_path / "stimuli"


def write_people(folder: Path, stimuli: Stimuli) -> None:
    """Write answers of two persons: one is always right, the other always says cat."""
    name = stimuli.experiment.name
    for person, answers in zip(PEOPLE, ([item.shape for item in stimuli], ["cat"] * len(stimuli)), strict=True):
        write_raw_data(folder / name / f"{name}_{person}_session_1.csv", person, stimuli, answers)


@pytest.fixture
def people(stimuli, tmp_path) -> Path:
    """A folder with the answers of two persons to both experiments."""
    for name in ONE_CUE:
        write_people(tmp_path / "people", read_stimuli(stimuli / name, EXPERIMENTS[name]))
    return tmp_path / "people"


@pytest.fixture
def command(stimuli, people, tmp_path) -> list[str]:
    """A run of both experiments."""
    return [
        *("--experiment", *ONE_CUE, "--weights", "random", "--device", "cpu", "--batch-size", "32"),
        *("--stimuli", str(stimuli), "--humans", str(people), "--output", str(tmp_path / "out")),
    ]


@pytest.fixture
def guess(monkeypatch) -> list[str]:
    """Replace the network by probabilities that depend on the image's path alone; the paths are recorded."""
    asked: list[str] = []

    def ask(model, images, *_):
        asked.extend(str(image.stimulus.path) for image in images)
        draws = [np.random.default_rng([*str(image.stimulus.path).encode()]).random(1000) for image in images]
        return np.stack([draw / draw.sum() for draw in draws]).astype(np.float32)

    monkeypatch.setattr(inference, "_ask", ask)
    return asked


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_network_is_loaded_once_and_an_image_is_decoded_once(guess, command, tmp_path, monkeypatch, capsys):
    loaded, decoded = [], []
    load, decode = zoo.load_model, inference._decode
    monkeypatch.setattr(zoo, "load_model", lambda weights, **more: loaded.append(weights.name) or load(weights, **more))
    monkeypatch.setattr(inference, "_decode", lambda item, **more: decoded.append(item.path) or decode(item, **more))
    assert main(["--model", NETWORK, OTHER, *command]) == 0
    assert loaded == [NETWORK, OTHER]
    assert len(decoded) == len(set(decoded)) == 320
    assert len(guess) == 2 * 320

    root = tmp_path / "out" / "shapebias"
    for name in ONE_CUE:
        for network in (NETWORK, OTHER):
            content = read(root / name / f"{network}.json")
            assert (content["data"]["name"], content["results"]["trials"]) == (name, 160)
            answers = rows_of(root / "raw" / name / f"{name}_{network.replace('_', '-')}_session-1.csv")
            values = np.load(root / name / f"{network}.probabilities.npz")["probabilities"]
            assert [row["object_response"] for row in answers] == decide(values)
    out = capsys.readouterr().out
    assert [line for line in out.splitlines() if line.endswith(":")] == ["Edges:", "Silhouettes:"]
    assert out.count("RANDOM WEIGHTS (seed 0)") == 4

    assert benchmark.main([str(root / "raw"), str(tmp_path / "people"), "--output", str(tmp_path / "b"), "-q"]) == 0
    table = read(tmp_path / "b" / "shapebias" / "benchmark.json")
    assert table["scope"].startswith("2 of 17 datasets")
    assert set(table["networks"]) == {f"{name}-random-weights" for name in (NETWORK, OTHER)}


@pytest.mark.usefixtures("tenth")
def test_images_in_one_folder_give_the_toolboxs_rows(guess, command, made_up_archive, tmp_path, capsys):
    folder = made_up_archive("rotation")
    folder.rename(tmp_path / "stimuli" / "rotation")
    write_people(tmp_path / "people", read_stimuli(tmp_path / "stimuli" / "rotation", EXPERIMENTS["rotation"]))
    at = command.index("--experiment")
    assert main(["--model", NETWORK, *command[:at], "--experiment", "edge", "rotation", *command[at + 3 :]]) == 0
    root = tmp_path / "out" / "shapebias"
    rows = rows_of(root / "raw" / "rotation" / "rotation_test-efficientnet_session-1.csv")
    names = sorted(path.name for path in (tmp_path / "stimuli" / "rotation" / "dnn" / "session-1").iterdir())
    assert [row["imagename"] for row in rows] == names  # whole, as in the toolbox's files
    pieces = [name.split("_") for name in names]
    assert [(row["condition"], row["category"]) for row in rows] == [(piece[3], piece[4]) for piece in pieces]
    assert {(row["rt"], row["session"], row["subj"]) for row in rows} == {("NaN", "1", f"{NETWORK}-random-weights")}
    assert [row["trial"] for row in rows] == [str(number) for number in range(1, 129)]
    result = read(root / "rotation" / f"{NETWORK}.json")["results"]
    assert result["accuracy"] == sum(row["object_response"] == row["category"] for row in rows) / 128
    assert 0 < result["shape_reciprocal_rank"] < 1
    comparison = read(root / "rotation" / "accuracy.json")["results"]
    assert set(comparison["error_consistency"]["with_people"]) == {f"{NETWORK}-random-weights", *PEOPLE}
    raw = str(root / "raw" / "rotation")
    again = ["--humans", str(tmp_path / "people" / "rotation"), "--output", str(tmp_path / "again")]
    assert main(["--from-csv", raw, "--experiment", "rotation", *again]) == 0
    assert main(["--from-csv", raw, "--experiment", "edge", *again]) == 2
    assert "by its name, not to edge" in capsys.readouterr().err


def test_each_experiment_is_resumed_alone(guess, command, tmp_path, monkeypatch, caplog):
    run = ["--model", NETWORK, *command]
    with monkeypatch.context() as patch:
        real = inference._ask

        def interrupt(model, images, *more):
            if len(guess) >= 160 + 64:
                raise KeyboardInterrupt
            return real(model, images, *more)

        patch.setattr(inference, "_ask", interrupt)
        assert main(run) == 130
    root = tmp_path / "out" / "shapebias"
    assert (root / "edge" / f"{NETWORK}.json").exists()
    assert [path.name for path in (root / "silhouette").iterdir()] == [f"{NETWORK}.probabilities.partial.npz"]
    before = (root / "edge" / f"{NETWORK}.json").read_bytes()
    del guess[:]
    assert main([*run, "--resume"]) == 0
    assert len(guess) == 160 - 64
    assert "going on after image 64 of 160" in caplog.text
    assert (root / "edge" / f"{NETWORK}.json").read_bytes() == before
    assert read(root / "silhouette" / "accuracy.json")["results"]["observers"][0]["trials"] == 160


def test_a_failure_in_one_experiment_leaves_the_other(guess, command, tmp_path, monkeypatch, capsys):
    real = inference._ask

    def fail(model, images, *more):
        if "silhouette" in str(images[0].stimulus.path):
            raise RuntimeError("a fault of the network's")
        return real(model, images, *more)

    monkeypatch.setattr(inference, "_ask", fail)
    assert main(["--model", NETWORK, *command, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["failed"] == {f"{NETWORK} on silhouette": "RuntimeError: a fault of the network's"}
    assert [one["experiment"] for one in told["experiments"]] == ["edge"]
    assert told["experiments"][0]["observers"][0]["trials"] == 160
    assert str(tmp_path / "out" / "shapebias" / "edge" / f"{NETWORK}.json") in told["experiments"][0]["files"]
    assert not (tmp_path / "out" / "shapebias" / "silhouette" / "accuracy.json").exists()


def test_precision_is_reported_for_each_experiment(command, tmp_path, caplog, monkeypatch):
    real, batches = inference._ask, []

    def ask(model, images, *more):
        """The network answers only the 16 images of the comparison, because many processors are slow at bfloat16."""
        batches.append(len(images))
        return real(model, images, *more) if len(images) == 16 else np.full((len(images), 1000), 1e-3, np.float32)

    monkeypatch.setattr(inference, "_ask", ask)
    with caplog.at_level("INFO"):
        assert main(["--model", NETWORK, *command, "--precision", "bfloat16"]) == 0
    for name, what in (("edge", "edge drawings"), ("silhouette", "silhouettes")):
        check = read(tmp_path / "out" / "shapebias" / name / f"{NETWORK}.json")["precision_check"]
        assert check["images"] == 16
        assert 0 < check["largest_difference"] < 0.1
        assert f"{NETWORK}: bfloat16 against float32 on 16 {what}: " in caplog.text
    assert batches.count(16) == 2 * len(ONE_CUE)


def test_saved_probabilities_of_several_experiments_are_decided_anew(guess, command, people, tmp_path, capsys):
    assert main(["--model", NETWORK, *command]) == 0
    first = capsys.readouterr().out
    saved = [str(tmp_path / "out" / "shapebias" / name / f"{NETWORK}.probabilities.npz") for name in ONE_CUE]
    again = ["--from-probabilities", *saved, "--humans", str(people), "--output", str(tmp_path / "again")]
    assert main([*again, "--experiment", "all"]) == 0
    assert capsys.readouterr().out == first
    assert main([*again, "--experiment", "edge"]) == 2
    assert "is of the experiment silhouette; say --experiment" in capsys.readouterr().err


def test_what_is_absent_is_named_with_what_is_there(guess, command, tmp_path, monkeypatch, capsys):
    def fail(*_, **__):
        raise DownloadError("cannot download: no answer")

    monkeypatch.setattr("shapebias.answers.datasets.download", fail)
    monkeypatch.setattr("shapebias.stimuli.images.download", fail)
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path / "cache"))
    folder = command[command.index("--stimuli") + 1]
    run = ["--model", NETWORK, "--weights", "random", "--experiment", "sketch", "edge", "contrast"]
    assert main([*run, "--stimuli", folder]) == 2
    error = capsys.readouterr().err
    assert "no images of sketch, contrast (no folder " in error
    assert error.endswith("ask for those that are there: --experiment edge\n")
    assert main(run) == 2
    error = capsys.readouterr().err
    assert "no images of sketch, edge, contrast (cannot download: no answer; unpack https://" in error
    assert "none is there" in error
    assert not guess


def test_a_dry_run_names_every_experiment_and_file(command, tmp_path, capsys):
    assert main(["--model", NETWORK, *command, "--dry-run", "--report", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in told["runs"]] == [f"{NETWORK} on edge", f"{NETWORK} on silhouette"]
    assert "160 edge drawings in" in told["what"]
    assert "160 silhouettes in" in told["what"]
    files = [Path(entry["path"]).relative_to(tmp_path / "out" / "shapebias").as_posix() for entry in told["files"]]
    assert {"edge/accuracy.json", "silhouette/accuracy.json", "edge/report.html", "silhouette/report.html"} <= {*files}
    assert not (tmp_path / "out").exists()


def test_all_are_the_17_and_the_default_is_cue_conflict(capsys):
    assert parse_config([]).experiments == (CUE_CONFLICT,)
    assert parse_config(["--experiment", "edge", "edge"]).experiments == (EXPERIMENTS["edge"],)
    config = parse_config(["--experiment", "all", "--stimuli", "images", "--humans", "people"])
    assert len(config.parts) == 17
    assert {part.stimuli for part in config.parts} == {Path("images") / name for name in EXPERIMENTS}
    assert {part.humans for part in config.parts} == {Path("people") / name for name in EXPERIMENTS}
    assert parse_config(["--stimuli", "images"]).parts[0].stimuli == Path("images")
    for wrong, message in (
        (["--experiment", "faces"], "invalid choice: 'faces'"),
        (["--experiment", "edge", "sketch", "--from-csv", "a.csv"], "--from-csv measures answers to one --experiment"),
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert message in capsys.readouterr().err
