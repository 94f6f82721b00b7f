"""Evaluation of weights that were trained elsewhere: it reproduces the training's numbers and rewrites the card."""

import json

import numpy as np
import pytest
from PIL import Image

from replknet import evaluate, train

RECIPE = [
    "--epochs",
    "1",
    "--start-size",
    "32",
    "--size",
    "64",
    "--test-size",
    "64",
    "--batch-size",
    "4",
    "--warmup-epochs",
]
RECIPE += ["0", "--workers", "0"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with two classes of noise, and a folder with weights that were trained on them."""
    root, rng = tmp_path_factory.mktemp("evaluate"), np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 5)):
        for label in range(2):
            folder = root / "data" / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    arguments = ["--model", "replknet3n", "--data", str(root / "data"), "--output", str(root / "weights"), *RECIPE]
    assert train.main(arguments) == 0
    return root


def run(folder, *options):
    weights = str(folder / "weights" / "replknet3n.imagenette.safetensors")
    return evaluate.main([weights, "--data", str(folder / "data"), "--workers", "0", *options])


def test_the_record_of_the_training_stays_and_the_numbers_are_found_again(trained, tmp_path):
    before = json.loads((trained / "weights" / "replknet3n.imagenette.json").read_text(encoding="utf-8"))
    assert run(trained, "--output", str(tmp_path / "out"), "--note", "photographs squashed to squares") == 0
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == [f"replknet3n.imagenette.{end}" for end in ("csv", "json", "md", "safetensors")]
    for name in (names[0], names[3]):
        assert (tmp_path / "out" / name).read_bytes() == (trained / "weights" / name).read_bytes()
    after = json.loads((tmp_path / "out" / names[1]).read_text(encoding="utf-8"))
    found = after.pop("evaluation")
    assert after.pop("note") == "photographs squashed to squares"
    assert after == before  # the accuracy is the same, and so are the taps
    assert (found["size_px"], found["val_images"]) == (64, 10)
    assert found["correct"] == round(before["top1"] / 10)
    card = (tmp_path / "out" / names[2]).read_text(encoding="utf-8")
    assert "| images | photographs squashed to squares; read as squares of 160×160 pixels" in card
    assert f"| evaluated | {found['started']}" in card
    assert "10 validation images, central 64×64 pixels" in card
    assert f"| time | {before['training_seconds'] / 60:.0f} minutes" in card


def test_another_size_is_what_the_card_says(trained, tmp_path):
    assert run(trained, "--output", str(tmp_path), "--test-size", "32") == 0
    assert "central 32×32 pixels" in (tmp_path / "replknet3n.imagenette.md").read_text(encoding="utf-8")


def test_what_does_not_belong_together_is_refused(trained, tmp_path, capsys):
    weights = trained / "weights" / "replknet3n.imagenette.safetensors"
    for end in ("safetensors", "json"):
        (tmp_path / f"a.b.{end}").write_bytes(weights.with_suffix(f".{end}").read_bytes())
    arguments = [str(tmp_path / "a.b.safetensors"), "--data", str(trained / "data")]
    assert evaluate.main(arguments) == 2
    assert "a.b.csv is missing" in capsys.readouterr().err
    (tmp_path / "a.b.csv").write_text("epoch\n", encoding="utf-8")
    (trained / "other" / "val" / "class9").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(trained / "other" / "val" / "class9" / "0.png")
    assert evaluate.main([arguments[0], "--data", str(trained / "other")]) == 2
    assert "other class folders" in capsys.readouterr().err
    (tmp_path / "a.b.safetensors").write_bytes(b"")
    assert evaluate.main(arguments) == 2
    assert "SHA-256 differs" in capsys.readouterr().err
    assert evaluate.main([str(tmp_path / "none.safetensors"), "--data", str(trained / "data")]) == 2
    assert "none.safetensors is not a file" in capsys.readouterr().err
