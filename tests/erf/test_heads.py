"""Checkpoints whose head differs from the network's: the map does not depend on it, and the result mentions it."""

import json

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision import models

import erf
from erf.figures.caption import caption
from erf.visualize import main
from replknet import load_model

pytestmark = pytest.mark.usefixtures("no_network", "no_pictures")


class Segmenter(nn.Module):
    """A network whose output is a map that its head computes."""

    def __init__(self, classes=3):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 8, 5, padding=2), nn.Conv2d(8, classes, 1)

    def forward(self, x):
        return self.head(self.body(x).relu())


@pytest.fixture
def run(photo_folder, tmp_path):
    def call(*arguments):
        base = ["--images", str(photo_folder), "--size", "64", "--output", str(tmp_path / "out"), "--device", "cpu"]
        code = main([*base, "--overwrite", *arguments])
        found = sorted((tmp_path / "out" / "erf").glob("*.npz"))
        return code, erf.load_result(found[0]) if found else None

    return call


def trained(**options):
    return timm.create_model("test_resnet", **options)


def test_a_finetuned_network_with_its_average(run, tmp_path):
    """A checkpoint of ten classes with raw and averaged weights: the average is used, with its backbone's map."""
    raw, average = trained(num_classes=10), trained(num_classes=10)
    torch.save({"state_dict": raw.state_dict(), "state_dict_ema": average.state_dict()}, tmp_path / "best.pth.tar")
    code, result = run("--model", "test_resnet", "--weights", str(tmp_path / "best.pth.tar"))
    assert code == 0
    weights = result.provenance["weights"]
    assert weights["head"] == "10 classes, head not used"
    assert weights["averaged"]
    assert result.weights_label == "weights best.pth.tar (averaged, state_dict_ema)"
    assert "Checkpoint: 10 classes, head not used" in caption([result])
    expected = erf.analyze(average, tmp_path / "photos", size=64, device="cpu")
    assert np.array_equal(result.contribution, expected.contribution)
    code, other = run("--model", "test_resnet", "--weights", f"{tmp_path / 'best.pth.tar'}#state_dict")
    assert code == 0
    assert not np.array_equal(other.contribution, result.contribution)


def test_a_lightning_file_without_a_head(run, tmp_path):
    tensors = {f"model.{key}": value for key, value in trained(num_classes=0).state_dict().items()}
    content = {
        "state_dict": {**tensors, "loss.weight": torch.ones(2)},
        "epoch": 3,
        "pytorch-lightning_version": "2.4.0",
    }
    torch.save(content, tmp_path / "last.ckpt")
    code, result = run("--model", "test_resnet", "--weights", str(tmp_path / "last.ckpt"))
    assert code == 0
    assert result.provenance["weights"]["head"] == "none, head not used"


@pytest.mark.parametrize("classes", [7, 0])
def test_a_network_of_torchvision(run, tmp_path, classes):
    network = models.resnet18(weights=None, num_classes=classes or 1000)
    tensors = {key: value for key, value in network.state_dict().items() if classes or "fc." not in key}
    torch.save(tensors, tmp_path / "mine.pth")
    code, result = run("--model", "torchvision/resnet18", "--weights", str(tmp_path / "mine.pth"), "--layer", "layer4")
    assert code == 0
    assert result.provenance["weights"]["head"] == ("7 classes, head not used" if classes else "none, head not used")
    expected = erf.analyze(network, tmp_path / "photos", size=64, device="cpu", layer="layer4")
    assert np.array_equal(result.contribution, expected.contribution)
    loaded = load_model("torchvision/resnet18", str(tmp_path / "mine.pth"))
    assert loaded.head == ("fc.weight", "fc.bias")
    assert loaded.model(torch.zeros(1, 3, 64, 64)).shape == (1, classes or 1000)


def test_a_head_that_makes_the_map_is_used(run, tmp_path):
    """A segmentation network with five classes in the file: its output is a map of these, from the file's head."""
    network = Segmenter(5)
    torch.save(network.state_dict(), tmp_path / "five.pth")
    code, result = run("--model", f"{__file__}:Segmenter", "--weights", str(tmp_path / "five.pth"))
    assert code == 0
    assert result.provenance["weights"]["head"] == "5 classes"
    expected = erf.analyze(network, tmp_path / "photos", size=64, device="cpu")
    assert np.array_equal(result.contribution, expected.contribution)


def test_a_map_of_a_head_that_is_not_in_the_file_is_refused(run, tmp_path, capsys):
    tensors = {key: value for key, value in Segmenter().state_dict().items() if "head" not in key}
    torch.save(tensors, tmp_path / "body.pth")
    arguments = ["--model", f"{__file__}:Segmenter", "--weights", str(tmp_path / "body.pth")]
    assert run(*arguments)[0] == 2
    assert (
        "body.pth holds no head.weight, head.bias, of which the map of layer 'last' is made" in capsys.readouterr().err
    )
    assert run(*arguments, "--layer", "body")[0] == 0


def test_what_does_not_fit_elsewhere_is_still_refused(run, tmp_path, capsys):
    tensors = Segmenter().state_dict()
    del tensors["body.bias"]
    torch.save({**tensors, "head.weight": torch.zeros(5, 8, 1, 1), "head.bias": torch.zeros(5)}, tmp_path / "bad.pth")
    assert run("--model", f"{__file__}:Segmenter", "--weights", str(tmp_path / "bad.pth"))[0] == 2
    assert "missing body.bias" in capsys.readouterr().err


def test_the_head_is_in_the_json_and_fits_its_schema(run, tmp_path):
    torch.save(trained(num_classes=10).state_dict(), tmp_path / "ten.pth")
    assert run("--model", "test_resnet", "--weights", str(tmp_path / "ten.pth"))[0] == 0
    content = json.loads((tmp_path / "out" / "erf" / "test_resnet.json").read_text(encoding="utf-8"))
    assert content["weights"]["head"] == "10 classes, head not used"
