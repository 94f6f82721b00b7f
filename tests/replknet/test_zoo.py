"""`load_model`: which weights a network gets, and their record."""

import logging

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from support import randomize_norms

from replknet import load_model, resolve_weights
from replknet.weights.checkpoint import CheckpointError
from replknet.weights.sources import WeightsUnavailable
from replknet.weights.switched_off import describe_branches, find_branches
from runkit import UserError


@pytest.mark.usefixtures("no_network")
def test_auto_falls_back_to_random_and_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        loaded = load_model("resnet18", seed=3)
    assert loaded.record.random
    assert loaded.record.label == "RANDOM WEIGHTS (seed 3)"
    assert loaded.record.as_dict()["random"] is True
    assert "RANDOM WEIGHTS (seed 3)" in caplog.text
    assert "does not answer" in caplog.text
    assert "trained weights that are installed: " in caplog.text
    assert "tf_efficientnet_lite0.in1k" in caplog.text


@pytest.mark.usefixtures("no_network")
def test_pretrained_never_falls_back():
    with pytest.raises(WeightsUnavailable, match=r"resnet18\.a1_in1k"):
        load_model("resnet18", "pretrained")


def test_random_weights_follow_the_seed_and_leave_the_global_state():
    torch.manual_seed(1)
    state = torch.get_rng_state()
    a, b, c = (load_model("resnet18", "random", seed=s).model.conv1.weight for s in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_random_residual_branches_take_part(caplog):
    """timm initialises them to zero; without them, a random ResNet sees only a few pixels."""
    with caplog.at_level(logging.INFO):
        loaded = load_model("resnet18", "random")
    assert caplog.messages == [
        "resnet18: an untrained network of this kind starts with residual branches that add almost nothing to the "
        "shortcuts; here they take full part: weight of the last "
        "normalisation set from 0 to 1 in layer1.0, layer1.1, layer2.0 and 5 more blocks"
    ]
    norms = [m for m in loaded.model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert all(norm.weight.all() for norm in norms)
    assert "8 zero-initialised normalisation weights set to 1" in loaded.record.init
    assert load_model("replknet3", "random").record.init == "timm's"


def test_layer_scales_are_said_by_the_blocks_they_belong_to():
    (said,) = [describe_branches(find_branches(timm.create_model(name))) for name in ("convnext_atto",)]
    assert said.startswith(
        "layer scale set from 1e-06 to 1 in stages.0.blocks.0, stages.0.blocks.1, stages.1.blocks.0 and "
    )
    assert said.endswith(" more blocks")


def test_trained_weights_that_cannot_be_had_name_the_flag_that_refuses(caplog, no_network):
    with caplog.at_level(logging.WARNING):
        load_model("resnet18.a1_in1k")
    assert caplog.messages[0].startswith(
        "resnet18.a1_in1k: RANDOM WEIGHTS (seed 0) are used (--weights pretrained would stop instead): "
    )


def test_trained_weights_offline(caplog):
    with caplog.at_level(logging.WARNING):
        loaded = load_model("tf_efficientnet_lite0")
    assert caplog.text == ""
    assert loaded.record.model == "tf_efficientnet_lite0.in1k"
    assert loaded.preprocessing.mean == (0.5, 0.5, 0.5)
    assert len(loaded.record.sha256) == 64


@pytest.mark.slow
def test_trained_weights_classify_photographs(data_dir):
    """At least 85 of 100 ImageNet samples, one of every tenth class, are recognised."""
    loaded = load_model("tf_efficientnet_lite0.in1k", "pretrained")
    transform = timm.data.create_transform(**timm.data.resolve_data_config({}, model=loaded.model))
    folders = sorted((data_dir / "imagenet-samples").iterdir())
    images = torch.stack([transform(Image.open(next(folder.iterdir())).convert("RGB")) for folder in folders])
    with torch.inference_mode():
        predicted = loaded.model(images).argmax(1)
    assert (predicted == torch.arange(0, 1000, 10)).sum() >= 85


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("replknet31", "unknown network 'replknet31'; did you mean replknet31"),
        ("zzzz", "timm.list_models"),
        ("resnet101.tv_in2k", "no weights 'tv_in2k'; its tags are .*tv_in1k"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(UserError, match=message):
        resolve_weights(name)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_checkpoint_by_path(tmp_path, suffix):
    source = timm.create_model("resnet18").eval()
    path = tmp_path / f"mine{suffix}"
    save_file(source.state_dict(), path) if suffix == ".safetensors" else torch.save(source.state_dict(), path)
    loaded = load_model("resnet18", str(path))
    assert (loaded.record.source, loaded.record.file) == ("file", path.name)
    assert loaded.record.label == f"weights {path.name}"
    assert loaded.model.pretrained_cfg["state_dict"] is None
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.model(x), source(x))


def test_torchvision_layout(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    theirs = randomize_norms(torchvision.models.resnet18()).eval()
    torch.save(theirs.state_dict(), tmp_path / "tv.pth")
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(load_model("resnet18", str(tmp_path / "tv.pth")).model(x), theirs(x))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv1.weight"}, "missing conv1.weight"),
        (lambda s: {**s, "extra.weight": torch.ones(1)}, "unexpected extra.weight"),
        (
            lambda s: {**s, "conv1.weight": torch.ones(64, 3, 3, 3)},
            r"conv1.weight has shape \[64, 3, 3, 3\], the network",
        ),
        (lambda s: {"foo": torch.ones(1)}, "missing conv1.weight and 1.. more; unexpected foo"),
    ],
)
def test_checkpoint_of_another_network(tmp_path, change, message):
    torch.save(change(timm.create_model("resnet18").state_dict()), tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message):
        load_model("resnet18", str(tmp_path / "a.pth"))


def test_merged_replknet_checkpoint(tmp_path):
    source = randomize_norms(timm.create_model("replknet3", kernel_sizes=13)).eval()
    source.reparameterize()
    torch.save({"model": source.state_dict()}, tmp_path / "merged.pth")
    loaded = load_model("replknet13", str(tmp_path / "merged.pth"))
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(loaded.model(x), source(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["swin_tiny_patch4_window7_224", "vit_tiny_patch16_224"])
def test_networks_of_fixed_size_are_built_for_the_input(name):
    loaded = load_model(name, "random", input_size=288)
    assert loaded.model_args == {"img_size": (288, 288)}
    maps = loaded.model.forward_intermediates(
        torch.randn(1, 3, 288, 288), indices=1, intermediates_only=True, output_fmt="NCHW"
    )
    assert maps[0].shape[-1] in (9, 18)
    assert load_model("resnet18", "random", input_size=288).model_args == {}
