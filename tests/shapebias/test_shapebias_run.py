"""The command line, from arguments to files."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from replknet import zoo
from runkit import sha256_of_file
from runkit.fetch.download import DownloadError
from shapebias.answers.decisions import decide
from shapebias.measures.shape_bias import Measurement
from shapebias.network import inference
from shapebias.run import DEFAULT_MODELS, build_parser, main, parse_config

NETWORK = "test_efficientnet"  # timm's smallest: 0.4 million parameters, 160 pixels

TEN_CLASSES = "from timm import create_model\n\ndef ten(): return create_model('test_efficientnet', num_classes=10)\n"


def read(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def run_random(arguments: list[str], *more: str) -> int:
    return main(["--model", NETWORK, "--weights", "random", *arguments, *more])


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> dict[str, Any]:
    """Files that `finished` keeps of its first run."""
    return {"folder": tmp_path_factory.mktemp("finished") / "out"}


@pytest.fixture
def finished(kept, quick, arguments, tmp_path, capsys) -> str:
    """Provide the files of a run with these arguments in `tmp_path / "out"`, made once for all; return its output."""
    if "printed" not in kept:
        assert run_random(arguments) == 0
        kept["printed"] = capsys.readouterr().out
        shutil.copytree(tmp_path / "out", kept["folder"])
    else:
        shutil.copytree(kept["folder"], tmp_path / "out")
    return kept["printed"]


def test_a_network_leaves_answers_result_comparison_and_pictures(drawing_arguments, tmp_path, capsys):
    assert run_random(drawing_arguments, "--formats", "png", "svg") == 0
    folder = tmp_path / "out" / "shapebias"
    answers = folder / "raw" / "cue-conflict" / "cue-conflict_test-efficientnet_session-1.csv"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == [
        answers.name,
        "differences.csv",
        "differences.tex",
        "shape-bias-column.png",
        "shape-bias-column.svg",
        "shape-bias-forest.png",
        "shape-bias-forest.svg",
        "shape-bias.csv",
        "shape-bias.json",
        "shape-bias.png",
        "shape-bias.svg",
        "shape-bias.tex",
        f"{NETWORK}.cue-ranks.csv",
        f"{NETWORK}.json",
        f"{NETWORK}.probabilities.npz",
    ]
    with answers.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 128
    assert {row["subj"] for row in rows} == {f"{NETWORK}-random-weights"}

    content = read(folder / f"{NETWORK}.json")
    assert content["schema"] == 2
    assert content["config"]["model"] == NETWORK
    assert content["config"]["aggregation"] == "mean"
    assert content["weights"]["random"] is True
    assert content["weights"]["seed"] == 0
    assert content["data"]["images"] == 128
    assert content["data"]["preprocessing"]["input_size_px"] == [160, 160]
    assert content["raw_data"] == {
        "file": answers.name,
        "sha256": sha256_of_file(answers),
        "subject": f"{NETWORK}-random-weights",
    }
    saved = folder / f"{NETWORK}.probabilities.npz"
    assert content["probabilities"] == {"file": saved.name, "sha256": sha256_of_file(saved)}
    results = content["results"]
    hits = sum(row["object_response"] == row["category"] for row in rows)
    assert results["accuracy"] == hits / 128
    assert results["trials"] == 128
    assert results["label"] == f"{NETWORK}, RANDOM WEIGHTS (seed 0)"
    assert Measurement.from_dict(results).random

    table = capsys.readouterr().out
    assert "RANDOM WEIGHTS (seed 0)" in table
    assert "people (n = 2)" in table
    comparison = read(folder / "shape-bias.json")["results"]
    assert [row["name"] for row in comparison["observers"]] == [
        f"{NETWORK}-random-weights",
        "people",
        "subject-01",
        "subject-02",
    ]
    for picture in ("shape-bias", "shape-bias-forest"):
        assert "RANDOM WEIGHTS" in (folder / f"{picture}.svg").read_text(encoding="utf-8")
    pairs = comparison["differences"]["pairs"]
    assert {(pair["first"], pair["second"]) for pair in pairs} == {(f"{NETWORK}-random-weights", "people")}
    assert pairs[0]["difference"] == comparison["observers"][0]["shape_bias"] - comparison["observers"][1]["shape_bias"]
    with (folder / "differences.csv").open(newline="", encoding="utf-8") as file:
        assert [float(row["p"]) for row in csv.DictReader(file)] == [pair["p"] for pair in pairs]
    latex = (folder / "shape-bias.tex").read_text(encoding="utf-8")
    assert latex.count(r"\\") == 3
    assert r"test\_efficientnet, RANDOM WEIGHTS (seed 0) & " in latex


def test_a_finished_result_is_kept_and_another_refused(finished, arguments, tmp_path, caplog, capsys, monkeypatch):
    result = tmp_path / "out" / "shapebias" / f"{NETWORK}.json"
    before = result.read_bytes()

    with monkeypatch.context() as patch:
        patch.setattr(zoo, "load_model", None)  # a kept result asks no network
        assert run_random(arguments) == 0
    assert result.read_bytes() == before
    assert any("is finished already and is kept" in record.getMessage() for record in caplog.records)
    capsys.readouterr()

    assert run_random(arguments, "--aggregation", "max", "--seed", "3") == 2
    error = capsys.readouterr().err
    assert "weights.seed: 0 -> 3" in error
    assert "aggregation: mean -> max" in error
    assert result.read_bytes() == before

    assert run_random(arguments, "--aggregation", "max", "--seed", "3", "--overwrite") == 0
    assert read(result)["config"]["aggregation"] == "max"


@pytest.mark.sweep  # more than half a minute; its parts have tests of their own
def test_a_reduced_precision_says_what_it_changed(arguments, tmp_path, caplog, capsys):
    with caplog.at_level("INFO"):
        assert run_random(arguments, "--precision", "bfloat16") == 0
    content = json.loads((tmp_path / "out" / "shapebias" / f"{NETWORK}.json").read_text(encoding="utf-8"))
    assert content["precision"] == "bfloat16"
    assert content["precision_check"]["images"] == 16
    assert 0 < content["precision_check"]["largest_difference"] < 0.1
    assert "bfloat16 against float32 on 16 images" in caplog.text
    assert run_random(arguments) == 2
    assert "precision: bfloat16 -> float32" in capsys.readouterr().err


def test_float16_on_a_cpu_is_refused(arguments, capsys):
    assert run_random(arguments, "--precision", "float16", "--device", "cpu") == 2
    assert "--precision float16 is for GPUs" in capsys.readouterr().err


def test_answers_that_were_touched_are_not_taken_for_finished(finished, arguments, tmp_path, capsys):
    folder = tmp_path / "out" / "shapebias"
    (answers,) = (folder / "raw" / "cue-conflict").iterdir()
    whole = answers.read_bytes()
    answers.write_bytes(whole[:-30])
    assert run_random(arguments) == 2
    assert "was changed since" in capsys.readouterr().err
    answers.write_bytes(whole)
    (folder / f"{NETWORK}.json").unlink()
    assert run_random(arguments) == 2
    assert "exists without" in capsys.readouterr().err
    answers.unlink()
    assert run_random(arguments) == 0
    assert answers.read_bytes() == whole  # the same seed gives the same answers


def test_probabilities_of_another_run_are_not_taken_for_those_of_the_result(finished, arguments, tmp_path, capsys):
    folder = tmp_path / "out" / "shapebias"
    elsewhere = [*arguments, "--output", str(tmp_path / "other")]
    assert run_random(elsewhere, "--seed", "1") == 0
    saved = folder / f"{NETWORK}.probabilities.npz"
    whole = saved.read_bytes()
    shutil.copy(tmp_path / "other" / "shapebias" / saved.name, saved)
    capsys.readouterr()
    assert run_random(arguments) == 2
    assert f"{saved} and {NETWORK}.json are of different runs" in capsys.readouterr().err
    saved.write_bytes(whole)
    assert run_random(arguments) == 0
    saved.unlink()  # a result may be kept without them
    assert run_random(arguments) == 0


def test_networks_whose_answers_would_have_one_file_are_refused(quick, arguments, tmp_path, capsys):
    for name in ("my_net.py", "my-net.py"):
        (tmp_path / name).write_text(TEN_CLASSES.replace("10", "1000").replace("ten", "build"), encoding="utf-8")
    models = [f"{tmp_path / name}:build" for name in ("my_net.py", "my-net.py")]
    for more in ([], ["--overwrite"], ["--dry-run"]):
        assert main(["--model", *models, *arguments, *more]) == 2
        assert "my_net.py:build and my-net.py:build would have the same name" in capsys.readouterr().err
    assert main(["--model", models[0], *arguments]) == 0
    capsys.readouterr()
    assert main(["--model", models[1], *arguments, "--overwrite"]) == 2
    assert (
        "the answers of my-net.py:build would have the same file as those of my_net.py-build" in capsys.readouterr().err
    )
    assert main(["--model", models[0], *arguments, "--overwrite"]) == 0
    other = [*arguments, "--output", str(tmp_path / "other")]
    assert main(["--model", models[1], *other]) == 0
    saved = [
        str(tmp_path / folder / "shapebias" / f"{name}.py-build.probabilities.npz")
        for folder, name in (("out", "my_net"), ("other", "my-net"))
    ]
    capsys.readouterr()
    assert main(["--from-probabilities", *saved, *arguments[2:4], "--output", str(tmp_path / "again")]) == 2
    assert "my-net.py:build would have the same file" in capsys.readouterr().err


def test_saved_probabilities_are_measured_again_unless_the_result_is_of_them(finished, arguments, tmp_path, capsys):
    saved = tmp_path / "out" / "shapebias" / f"{NETWORK}.probabilities.npz"
    measuring = ["--from-probabilities", str(saved), *arguments[arguments.index("--humans") :][:2]]
    measuring += ["--output", str(tmp_path / "again")]
    assert main(measuring) == 0
    assert main(measuring) == 0
    with np.load(saved) as file:
        arrays = dict(file)
    np.savez(saved, **arrays)  # the same settings, but another file
    capsys.readouterr()
    assert main(measuring) == 2
    assert f"{saved} and {NETWORK}.json are of different runs" in capsys.readouterr().err
    assert main([*measuring, "--overwrite"]) == 0


@pytest.fixture
def uniform(monkeypatch) -> list[int]:
    """Replace the network by probabilities that depend on the image alone; the size of each batch is recorded."""
    sizes: list[int] = []

    def ask(model, images, *_):
        sizes.append(len(images))
        draws = [np.random.default_rng([*image.stimulus.name.encode()]).random(1000, np.float32) for image in images]
        return np.stack([draw / draw.sum() for draw in draws])

    monkeypatch.setattr(inference, "_ask", ask)
    return sizes


def test_an_interrupted_run_is_continued_to_the_same_result(uniform, arguments, tmp_path, monkeypatch, capsys, caplog):
    arguments[arguments.index("--batch-size") + 1] = "8"
    assert run_random(arguments) == 0
    folder = tmp_path / "out" / "shapebias"
    names = [f"{NETWORK}.probabilities.npz", "raw/cue-conflict/cue-conflict_test-efficientnet_session-1.csv"]
    whole = np.load(folder / names[0])["probabilities"], (folder / names[1]).read_bytes()
    results = read(folder / f"{NETWORK}.json")["results"]
    shutil.rmtree(folder)

    with monkeypatch.context() as patch:
        real, calls = inference._ask, []

        def interrupt(*args):
            calls.append(1)
            if len(calls) == 14:
                raise KeyboardInterrupt
            return real(*args)

        patch.setattr(inference, "_ask", interrupt)
        capsys.readouterr()
        assert run_random(arguments) == 130
    assert "Continue with: python -m shapebias.run --model test_efficientnet" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == [f"{NETWORK}.probabilities.partial.npz"]
    assert run_random(arguments) == 2
    assert "--resume continues it, --overwrite starts again" in capsys.readouterr().err
    assert run_random(arguments, "--resume", "--seed", "1") == 2
    assert "is of another run (weights.seed: 0 -> 1)" in capsys.readouterr().err

    del uniform[:]
    assert run_random(arguments, "--resume") == 0
    assert "going on after image 104 of 128" in caplog.text  # 13 batches of 8
    assert sum(uniform) == 128 - 104
    assert not (folder / f"{NETWORK}.probabilities.partial.npz").exists()
    np.testing.assert_array_equal(np.load(folder / names[0])["probabilities"], whole[0])
    assert (folder / names[1]).read_bytes() == whole[1]
    assert read(folder / f"{NETWORK}.json")["results"] == results


def test_a_run_killed_between_its_answers_and_its_result_is_continued(finished, arguments, tmp_path, monkeypatch):
    result = tmp_path / "out" / "shapebias" / f"{NETWORK}.json"
    before = read(result)
    result.unlink()
    monkeypatch.setattr(zoo, "load_model", None)  # the probabilities are there
    assert run_random(arguments, "--resume") == 0
    assert read(result) == before


def test_overwriting_is_continued_too(uniform, arguments, tmp_path, monkeypatch):
    """An interrupted --overwrite leaves the old result; --resume continues it and keeps its progress."""
    assert run_random(arguments) == 0
    more = ["--overwrite", "--aggregation", "max"]
    with monkeypatch.context() as patch:
        patch.setattr(inference, "_ask", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run_random(arguments, *more) == 130
    result = tmp_path / "out" / "shapebias" / f"{NETWORK}.json"
    assert read(result)["config"]["aggregation"] == "mean"
    assert run_random(arguments, *more, "--resume") == 0
    assert read(result)["config"]["aggregation"] == "max"
    del uniform[:]
    assert run_random(arguments, *more, "--resume") == 0
    assert uniform == []


def test_batch_size_auto_takes_what_fits_and_keeps_it_when_continued(uniform, arguments, tmp_path, monkeypatch):
    index = arguments.index("--batch-size")
    arguments[index : index + 2] = ["--batch-size", "auto"]
    monkeypatch.setattr(inference, "fitting_batch_size", lambda run_one, device, *, limit: limit // 2)
    with monkeypatch.context() as patch:
        real = inference._ask

        def interrupt(model, images, *args):
            if sum(uniform) >= 64:
                raise KeyboardInterrupt
            return real(model, images, *args)

        patch.setattr(inference, "_ask", interrupt)
        assert run_random(arguments) == 130
    monkeypatch.setattr(inference, "fitting_batch_size", None)  # it is known already
    assert run_random(arguments, "--resume") == 0
    assert set(uniform) == {8}
    content = read(tmp_path / "out" / "shapebias" / f"{NETWORK}.json")
    assert content["batch_size"] == 8
    assert content["peak_memory"]["resident_bytes"] > 1e8


def test_saved_probabilities_give_the_same_result_without_torch(finished, people_folder, tmp_path):
    folder = tmp_path / "out" / "shapebias"
    saved = folder / f"{NETWORK}.probabilities.npz"
    command = [sys.executable, "-X", "importtime", "-m", "shapebias.run", "--from-probabilities", str(saved)]
    command += ["--humans", str(people_folder), "--output", str(tmp_path / "again")]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "torch" not in imported
    note = "128 images instead of the published 1,280: not comparable with published numbers. "
    assert done.stdout.replace(note, "") == finished  # to which 128 images were given as the published ones
    old, new = (read(root / f"{NETWORK}.json") for root in (folder, tmp_path / "again" / "shapebias"))
    assert "--from-probabilities" in new.pop("remeasured")["command"]
    assert new == old  # what made the answers is said in the same words


def test_saved_probabilities_are_decided_anew(finished, people_folder, tmp_path, capsys):
    saved = tmp_path / "out" / "shapebias" / f"{NETWORK}.probabilities.npz"
    more = ["--humans", str(people_folder), "--aggregation", "max"]
    capsys.readouterr()
    assert main(["--from-probabilities", str(saved), *more, "--output", str(tmp_path / "out")]) == 2
    assert "aggregation: mean -> max" in capsys.readouterr().err
    assert main(["--from-probabilities", str(saved), *more, "--output", str(tmp_path / "max")]) == 0
    values = np.load(saved)["probabilities"]
    with (tmp_path / "max/shapebias/raw/cue-conflict/cue-conflict_test-efficientnet_session-1.csv").open() as file:
        assert [row["object_response"] for row in csv.DictReader(file)] == decide(values, aggregation="max")


def test_a_run_without_its_answers_takes_the_saved_probabilities(finished, arguments, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "out" / "shapebias"
    before = read(folder / f"{NETWORK}.json")
    for path in (folder / f"{NETWORK}.json", *(folder / "raw" / "cue-conflict").iterdir()):
        path.unlink()
    monkeypatch.setattr(zoo, "load_model", None)  # no network is asked
    assert run_random(arguments) == 0
    assert read(folder / f"{NETWORK}.json") == before
    (folder / f"{NETWORK}.json").unlink()
    (folder / "raw" / "cue-conflict" / "cue-conflict_test-efficientnet_session-1.csv").unlink()
    capsys.readouterr()
    assert run_random(arguments, "--seed", "1") == 2
    assert "probabilities.npz is of another configuration (weights.seed: 0 -> 1)" in capsys.readouterr().err


def test_probabilities_of_one_network_are_not_taken_twice(finished, tmp_path, capsys):
    saved = str(tmp_path / "out" / "shapebias" / f"{NETWORK}.probabilities.npz")
    capsys.readouterr()
    assert main(["--from-probabilities", saved, saved, "--output", str(tmp_path / "out")]) == 2
    assert f"are both of the network '{NETWORK}'" in capsys.readouterr().err


def test_auto_skips_what_cannot_be_had_and_fails_if_nothing_is_left(arguments, capsys, caplog, monkeypatch):
    def unavailable(name, weights, *, seed):
        assert weights == "pretrained"
        raise zoo.WeightsUnavailable(f"no weights for {name} today")

    monkeypatch.setattr(zoo, "resolve_weights", unavailable)
    assert main(arguments) == 2
    assert "no network is left" in capsys.readouterr().err
    skipped = [record.getMessage() for record in caplog.records if record.getMessage().startswith("skipped")]
    assert skipped == [f"skipped: {name}: no weights for {name} today" for name in DEFAULT_MODELS]
    caplog.clear()
    assert main(["--weights", "pretrained", *arguments]) == 2
    failed = [record.getMessage() for record in caplog.records if record.getMessage().startswith("failed")]
    assert failed == [f"failed: {name}: no weights for {name} today" for name in DEFAULT_MODELS]
    assert main(["--weights", "pretrained", "--model", NETWORK, *arguments]) == 2
    assert f"error: no weights for {NETWORK} today" in capsys.readouterr().err


def test_the_skipped_are_recorded_beside_the_measured(quick, arguments, tmp_path, monkeypatch):
    real = zoo.resolve_weights

    def only_one(name, weights, *, seed):
        if name != NETWORK:
            raise zoo.WeightsUnavailable("not today")
        return real(name, "random", seed=seed)

    monkeypatch.setattr(zoo, "resolve_weights", only_one)
    assert main(["--model", "resnet152.tv_in1k", NETWORK, *arguments]) == 0
    content = read(tmp_path / "out" / "shapebias" / "shape-bias.json")
    assert content["skipped"] == [{"model": "resnet152.tv_in1k", "reason": "not today"}]


def test_a_failing_network_does_not_stop_the_others(quick, arguments, tmp_path, capsys):
    (tmp_path / "net.py").write_text(TEN_CLASSES, encoding="utf-8")
    assert main(["--model", f"{tmp_path}/net.py:ten", NETWORK, "--weights", "random", *arguments]) == 2
    assert {path.name for path in (tmp_path / "out" / "shapebias").glob("*.json")} == {
        f"{NETWORK}.json",
        "shape-bias.json",
    }
    assert NETWORK in capsys.readouterr().out


def test_a_head_that_is_not_of_imagenet_is_refused_with_the_reason(arguments, tmp_path, capsys):
    (tmp_path / "net.py").write_text(TEN_CLASSES, encoding="utf-8")
    assert main(["--model", f"{tmp_path}/net.py:ten", *arguments]) == 2
    assert "has 10 outputs, and no class list of ImageNet has 10 classes" in capsys.readouterr().err


def test_a_checkpoint_is_named_in_result_and_label(quick, arguments, tmp_path):
    checkpoint = tmp_path / "mine.pth"
    torch.save(zoo.load_model(NETWORK, "random", seed=9).model.state_dict(), checkpoint)
    assert main(["--model", NETWORK, "--weights", str(checkpoint), *arguments]) == 0
    content = read(tmp_path / "out" / "shapebias" / f"{NETWORK}.json")
    assert content["weights"]["source"] == "file"
    assert content["weights"]["sha256"] == sha256_of_file(checkpoint)
    assert content["results"]["label"] == f"{NETWORK}, weights mine.pth"
    assert content["results"]["random"] is False


def test_people_are_not_taken_twice(people_folder, tmp_path, capsys):
    folder = str(people_folder)
    assert main(["--from-csv", folder, "--humans", folder, "--output", str(tmp_path)]) == 2
    assert "--from-csv already names people" in capsys.readouterr().err


def test_toolbox_preprocessing_is_used_and_recorded(arguments, tmp_path, monkeypatch):
    used = []

    def predict(model, stimuli, *, preprocessing, **_):
        used.append(preprocessing)
        return np.full((len(stimuli), 1000), 2.0**-10, np.float32)  # sums of it are exact

    monkeypatch.setattr(inference, "predict", predict)
    assert run_random(arguments, "--preprocessing", "toolbox", "--model", "test_resnet") == 0
    content = read(tmp_path / "out" / "shapebias" / "test_resnet.json")
    assert content["config"]["preprocessing"] == "toolbox"
    assert content["data"]["preprocessing"]["input_size_px"] == [224, 224]
    assert content["data"]["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    assert used == [inference.TOOLBOX_PREPROCESSING]
    assert content["ties"] == 128  # all classes alike


def test_recorded_answers_are_measured_without_torch(people_folder, tmp_path):
    command = [sys.executable, "-X", "importtime", "-m", "shapebias.run", "--from-csv", str(people_folder)]
    done = subprocess.run([*command, "--output", str(tmp_path)], capture_output=True, encoding="utf-8", check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "pandas" in imported
    assert "torch" not in imported
    assert f"shapebias.run: wrote {tmp_path / 'shapebias' / 'shape-bias.json'}" in done.stderr
    results = {name: read(tmp_path / "shapebias" / f"subject-0{name}.json")["results"] for name in (1, 2)}
    assert results[1]["shape_bias"] == 1.0
    assert results[2]["shape_bias"] == 0.0
    people = read(tmp_path / "shapebias" / "shape-bias.json")["results"]["observers"][0]
    assert (people["name"], people["shape_bias"]) == ("people", 0.5)


def test_our_own_answers_can_be_measured_again(finished, people_folder, tmp_path, capsys):
    raw = str(tmp_path / "out" / "shapebias" / "raw" / "cue-conflict")
    for output in ("again", "again"):
        assert main(["--from-csv", raw, "--humans", str(people_folder), "--output", str(tmp_path / output)]) == 0
    again = read(tmp_path / "again" / "shapebias" / f"{NETWORK}-random-weights.json")["results"]
    assert again["random"] is True
    assert "RANDOM WEIGHTS" in again["label"]
    numbers = [line.split()[-7:] for line in finished.splitlines()[2:4]]
    assert [line.split()[-7:] for line in capsys.readouterr().out.splitlines()[2:4]] == numbers


@pytest.mark.usefixtures("no_pictures")
def test_other_answers_of_the_same_observer_are_refused(people_folder, tmp_path, capsys):
    assert main(["--from-csv", str(people_folder / "1.csv"), "--output", str(tmp_path)]) == 0
    changed = tmp_path / "changed.csv"
    changed.write_text((people_folder / "2.csv").read_text(encoding="utf-8").replace("subject-02", "subject-01"))
    capsys.readouterr()
    assert main(["--from-csv", str(changed), "--output", str(tmp_path)]) == 2
    assert "is a result of other answers" in capsys.readouterr().err
    assert main(["--from-csv", str(changed), "--output", str(tmp_path), "--overwrite"]) == 0


@pytest.mark.usefixtures("no_pictures")
def test_without_network_connection_a_run_goes_on_without_people(people_folder, tmp_path, monkeypatch, capsys, caplog):
    def fail(*_, **__):
        raise DownloadError("cannot download: no answer")

    monkeypatch.setattr("shapebias.answers.datasets.download", fail)
    monkeypatch.setenv("REPLKNET_CACHE", str(tmp_path / "cache"))
    network = tmp_path / "net.csv"
    network.write_text((people_folder / "2.csv").read_text(encoding="utf-8").replace("subject-02", "net"))
    assert main(["--from-csv", str(network), "--output", str(tmp_path)]) == 0
    assert "going on without people" in caplog.text
    assert "people" not in capsys.readouterr().out.partition("\n")[2]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--from-csv", "a.csv", "--model", "resnet50"], "leave out --model"),
        (["--from-probabilities", "a.npz", "--stimuli", "b"], "leave out --model, --weights and --stimuli"),
        (["--from-probabilities", "a.npz", "--preprocessing", "toolbox"], "leave out --preprocessing"),
        (["--from-probabilities", "a.npz", "--from-csv", "a.csv"], "not both"),
        (["--from-csv", "a.csv", "--aggregation", "max"], "--aggregation needs --from-probabilities"),
        (["--batch-size", "0"], "a whole number of at least 1, not '0'"),
        (["--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--model", "resnet50", "resnet50"], "--model names resnet50 twice"),
        (["--model", "a", "b", "--weights", "c.pth"], "name one --model with it"),
        (["--aggregation", "median"], "invalid choice: 'median'"),
        (["--formats", "gif"], "invalid choice: 'gif'"),
    ],
)
def test_arguments_that_make_no_sense_end_with_2(argv, message, capsys):
    with pytest.raises(SystemExit) as ending:
        main(argv)
    assert ending.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--model", "replknet31x", "--weights", "random"], "unknown network 'replknet31x'; did you mean replknet31"),
        (["--model", NETWORK, "--weights", "nowhere.pth"], "--weights nowhere.pth does not exist"),
        (["--model", NETWORK, "--weights", "random", "--stimuli", "nowhere"], "no folder nowhere"),
        (["--model", NETWORK, "--weights", "random", "--humans", "nowhere"], "no folder nowhere"),
        (["--model", NETWORK, "--weights", "random", "--device", "toaster"], "--device toaster cannot be used"),
    ],
)
def test_what_the_user_can_mend_ends_with_2_and_one_line(arguments, more, message, capsys, tmp_path):
    assert main([*arguments, *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_named(arguments, people_folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--from-csv", str(people_folder), "--output", str(tmp_path / "file")]) == 2
    assert f"cannot write {tmp_path / 'file'}" in capsys.readouterr().err


def test_help_shows_runnable_examples_at_once():
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "shapebias.run", "--help"],
        capture_output=True,
        encoding="utf-8",
        check=True,
        env=os.environ,
    )
    seconds = time.perf_counter() - started
    examples = [line.split("shapebias.run ")[1] for line in done.stdout.splitlines() if line.startswith("  python -m")]
    assert len(examples) == 5
    for example in examples:
        build_parser().parse_args(example.split())
    assert seconds < 2  # a fifth of a second on an idle machine; torch alone would take longer than this


def test_defaults_are_the_papers_comparison():
    config = parse_config([])
    assert config.model == DEFAULT_MODELS
    assert (config.weights, config.preprocessing, config.aggregation, config.formats) == (
        ("auto",),
        "model",
        "mean",
        ("png",),
    )


@pytest.mark.data
@pytest.mark.usefixtures("no_pictures")
def test_people_and_networks_as_published(data_dir, tmp_path):
    folders = [str(data_dir / kind / "cue-conflict") for kind in ("human", "cnn")]
    assert main(["--from-csv", *folders, "--output", str(tmp_path)]) == 0
    rows = read(tmp_path / "shapebias" / "shape-bias.json")["results"]["observers"]
    bias = {row["name"]: row["shape_bias"] for row in rows}
    published = {"alexnet": 0.429, "vgg": 0.172, "googlenet": 0.312, "resnet50": 0.221, "people": 0.959}
    assert {name: round(bias[name], 3) for name in published} == published
