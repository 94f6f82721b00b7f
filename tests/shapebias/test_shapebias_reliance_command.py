"""`python -m shapebias.reliance`: all steps from a folder of classes to files, tables and pictures."""

import json
import sys

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image
from support import ROOT

from runkit import load_json
from shapebias.answers.suppressed import load_answers
from shapebias.figures import reliance_files
from shapebias.network import suppressed
from shapebias.reliance import main
from shapebias.results.reliance_content import reliance_comparison_schema, reliance_schema
from shapebias.stimuli.suppressions import opencv

pytest.importorskip("cv2")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # timm's spelling in some networks


FOLDER = ROOT / "shapebias" / "results"
SCHEMA = json.loads((FOLDER / "reliance.schema.json").read_text(encoding="utf-8"))
COMPARISON_SCHEMA = json.loads((FOLDER / "reliance-comparison.schema.json").read_text(encoding="utf-8"))


def test_the_schemas_are_those_of_the_types():
    """If this fails, run `python scripts/schemas.py` to write them again."""
    assert reliance_schema() == SCHEMA
    assert reliance_comparison_schema() == COMPARISON_SCHEMA
    for schema in (SCHEMA, COMPARISON_SCHEMA):
        Draft202012Validator.check_schema(schema)


@pytest.fixture
def classes(tmp_path):
    """Ten folders, one for each output of the nano networks, with two images each."""
    rng = np.random.default_rng(0)
    for index in range(10):
        folder = tmp_path / "images" / f"class{index}"
        folder.mkdir(parents=True)
        for i in range(2):
            Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{index}-{i}.png")
    return tmp_path / "images"


def run(tmp_path, *arguments) -> int:
    return main([*map(str, arguments), "--output", str(tmp_path / "out"), "--quiet"])


def test_from_images_to_files(tmp_path, classes, capsys, caplog, request, monkeypatch):
    asked = ("--model", "replknet3n", "resnet18n", "--images", classes, "--report", "--suppress", "colour")
    captions = []
    with monkeypatch.context() as watched:
        add = reliance_files.add_caption
        watched.setattr(reliance_files, "add_caption", lambda figure, text: captions.append(text) or add(figure, text))
        assert run(tmp_path, *asked) == 0
    bars, curves, images, control = captions
    assert bars == curves
    assert "2 networks" in bars
    assert images.startswith("One image under every suppression.")
    assert control.startswith("Means over 16 images, without any network.")
    folder = tmp_path / "out" / "shapebias" / "reliance"
    assert {path.name for path in folder.iterdir()} == {
        *(f"{name}.{end}" for name in ("replknet3n", "resnet18n") for end in ("json", "probabilities.npz")),
        *(f"reliance.{end}" for end in ("json", "csv", "tex", "png")),
        *(f"reliance-{part}.{end}" for part in ("differences", "control") for end in ("csv", "tex")),
        *(f"reliance-{part}.png" for part in ("curves", "images", "control")),
        "reliance-cues.csv",
        "report.html",
    }
    assert capsys.readouterr().out.splitlines()[0].split()[:2] == ["network", "accuracy"]
    content = load_json(folder / "resnet18n.json")
    Draft202012Validator(SCHEMA).validate(content)
    comparison = load_json(folder / "reliance.json")
    Draft202012Validator(COMPARISON_SCHEMA).validate(comparison)
    assert comparison["results"]["control"]["images"] == 16
    assert [row["variant"] for row in comparison["results"]["control"]["variants"]][-1] == "channel-shuffle-1"
    assert "Reliance on shape, texture and colour" in (folder / "report.html").read_text(encoding="utf-8")
    assert content["data"]["classes_matched"] == "folders in sorted order"
    assert content["weights"]["random"] is False
    assert [row["variant"] for row in content["results"]["variants"]][:2] == ["none", "greyscale-0.2"]
    assert set(content["results"]["suppressions"]) <= {"greyscale", "channel-shuffle"}

    request.getfixturevalue("no_pictures")  # they have been drawn once
    assert all("−" not in path.read_text(encoding="utf-8") for path in folder.glob("*.tex"))  # LaTeX does not know it
    before = (folder / "resnet18n.json").read_bytes()
    assert run(tmp_path, *asked) == 0  # finished: kept
    assert (folder / "resnet18n.json").read_bytes() == before
    assert run(tmp_path, *asked[:-1], "greyscale") == 2  # another configuration: refused
    assert "resnet18n.json is of another configuration" in caplog.text
    capsys.readouterr()

    assert run(tmp_path, "--from-probabilities", *folder.glob("*.probabilities.npz"), "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in again["networks"]] == ["replknet3n", "resnet18n"]
    measured_again = load_json(folder / "reliance.json")
    Draft202012Validator(COMPARISON_SCHEMA).validate(measured_again)
    assert measured_again["results"]["control"] is None  # without images
    for key in ("networks", "differences"):
        assert measured_again["results"][key] == comparison["results"][key]
    assert set(again) == {"program", "networks", "files", "skipped", "failed"}

    saved = [str(path) for path in folder.glob("*.probabilities.npz")]
    assert run(tmp_path, "--from-probabilities", *saved, "--unlabelled", "--report") == 0
    content = load_json(folder / "reliance.json")
    Draft202012Validator(COMPARISON_SCHEMA).validate(content)
    assert content["results"]["networks"][0]["chance"] is None
    changed = [one["changed"] for one in comparison["results"]["networks"][0]["variants"]]
    assert [one["changed"] for one in content["results"]["networks"][0]["variants"]] == changed
    assert run(tmp_path, "--from-probabilities", saved[0], saved[0]) == 2


def test_an_interrupted_run_goes_on_to_the_same_answers(no_pictures, tmp_path, classes, monkeypatch, capsys):
    asked = ("--model", "resnet18n", "--images", classes, "--suppress", "greyscale", "--control", "0")
    asked += ("--batch-size", "8")
    keep, calls = suppressed.keep_top, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return keep(*arguments)

    folder = tmp_path / "out" / "shapebias" / "reliance"
    monkeypatch.setattr(suppressed, "keep_top", interrupted)
    assert run(tmp_path, *asked) == 130
    assert [path.name for path in folder.iterdir()] == ["resnet18n.probabilities.partial.npz"]
    assert run(tmp_path, *asked) == 2  # an unfinished run is not passed over
    assert "--resume" in capsys.readouterr().err
    assert run(tmp_path, *asked, "--resume") == 0
    assert len(calls) == 5 + 11  # of 15 batches four were saved
    assert not (folder / "resnet18n.probabilities.partial.npz").exists()
    one = load_answers(folder / "resnet18n.probabilities.npz")
    assert run(tmp_path / "whole", *asked) == 0
    other = load_answers(tmp_path / "whole" / "out" / "shapebias" / "reliance" / "resnet18n.probabilities.npz")
    for name in ("top_outputs", "top_probabilities", "label_probability", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


RIGHT = """
import torch
from torch import nn


class Colours(nn.Module):
    mean, std, input_size = (0.0,) * 3, (1.0,) * 3, (32, 32)

    def forward(self, x):
        return 9 * x.mean(dim=(2, 3))  # the first output is that of red images


def build():
    return Colours()
"""


@pytest.fixture
def colours(tmp_path) -> list[str]:
    """Options for a network that is always right about two folders: `red_fox` is its first output, `cat` its second."""
    for name, colour in (("red_fox", "red"), ("cat", "lime")):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (40, 40), colour).save(tmp_path / "colours" / name / f"{i}.png")
    (tmp_path / "colours.py").write_text(RIGHT, encoding="utf-8")
    return [
        *("--model", f"{tmp_path / 'colours.py'}:build", "--images", str(tmp_path / "colours")),
        *("--suppress", "greyscale", "--control", "0"),
    ]


@pytest.mark.parametrize(
    "text", ["red_fox\ncat\n-\n", "\ufeffred_fox\ncat\n-\n", "Red fox\ncat\n-", "red_fox its fur\ncat its eyes\n-\n"]
)
def test_class_files_say_which_folder_is_which_output(no_pictures, tmp_path, colours, capsys, text):
    file = tmp_path / "classes.txt"
    file.write_text(text, encoding="utf-8")
    assert run(tmp_path, *colours, "--classes", file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["networks"][0]["accuracy"] == 1
    content = load_json(tmp_path / "out" / "shapebias" / "reliance" / "colours.py-build.json")
    Draft202012Validator(SCHEMA).validate(content)
    assert content["data"]["classes_matched"] == "folders by the lines of --classes"


def test_probabilities_of_a_network_are_taken_as_they_are(no_pictures, tmp_path, colours, caplog):
    code = tmp_path / "colours.py"
    saved = tmp_path / "out" / "shapebias" / "reliance" / "colours.py-build.probabilities.npz"
    file = tmp_path / "classes.txt"
    file.write_text("red_fox\ncat\n-\n", encoding="utf-8")
    asked = [*colours, "--classes", file]
    assert run(tmp_path, *asked) == 0
    expected = load_answers(saved).top_probabilities
    code.write_text(RIGHT.replace("dim=(2, 3))", "dim=(2, 3)).softmax(dim=1)").replace("9 * x.mean", "(9 * x).mean"))
    assert run(tmp_path, *asked, "--overwrite") == 0
    np.testing.assert_allclose(load_answers(saved).top_probabilities, expected, atol=1e-6)
    assert "colours.py:build returns probabilities, not logits" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red_fox\ncat\n", "has 3 outputs, but --classes"),
        ("red_fox\ncat\n-\n-\n", "has 3 outputs, but --classes"),
        ("red\ncat\n-\n", "no line is the name of the folder 'red_fox'"),
        ("red_fox\ncat\nred_fox\n", "the folder 'red_fox' is named by lines 1"),
    ],
)
def test_class_files_that_do_not_fit_are_refused(tmp_path, colours, capsys, text, message):
    file = tmp_path / "classes.txt"
    file.write_text(text, encoding="utf-8")
    assert run(tmp_path, *colours, "--classes", file) == 2
    assert message in capsys.readouterr().err


def test_a_name_of_several_imagenet_classes_is_not_resolved():
    names = suppressed.name_outputs(1000)
    assert names["crane"] == [134, 517]
    ambiguous = [name for name, outputs in names.items() if len(outputs) > 1]
    assert {"cardigan", "missile", "maillot", "panda"} < set(ambiguous)
    assert len(ambiguous) == 19


def test_a_network_at_chance_is_named(no_pictures, tmp_path, classes, caplog):
    assert (
        run(tmp_path, "--model", "resnet18n", "--weights", "random", "--images", classes, "--suppress", "greyscale")
        == 0
    )
    assert "so it has no reliance; show it more images, or trained weights" in caplog.text


def test_answers_of_another_run_are_not_taken_for_those_of_the_result(no_pictures, tmp_path, classes, capsys):
    asked = ("--model", "resnet18n", "--images", classes, "--suppress", "greyscale", "--control", "0")
    assert run(tmp_path, *asked) == 0
    assert run(tmp_path / "random", *asked, "--weights", "random") == 0
    trained, random = (
        folder / "out" / "shapebias" / "reliance" / "resnet18n.probabilities.npz"
        for folder in (tmp_path, tmp_path / "random")
    )
    trained.write_bytes(random.read_bytes())
    capsys.readouterr()
    assert run(tmp_path, *asked) == 2
    assert f"{trained} and resnet18n.json are of different runs" in capsys.readouterr().err
    assert run(tmp_path, *asked, "--overwrite") == 0
    assert "RANDOM" not in capsys.readouterr().out


def test_without_labels(no_pictures, tmp_path, classes, capsys):
    assert run(tmp_path, "--model", "resnet18n", "--images", classes, "--unlabelled", "--suppress", "greyscale") == 0
    assert "accuracy" not in capsys.readouterr().out
    content = load_json(tmp_path / "out" / "shapebias" / "reliance" / "resnet18n.json")
    assert content["results"]["variants"][1]["accuracy"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "resnet18n"], "--images DIR is missing"),
        (["--model", "resnet18n", "--images", "IMAGES", "--suppress", "blur"], "unknown suppression 'blur'"),
        (
            ["--model", "tf_efficientnet_lite0.in1k", "--images", "IMAGES"],
            "has 1000 outputs and there are 10 class folders",
        ),
    ],
)
def test_what_is_refused(tmp_path, classes, capsys, arguments, message):
    arguments = [str(classes) if word == "IMAGES" else word for word in arguments]
    assert run(tmp_path, *arguments) == 2
    assert message in capsys.readouterr().err


def test_without_opencv_no_network_is_built(tmp_path, classes, capsys, monkeypatch):
    def build(*_, **__):
        raise AssertionError("a network is built")

    opencv.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)
    monkeypatch.setattr("replknet.zoo.load_model", build)
    assert run(tmp_path, "--model", "replknet3n", "--images", classes) == 2
    assert "pip install 'replknet-analysis[reliance]'" in capsys.readouterr().err
    opencv.cache_clear()


def test_what_saved_answers_were_not_asked_alone_is_refused(no_pictures, tmp_path, classes, capsys, caplog):
    asked = ["--model", "resnet18n", "--images", classes, "--suppress", "greyscale", "--control", "0"]
    assert run(tmp_path, *asked, "--num-images", "99") == 0
    assert f"--num-images 99: there are only 20 images in {classes}; all are used" in caplog.text
    saved = ["--from-probabilities", tmp_path / "out" / "shapebias" / "reliance" / "resnet18n.probabilities.npz"]
    assert run(tmp_path, *saved, "--suppress", "greyscale") == 0
    capsys.readouterr()
    assert run(tmp_path, *saved, "--suppress", "shape") == 2
    assert "--suppress shape: resnet18n was shown greyscale" in capsys.readouterr().err


def test_saved_answers_are_not_shown_with_other_images_of_the_same_names(no_pictures, tmp_path, classes, capsys):
    asked = ["--model", "resnet18n", "--suppress", "greyscale", "--control", "2"]
    assert run(tmp_path, *asked, "--images", classes) == 0
    saved = tmp_path / "out" / "shapebias" / "reliance" / "resnet18n.probabilities.npz"
    measuring = ["--from-probabilities", saved, "--control", "2", "--images", classes]
    assert run(tmp_path, *measuring) == 0
    for path in classes.glob("*/*.png"):
        Image.new("RGB", (40, 50), "grey").save(path)
    capsys.readouterr()
    assert run(tmp_path, *measuring) == 2
    assert f"--images {classes} holds other images of the same names than resnet18n was" in capsys.readouterr().err
    path.unlink()
    assert run(tmp_path, *measuring) == 2
    assert f"cannot read {path}" in capsys.readouterr().err


def test_a_dry_run(tmp_path, classes, capsys):
    assert run(tmp_path, "--model", "resnet18n", "--images", classes, "--suppress", "colour", "--dry-run") == 0
    assert "20 images" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"just text", b"PK\x03\x04 and then nothing", b""])
def test_a_file_that_holds_no_answers_is_refused_in_one_line(tmp_path, capsys, content):
    path = tmp_path / "net.probabilities.npz"
    if content is not None:
        path.write_bytes(content)
    assert run(tmp_path, "--from-probabilities", path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pickle" not in line  # no advice to load it unsafely
    assert f"{path} holds no answers" in line or f"{path} does not exist" in line
