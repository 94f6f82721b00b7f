"""Weights shipped with the package: file, card and manifest agree, they load offline, and their accuracy is good."""

import csv
import json

import pytest
import timm
import torch
from torchvision.datasets import ImageFolder

from replknet import load_model
from replknet.training.taps import describe_taps
from replknet.weights.imagenette import CHECKPOINTS, TAG
from runkit import sha256_of_file
from runkit.fetch.manifest import known_files

NETWORKS = [tag.partition(".")[0] for tag in known_files("packaged_weights") if tag.endswith(f".{TAG}")]


def card(name):
    return json.loads((CHECKPOINTS / f"{name}.{TAG}.json").read_text(encoding="utf-8"))


def test_every_registered_network_is_shipped():
    registered = timm.list_models(f"*.{TAG}", include_tags=True)
    assert sorted(registered) == sorted(f"{name}.{TAG}" for name in NETWORKS)


@pytest.mark.parametrize("name", NETWORKS)
def test_file_card_and_manifest_agree(name):
    about, known = card(name), known_files("packaged_weights")[f"{name}.{TAG}"]
    path = CHECKPOINTS / about["file"]["name"]
    assert sha256_of_file(path) == about["file"]["sha256"] == known.sha256
    assert path.stat().st_size == about["file"]["size"] == known.size <= 6_000_000
    assert known.path == f"replknet/checkpoints/{path.name}"
    curve = list(csv.DictReader((CHECKPOINTS / f"{name}.{TAG}.csv").read_text(encoding="utf-8").splitlines()))
    assert len(curve) == about["recipe"]["epochs"]
    assert about["file"]["sha256"] in (CHECKPOINTS / f"{name}.{TAG}.md").read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("name", NETWORKS)
def test_they_load_without_a_network(name):
    loaded = load_model(f"{name}.{TAG}", "auto")
    assert (loaded.record.source, loaded.record.sha256_verified) == ("package", "full")
    assert not loaded.record.random
    by_timm = timm.create_model(name, pretrained=True).eval()
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(x), by_timm(x))


def test_all_were_trained_alike():
    recipes = [card(name)["recipe"] for name in NETWORKS]
    assert all(recipe == recipes[0] for recipe in recipes)
    data = [card(name)["data"] for name in NETWORKS]
    assert all(part == data[0] for part in data)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_tap_is_untrained_for_want_of_an_image(name):
    """By geometry, from the size of the training images; also, no tap in the file is zero."""
    about = card(name)
    taps = describe_taps(load_model(f"{name}.{TAG}", "pretrained").model, about["recipe"]["size"])
    assert (taps["unreached"], taps["zero"]) == (0, 0)
    assert taps == about["taps"]
    sides = [int(size.partition("x")[0]) for size in taps["kernels"]]
    assert sides[0] == {"replknet31n": 31, "replknet13n": 13, "replknet7n": 7, "replknet3n": 3, "resnet18n": 7}[name]


def test_they_are_small_enough_for_the_repository():
    assert sum(path.stat().st_size for path in CHECKPOINTS.iterdir()) < 25_000_000


def test_all_are_good_and_alike():
    """Otherwise a difference between receptive fields could result from a difference in accuracy."""
    top1 = [card(name)["top1"] for name in NETWORKS]
    assert min(top1) >= 85
    assert max(top1) - min(top1) <= 3


@pytest.mark.parametrize("name", NETWORKS)
def test_accuracy_is_that_of_the_card(name, data_dir):
    """Measured on every 16th validation image: 246 images, with a standard error of 2.3 points."""
    loaded = load_model(f"{name}.{TAG}", "pretrained")
    cfg = timm.data.resolve_data_config({}, model=loaded.model)
    folder = ImageFolder(str(data_dir / "imagenette-160" / "val"), timm.data.create_transform(**cfg))
    images, labels = zip(*(folder[i] for i in range(0, len(folder), 16)), strict=True)
    with torch.inference_mode():
        answers = loaded.model(torch.stack(images)).argmax(dim=1)
    top1 = 100 * (answers == torch.tensor(labels)).float().mean().item()
    assert top1 == pytest.approx(card(name)["top1"], abs=8)
