"""Training: the recipe ends in a checkpoint that loads, goes on after an interruption, and leaves no untrained tap."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from replknet.train import Recipe, main, zero_unseen_taps

RECIPE = [
    "--epochs",
    "2",
    "--start-size",
    "32",
    "--size",
    "32",
    "--test-size",
    "32",
    "--batch-size",
    "4",
    "--warmup-epochs",
    "0",
]


@pytest.fixture
def two_colours(tmp_path):
    """A folder of two classes, told apart by their colour: 12 training and 4 validation images."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 6), ("val", 2)):
        for label in range(2):
            folder = tmp_path / "data" / part / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 120, (40, 44, 3), dtype=np.uint8)
                pixels[..., 2 * label] += 130
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "data"


def train(data, folder, *options):
    return main(
        ["--model", "replknet3n", "--data", str(data), "--output", str(folder), "--workers", "0", *RECIPE, *options]
    )


def test_a_run_leaves_a_checkpoint_with_its_card(two_colours, tmp_path):
    assert train(two_colours, tmp_path) == 0
    stem = tmp_path / "replknet3n.imagenette"
    record = json.loads(stem.with_name(stem.name + ".json").read_text(encoding="utf-8"))
    assert record["data"] | {"sha256_of_names": None} == {
        "classes": ["class0", "class1"],
        "train_images": 12,
        "val_images": 4,
        "sha256_of_names": None,
    }
    assert record["recipe"]["epochs"] == 2
    weights = load_file(stem.with_name(record["file"]["name"]))
    assert {v.dtype for v in weights.values() if v.is_floating_point()} == {torch.float16}
    timm.create_model("replknet3n", num_classes=2).load_state_dict(weights)
    assert len(stem.with_name(stem.name + ".csv").read_text(encoding="utf-8").splitlines()) == 3
    assert record["file"]["sha256"] in stem.with_name(stem.name + ".md").read_text(encoding="utf-8")
    assert not list(tmp_path.glob("*.progress.pt"))


def test_an_interrupted_run_ends_in_the_same_bits(two_colours, tmp_path, monkeypatch):
    assert train(two_colours, tmp_path / "whole") == 0
    from replknet.train import Training

    epoch = Training.run_epoch

    def only_one(training, **options):
        if training.log:
            raise KeyboardInterrupt
        epoch(training, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", only_one)
        assert train(two_colours, tmp_path / "parts") == 130
    assert train(two_colours, tmp_path / "parts") == 2  # neither --resume nor --overwrite
    assert train(two_colours, tmp_path / "parts", "--resume", "--lr", "0.1") == 2  # another recipe
    assert train(two_colours, tmp_path / "parts", "--resume") == 0
    name = "replknet3n.imagenette.safetensors"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_size_rises_in_equal_parts():
    assert [Recipe(start_size=64, epochs=6).size_at(epoch) for epoch in range(6)] == [64, 64, 80, 80, 96, 96]
    assert {Recipe(start_size=32, size=32, epochs=3).size_at(epoch) for epoch in range(3)} == {32}


@pytest.mark.parametrize(
    "options", [["--model", "replknet3m"], ["--opt", "nmoun"], ["--batch-size", "64"], ["--data", "nowhere"]]
)
def test_wrong_arguments_are_told(two_colours, tmp_path, options, capsys):
    assert train(two_colours, tmp_path, *options) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_taps_that_meet_only_padding_start_and_stay_at_zero():
    """At 32 pixels the stages of a RepLKNet have maps of 8, 4, 2 and 1 pixels."""
    torch.manual_seed(0)
    model = timm.create_model("replknet31n", num_classes=2)
    x = torch.randn(4, 3, 32, 32)
    model.eval()
    with torch.no_grad():
        before = model(x)
        changed = zero_unseen_taps(model, 32)
        torch.testing.assert_close(model(x), before)
    large = [m.conv.weight for name, m in model.named_modules() if name.endswith("lkb_origin")]
    reach = [int((w != 0).any(0).any(0).any(0).sum()) for w in large]
    assert reach == [15, 15, 7, 7, 3, 3, 3, 3, 1, 1]
    seen = sum(w.shape[0] * n * n for w, n in zip(large, reach, strict=True))
    assert changed >= sum(w.numel() for w in large) - seen  # and some of the small kernels
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()
    assert [int((w != 0).any(0).any(0).any(0).sum()) for w in large] == reach
