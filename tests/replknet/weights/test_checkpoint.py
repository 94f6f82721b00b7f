"""Reading checkpoints safely, and finding the weights in files saved by training programs."""

import argparse
import collections
import pathlib
import pickle
import random
import re

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from replknet import load_model
from replknet.weights.checkpoint import Checkpoint, CheckpointError, read_checkpoint, strip_prefix, wrong_types

STATE = {"a.weight": torch.arange(3.0), "b": torch.ones(2, 2)}
OTHER = {key: value + 1 for key, value in STATE.items()}


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s}])
def test_read_pth(tmp_path, wrap):
    torch.save(wrap(STATE), tmp_path / "a.pth")
    read = read_checkpoint(tmp_path / "a.pth").tensors
    assert list(read) == list(STATE)
    assert all(torch.equal(read[key], STATE[key]) for key in STATE)


def test_read_safetensors_and_data_parallel_names(tmp_path):
    save_file({f"module.{key}": value for key, value in STATE.items()}, tmp_path / "a.safetensors")
    assert sorted(read_checkpoint(tmp_path / "a.safetensors").tensors) == sorted(STATE)


def test_training_scripts_save_their_arguments_beside(tmp_path):
    torch.save({"model": STATE, "args": argparse.Namespace(lr=1e-3)}, tmp_path / "a.pth")
    assert list(read_checkpoint(tmp_path / "a.pth").tensors) == list(STATE)


class _WritesFile:
    """An object that creates the file `path` when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_pickle_that_runs_code_is_refused(tmp_path, form):
    evil = {"model": STATE, "extra": _WritesFile(tmp_path / "written")}
    path = tmp_path / "evil.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps(evil["extra"], protocol=2))
        pickle.loads(path.read_bytes()).close()  # it is as evil as it should be
        (tmp_path / "written").unlink()
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        CheckpointError, match=r"wants to run code when read \(_?io\.open\) .*save its state dict alone"
    ):
        read_checkpoint(path)
    assert not (tmp_path / "written").exists()


def test_one_wrong_bit_among_the_weights_is_noticed(tmp_path):
    """PyTorch itself does not compare the checksums of its zip files."""
    path = tmp_path / "a.pth"
    torch.save(STATE, path)
    content = path.read_bytes()
    assert content.count(STATE["a.weight"].numpy().tobytes()) == 1
    path.write_bytes(
        content.replace(STATE["a.weight"].numpy().tobytes(), torch.tensor([0.0, 1.0, 3.0]).numpy().tobytes())
    )
    assert torch.load(path, weights_only=True)["a.weight"][2] == 3.0
    with pytest.raises(CheckpointError, match="its part a/data/0 is damaged"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all", b"PK\x03\x04 truncated"])
def test_damaged_files(tmp_path, content, suffix):
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)


def test_no_tensors(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no state dict"):
        read_checkpoint(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "part", "averaged"),
    [
        ({"model_state_dict": STATE}, "model_state_dict", False),
        ({"net": STATE, "acc": 91.3}, "net", False),
        ({"params": STATE}, "params", False),
        ({"state_dict": OTHER, "state_dict_ema": STATE}, "state_dict_ema", True),
        ({"model": OTHER, "model_ema": STATE}, "model_ema", True),
        ({"params": OTHER, "params_ema": STATE}, "params_ema", True),
        ({"student": OTHER, "teacher": STATE}, "teacher", True),
        ({"state_dict": OTHER, "ema": {"module": STATE}}, "ema.module", True),
        ({"model": {"state_dict": STATE}}, "model.state_dict", False),
        ({"model": STATE, "model_ema": None}, "model", False),
        ({"module": STATE, "n_averaged": torch.tensor(3)}, "module", False),
        ({**STATE, "n_averaged": torch.tensor(3), "a.total_ops": torch.zeros(1)}, "", False),
        ({f"_orig_mod.module.{key}": value for key, value in STATE.items()}, "", False),
        ({"model": {f"module._orig_mod.{key}": value for key, value in STATE.items()}}, "model", False),
    ],
)
def test_wrappers(tmp_path, content, part, averaged):
    torch.save(content, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth")
    assert (found.part, found.averaged) == (part, averaged)
    assert list(found.tensors) == list(STATE)
    assert all(torch.equal(found.tensors[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize(
    ("key", "averaged"),
    [("state_dict", False), ("nested.ema", True), ("flat.generator", False), ("with.dots", False)],
)
def test_the_user_names_the_part(tmp_path, key, averaged):
    content = {
        "state_dict": STATE,
        "state_dict_ema": OTHER,
        "nested": {"ema": STATE},
        "flat": {**{f"generator.{k}": v for k, v in STATE.items()}, **{f"critic.{k}": v for k, v in OTHER.items()}},
        "with.dots": STATE,
    }
    torch.save(content, tmp_path / "a.pth")
    found = read_checkpoint(tmp_path / "a.pth", key)
    assert (found.part, found.averaged) == (key, averaged)
    assert all(torch.equal(found.tensors[k], STATE[k]) for k in STATE)
    assert len(found.tensors) == len(STATE)


def test_a_part_that_is_not_there_lists_those_that_are(tmp_path):
    torch.save({"state_dict": STATE, "epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="no weights under 'ema'; it holds state_dict, epoch"):
        read_checkpoint(tmp_path / "a.pth", "ema")
    torch.save({"epoch": 3, "best": 0.5}, tmp_path / "b.pth")
    with pytest.raises(CheckpointError, match=r"it holds epoch, best; --weights .*b.pth#KEY names the part"):
        read_checkpoint(tmp_path / "b.pth")


@pytest.mark.parametrize(
    "beside",
    [
        np.float64(91.25),
        np.float32(0.5),
        np.arange(4, dtype=np.int64),
        np.random.RandomState(0).get_state(),
        random.Random(0).getstate(),
        pathlib.Path("/data/run"),
        pathlib.PureWindowsPath("C:/run"),
        collections.defaultdict(list, {"loss": [1.0, 0.5]}),
        collections.OrderedDict(a=1),
        argparse.Namespace(lr=1e-3, output=pathlib.Path("runs")),
        torch.get_rng_state(),
        {1, 2},
        b"bytes",
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("zipped", [True, False])
def test_plain_data_beside_the_weights(tmp_path, beside, zipped):
    torch.save({"state_dict": STATE, "beside": beside}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    assert list(read_checkpoint(tmp_path / "a.pth").tensors) == list(STATE)


@pytest.mark.parametrize("prefix", ["model", "net", "backbone", "encoder", "timm_model", "model.backbone"])
def test_prefixes_are_taken_off(tmp_path, prefix):
    content = {f"{prefix}.{key}": value for key, value in STATE.items()} | {"decoder.weight": torch.ones(1)}
    torch.save({"state_dict": content}, tmp_path / "a.pth")
    found = strip_prefix(read_checkpoint(tmp_path / "a.pth"), STATE, tmp_path / "a.pth")
    assert found.part == f"state_dict.{prefix}"
    assert list(found.tensors) == list(STATE)


def test_two_networks_in_one_state_dict():
    def checkpoint(first: str, second: str) -> Checkpoint:
        both = {f"{first}.{k}": v for k, v in STATE.items()} | {f"{second}.{k}": v for k, v in OTHER.items()}
        return Checkpoint(both)

    path = pathlib.Path("both.pth")
    averaged = strip_prefix(checkpoint("ema_model", "model"), STATE, path)
    assert (averaged.part, averaged.averaged) == ("ema_model", True)
    assert torch.equal(averaged.tensors["b"], STATE["b"])
    with pytest.raises(
        CheckpointError, match=r"several sets of weights .*: critic, generator; choose one by .*#critic"
    ):
        strip_prefix(checkpoint("generator", "critic"), STATE, path)


@pytest.mark.parametrize(
    ("first", "second"),
    [("", "module."), ("module.", "_orig_mod."), ("net.", "module.net."), ("net.", "net._orig_mod.")],
)
def test_names_that_differ_only_in_the_prefix_of_a_program(tmp_path, first, second):
    """One of two sets of weights would be lost without a word."""
    both = {f"{first}{k}": v for k, v in STATE.items()} | {f"{second}{k}": v for k, v in OTHER.items()}
    torch.save({"state_dict": both}, tmp_path / "a.pth")
    said = rf"several sets of weights .*: {first}a.weight and {second}a.weight both stand for .*; save the set that is"
    for key in (None, "state_dict", *(["state_dict.net"] if first == "net." else [])):
        with pytest.raises(CheckpointError, match=said):
            read_checkpoint(tmp_path / "a.pth", key)
    torch.save({**{f"other.{k}": v for k, v in STATE.items()}, **both}, tmp_path / "b.pth")
    assert list(read_checkpoint(tmp_path / "b.pth", "other").tensors) == list(STATE)  # the choice is clear


def test_names_of_another_layout_are_left_alone():
    foreign = Checkpoint({"backbone.first.weight": torch.ones(1), "backbone.b": torch.ones(1)})
    assert strip_prefix(foreign, ["a.weight", "b", "c", "d", "e"], pathlib.Path("a.pth")) is foreign


# --- with a network ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fine_tuned():
    """ResNet-18 with ten classes, as after a user's fine-tuning."""
    torch.manual_seed(0)
    return timm.create_model("resnet18", num_classes=10).eval()


def test_averaged_weights_of_a_fine_tuned_network(tmp_path, fine_tuned):
    raw = {key: torch.zeros_like(value) for key, value in fine_tuned.state_dict().items()}
    path = tmp_path / "last.pth.tar"
    content = {"state_dict": raw, "state_dict_ema": fine_tuned.state_dict(), "metric": np.float64(91.0)}
    torch.save(content, path)
    loaded = load_model("resnet18", str(path))
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded.model(x), fine_tuned(x), rtol=0, atol=0)
    record = loaded.record
    assert (record.part, record.averaged, record.head) == ("state_dict_ema", True, "10 classes")
    assert record.label == "weights last.pth.tar (averaged, state_dict_ema)"
    assert record.as_dict()["averaged"] is True
    chosen = load_model("resnet18", f"{path}#state_dict")
    assert not chosen.model.conv1.weight.any()
    assert chosen.record.label == "weights last.pth.tar (state_dict)"
    assert chosen.record.identity != record.identity


def test_a_lightning_file(tmp_path, fine_tuned):
    path = tmp_path / "epoch=3.ckpt"
    state = {f"model.{key}": value for key, value in fine_tuned.state_dict().items()}
    torch.save({"state_dict": state, "hyper_parameters": {"lr": 0.1}, "pytorch-lightning_version": "2.4"}, path)
    loaded = load_model("resnet18", str(path))
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(loaded.model(x), fine_tuned(x), rtol=0, atol=0)
    assert loaded.record.part == "state_dict.model"


def test_a_checkpoint_without_a_head(tmp_path, fine_tuned):
    state = {key: value for key, value in fine_tuned.state_dict().items() if not key.startswith("fc.")}
    torch.save(state, tmp_path / "backbone.pth")
    loaded = load_model("resnet18", str(tmp_path / "backbone.pth"))
    assert loaded.record.head == "none"
    assert loaded.head == ("fc.bias", "fc.weight")
    x = torch.randn(1, 3, 64, 64)
    features = fine_tuned.forward_features(x)
    torch.testing.assert_close(loaded.model.forward_features(x), features, rtol=0, atol=0)
    assert loaded.model(x).shape == (1, 512)


def test_a_head_of_its_own_does_not_excuse_another_network(tmp_path, fine_tuned):
    state = fine_tuned.state_dict() | {"conv1.weight": torch.ones(64, 3, 3, 3)}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=r"conv1.weight has shape \[64, 3, 3, 3\].*the file holds conv1.weight, bn1"
    ):
        load_model("resnet18", str(tmp_path / "a.pth"))


@pytest.mark.parametrize("name", ["test_resnet", "torchvision/squeezenet1_1"])
@pytest.mark.parametrize("kind", ["int8", "int64", "uint8", "bool", "complex64", "float8_e4m3fn"])
@pytest.mark.filterwarnings("ignore:Casting complex values")  # by the test itself
def test_weights_of_a_type_that_is_no_weight(tmp_path, name, kind):
    """PyTorch copies them into the network without an error, and timm's result would be that of other weights."""
    tensors = dict(load_model(name, "random").model.state_dict())
    key = next(key for key in tensors if key.endswith("weight"))
    tensors[key] = tensors[key].mul(100).to(getattr(torch, kind))
    torch.save(tensors, tmp_path / "a.pth")
    said = (
        f"a.pth does not fit {name}: {key} is of type {kind}, but weights must be float16, bfloat16, float32 or float64"
    )
    with pytest.raises(CheckpointError, match=re.escape(said)):
        load_model(name, str(tmp_path / "a.pth"))


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "float64"])
def test_weights_of_another_floating_type(tmp_path, kind):
    ours = load_model("test_resnet", "random").model.state_dict()
    dtype = getattr(torch, kind)
    torch.save({key: value.to(dtype) for key, value in ours.items()}, tmp_path / "a.pth")  # with the counters
    loaded = load_model("test_resnet", str(tmp_path / "a.pth")).model.state_dict()
    assert all(torch.equal(value, ours[key].to(dtype).to(value.dtype)) for key, value in loaded.items())


def test_which_types_suit_a_network():
    ours = {"w": torch.ones(2), "n": torch.ones(2, dtype=torch.int64), "c": torch.ones(2, dtype=torch.complex64)}
    ours |= {"tiny": torch.ones(2).to(torch.float8_e5m2), "mask": torch.ones(2, dtype=torch.bool)}
    assert wrong_types(ours, ours) == []  # a network may have such tensors of its own
    assert wrong_types({key: torch.ones(2) for key in ours}, ours) == []
    integers = {key: torch.ones(2, dtype=torch.int32) for key in [*ours, "other"]}
    assert wrong_types(integers, ours) == ["w", "c", "tiny"]


def test_the_authors_layout_still_loads_by_timms_conversion(tmp_path):
    """Swin's released names differ from timm's, including those of the head."""
    name = "swin_tiny_patch4_window7_224"
    ours = timm.create_model(name, num_classes=10)
    authors = {
        re.sub(r"layers\.(\d)\.down", lambda m: f"layers.{int(m[1]) - 1}.down", key).replace("head.fc", "head"): value
        for key, value in ours.state_dict().items()
    }
    torch.save({"model": authors}, tmp_path / "a.pth")
    loaded = load_model(name, str(tmp_path / "a.pth"))
    assert loaded.record.head == "10 classes"
    state = loaded.model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in ours.state_dict().items())
    place = next(key for key in authors if key not in state and key.endswith("downsample.reduction.weight"))
    torch.save({"model": authors | {"layers.0.relative_position_index": torch.ones(4).long()}}, tmp_path / "a.pth")
    assert load_model(name, str(tmp_path / "a.pth")).record.head == "10 classes"  # timm does not load the index
    for key in ("head.weight", place):
        torch.save({"model": authors | {key: authors[key].mul(100).to(torch.int8)}}, tmp_path / "b.pth")
        with pytest.raises(CheckpointError, match=rf"fit {name}: {key} is of type int8, but weights must be float16"):
            load_model(name, str(tmp_path / "b.pth"))
