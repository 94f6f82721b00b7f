"""Training: it gives a checkpoint that loads, resumes after an interruption, and leaves no untrained tap."""

import json

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.utils import ModelEmaV3

from replknet.train import Recipe, main, zero_unseen_taps
from replknet.training.data import Folders, cut_out, draw_boxes
from replknet.training.evaluation import read_whole
from replknet.training.moving_average import MovingAverage
from replknet.training.taps import describe_taps, taps_in_words

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
    """A folder of two classes that differ in colour: 12 training and 4 validation images."""
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
    low, high = record["top1_interval"]
    assert low < record["top1"] < high or record["top1"] in (0, 100)
    card = stem.with_name(stem.name + ".md").read_text(encoding="utf-8")
    assert f"[{low:.1f}, {high:.1f}]" in card
    assert "read as squares of 160×160 pixels" in card
    in_two_blocks = {"taps": 9 * 16, "unreached": 8 * 2, "zero": 8 * 2}  # at 32 pixels the last map is a single pixel
    assert record["taps"] == {"size_px": 32, **in_two_blocks, "kernels": {"3x3": in_two_blocks}}
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
        return epoch(training, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run_epoch", only_one)
        assert train(two_colours, tmp_path / "parts") == 130
    assert train(two_colours, tmp_path / "parts") == 2  # neither --resume nor --overwrite
    assert train(two_colours, tmp_path / "parts", "--resume", "--lr", "0.1") == 2  # another recipe
    assert train(two_colours, tmp_path / "parts", "--resume") == 0
    name = "replknet3n.imagenette.safetensors"
    assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_trainings_side_by_side_end_as_each_alone(two_colours, tmp_path):
    assert train(two_colours, tmp_path / "together", "--epochs", "1", "--seed", "0", "4") == 0
    assert train(two_colours, tmp_path / "alone", "--epochs", "1", "--seed", "4") == 0
    together = tmp_path / "together" / "replknet3n.imagenette_seed4.safetensors"
    assert together.read_bytes() == (tmp_path / "alone" / together.name).read_bytes()
    first = tmp_path / "together" / "replknet3n.imagenette.safetensors"
    assert first.read_bytes() != together.read_bytes()


def test_boxes_are_those_of_random_resized_crop():
    boxes = draw_boxes(4000, 0.35, torch.Generator().manual_seed(0))
    left, top, width, height, mirrored = boxes.unbind(1)
    assert ((left >= 0) & (top >= 0) & (left + width <= 1 + 1e-6) & (top + height <= 1 + 1e-6)).all()
    assert 0.35 <= (width * height).min() < 0.37
    assert (width * height).max() > 0.97
    assert 3 / 4 - 1e-6 <= (width / height).min() < 0.77
    assert 1.3 < (width / height).max() <= 4 / 3 + 1e-6
    assert abs(mirrored.mean()) < 0.05


def test_validation_images_that_are_held_are_those_of_timm(two_colours):
    folders = Folders(two_colours, workers=0)
    held = [list(folders.val_batches(Recipe(test_size=32))) for _ in range(2)]  # the second time from memory
    for batches in held:
        for (images, labels), (others, their_labels) in zip(batches, read_whole(folders.val_set, 32, 0), strict=True):
            assert torch.equal(images, others)
            assert torch.equal(labels, their_labels)
            assert images.shape == (4, 3, 32, 32)


def test_cut_out_scales_and_mirrors():
    images = (torch.rand(2, 3, 24, 24) * 255).byte()
    whole = torch.tensor([[0.0, 0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0, -1.0]])
    same = cut_out(images, whole, 24)
    torch.testing.assert_close(same[0], images[0].float(), atol=1e-2, rtol=0)
    torch.testing.assert_close(same[1], images[1].float().flip(-1), atol=1e-2, rtol=0)
    ramp = (torch.arange(24) * 10).byte().expand(1, 3, 24, 24)
    quarter = torch.tensor([[0.5, 0.25, 0.5, 0.5, 1.0]])
    inner = (slice(None), slice(None), slice(None), slice(0, 10))  # the last two columns see the border
    torch.testing.assert_close(cut_out(ramp, quarter, 12)[inner], ramp[:, :, 6:18, 12:22].float(), atol=1e-2, rtol=0)
    halved = cut_out(images[:1], whole[:1], 12)  # every pixel the mean of two by two
    torch.testing.assert_close(halved, torch.nn.functional.avg_pool2d(images[:1].float(), 2), atol=1e-2, rtol=0)


def test_the_average_is_that_of_timm():
    model = timm.create_model("replknet3n", num_classes=2)
    ours, timms = MovingAverage(model, 0.9), ModelEmaV3(model, decay=0.9, use_warmup=True)
    for step in range(1, 4):
        with torch.no_grad():
            for value in model.state_dict().values():
                value.add_(1)
        ours.update(model, step)
        timms.update(model, step)
    for found, expected in zip(ours.module.state_dict().values(), timms.module.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_size_rises_in_equal_parts():
    assert [Recipe(start_size=64, size=96, size_step=16, epochs=6).size_at(epoch) for epoch in range(6)] == [
        64,
        64,
        80,
        80,
        96,
        96,
    ]
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


@pytest.mark.parametrize(
    ("kernel", "size", "unreached"),
    [
        (31, 64, 31 * 31 - 31 * 31),  # a map of 16 meets offsets to 15
        (31, 56, 31 * 31 - 27 * 27),  # a map of 14 meets offsets to 13
        (3, 64, 0),
    ],
)
def test_taps_are_counted_by_geometry_and_by_their_values(kernel, size, unreached):
    torch.manual_seed(0)
    stem = torch.nn.Conv2d(3, 4, 4, stride=4)
    conv = torch.nn.Conv2d(4, 4, kernel, padding=kernel // 2, groups=4)
    model = torch.nn.Sequential(stem, conv, torch.nn.Conv2d(4, 4, 1))
    found = describe_taps(model, size)
    assert found["kernels"][f"{kernel}x{kernel}"] == {"taps": kernel**2, "unreached": unreached, "zero": 0}
    assert list(found["kernels"]) == (["31x31", "4x4"] if kernel == 31 else ["4x4", "3x3"])
    assert found["taps"] == kernel**2 + 16
    assert ("all" in taps_in_words(found)) is (unreached == 0)
    with torch.no_grad():
        conv.weight[:, :, 0, 0] = 0
        conv.weight[0, :, 0, 1] = 0  # of one channel alone: the tap is in use
    assert describe_taps(model, size)["zero"] == 1
    zero_unseen_taps(model, size)
    assert describe_taps(model, size)["zero"] == max(1, unreached)
    assert f"{max(1, unreached)} are zero" in taps_in_words(describe_taps(model, size))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epochs", "0"], "--epochs must be at least 1, not 0"),
        (["--cutmix-prob", "2"], "--cutmix-prob must be from 0 to 1, not 2"),
        (["--lr", "0"], "--lr must be above 0, not 0"),
        (["--eval-every", "0"], "--eval-every must be at least 1, not 0"),
        (["--workers", "-1"], "--workers must be at least 0, not -1"),
        (["--seed", "0", "-3"], "--seed must be at least 0, not -3"),
    ],
)
def test_numbers_out_of_range_are_refused_before_the_images_are_read(arguments, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--model", "replknet3n", "--data", "nowhere", *arguments])
    assert message in capsys.readouterr().err
