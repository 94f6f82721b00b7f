"""Networks from elsewhere: the user's code, torchvision, the Hugging Face hub, torch.hub."""

import json
import sys

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from replknet import load_model, resolve_weights
from replknet.foreign import is_foreign, sha256_of_weights
from replknet.weights.checkpoint import CheckpointError
from replknet.weights.sources import WeightsUnavailable
from runkit import UserError

CODE = """
import sys

import torch
from torch import nn


class Net(nn.Module):
    mean, std, input_size = (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), (3, 96, 64)

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x)


def build():
    net = Net()
    nn.init.constant_(net.conv.weight, 0.25)
    return net


calls = 0


def unsteady():
    global calls
    calls += 1
    net = Net()
    nn.init.constant_(net.conv.weight, calls)
    return net


def broken():
    raise RuntimeError("no data")


def leaving():
    sys.exit()


def number():
    return 3


ready = Net()
"""


@pytest.fixture
def code(tmp_path, monkeypatch):
    path = tmp_path / "nets_of_mine.py"
    path.write_text(CODE, encoding="utf-8")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield path
    sys.modules.pop("nets_of_mine", None)


def test_which_names_are_foreign():
    assert all(map(is_foreign, ("net.py:build", "a.b:c", "torchvision/resnet18", "hf-hub:timm/x", "torch.hub:a/b:c")))
    assert not any(map(is_foreign, ("resnet18", "resnet18.tv_in1k", "replknet31b")))


def test_a_function_of_a_file(code):
    loaded = load_model(f"{code}:build")
    record = loaded.record
    assert (record.model, record.source, record.random) == ("nets_of_mine.py:build", "built", False)
    assert record.label == "weights as built by nets_of_mine.py:build"
    assert record.sha256 == sha256_of_weights(loaded.model)
    assert len(record.code_sha256) == 64
    assert record.identity["code_sha256"] == record.code_sha256
    assert loaded.preprocessing.mean == (0.5, 0.5, 0.5)
    assert loaded.preprocessing.input_size == (96, 64)
    assert not loaded.model.training
    assert (loaded.model.conv.weight == 0.25).all()


def test_a_class_and_an_instance(code):
    assert load_model(f"{code}:Net").record.sha256 == load_model(f"{code}:Net").record.sha256
    assert load_model(f"{code}:Net").record.sha256 != load_model(f"{code}:Net", seed=1).record.sha256
    ready = load_model(f"{code}:ready")
    assert ready.record.source == "built"
    assert ready.model is not load_model(f"{code}:ready").model


def test_a_checkpoint_into_the_users_network(code, tmp_path):
    source = load_model(f"{code}:Net", seed=5).model
    torch.save({"state_dict": {f"model.{k}": v for k, v in source.state_dict().items()}}, tmp_path / "a.ckpt")
    loaded = load_model(f"{code}:build", str(tmp_path / "a.ckpt"))
    assert loaded.record.source == "file"
    assert loaded.record.label == "weights a.ckpt (state_dict.model)"
    assert torch.equal(loaded.model.conv.weight, source.conv.weight)
    torch.save({"conv.weight": torch.zeros(4, 3, 5, 5), "fc": torch.ones(1)}, tmp_path / "b.pth")
    with pytest.raises(
        CheckpointError, match=r"missing conv.bias; unexpected fc; conv.weight has shape .*holds conv.weight, fc"
    ):
        load_model(f"{code}:build", str(tmp_path / "b.pth"))


def test_counters_and_second_names_may_be_missing_and_nothing_else(tmp_path):
    file = tmp_path / "twice.py"
    file.write_text(
        "from torch import nn\n\n\nclass Net(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2)\n"
        "        self.fc = self.head\n\n"
        "    def forward(self, x):\n        return self.fc(self.norm(self.conv(x)).mean((2, 3)))\n",
        encoding="utf-8",
    )
    source = load_model(f"{file}:Net", seed=5).model
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.normal_()
    less = {key: value for key, value in source.state_dict().items() if "num_batches" not in key and "fc" not in key}
    torch.save(less, tmp_path / "less.pth")
    loaded = load_model(f"{file}:Net", str(tmp_path / "less.pth")).model
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), loaded.parameters(), strict=True))
    assert loaded.fc is loaded.head
    torch.save({key: value for key, value in less.items() if key != "norm.running_mean"}, tmp_path / "few.pth")
    with pytest.raises(CheckpointError, match=r"missing norm\.running_mean"):
        load_model(f"{file}:Net", str(tmp_path / "few.pth"))


def test_an_average_beside_the_weights_of_the_users_network(code, tmp_path):
    raw, average = (load_model(f"{code}:Net", seed=seed).model.state_dict() for seed in (1, 2))
    both = {f"net.{k}": v for k, v in raw.items()} | {f"ema.{k}": v for k, v in average.items()}
    torch.save(both, tmp_path / "a.pth")
    loaded = load_model(f"{code}:build", str(tmp_path / "a.pth"))
    assert torch.equal(loaded.model.conv.weight, average["conv.weight"])
    assert (loaded.record.part, loaded.record.averaged) == ("ema", True)
    assert loaded.record.label == "weights a.pth (averaged, ema)"
    chosen = load_model(f"{code}:build", f"{tmp_path / 'a.pth'}#net")
    assert torch.equal(chosen.model.conv.weight, raw["conv.weight"])
    assert chosen.record.label == "weights a.pth (net)"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("unsteady", "gives other weights at every call"),
        ("broken", r"broken\(\) failed: RuntimeError: no data"),
        ("leaving", r"leaving\(\) failed: it calls sys\.exit\(\)"),
        ("number", r"number\(\) returned a int; it must return a torch.nn.Module"),
        ("calls", "is a int; name a function"),
        ("none", "has no 'none'"),
    ],
)
def test_functions_that_do_not_do(code, function, message):
    with pytest.raises(UserError, match=message):
        load_model(f"{code}:{function}")


def test_random_weights_are_the_functions_business(code):
    with pytest.raises(UserError, match="--weights random does not apply"):
        resolve_weights(f"{code}:build", "random")


def test_a_module_by_its_name():
    loaded = load_model("torchvision.models:squeezenet1_1")
    assert loaded.record.model == "torchvision.models:squeezenet1_1"
    assert loaded.preprocessing.input_size == (224, 224)


@pytest.mark.usefixtures("no_network")
def test_torchvision_offline(caplog):
    loaded = load_model("torchvision/resnet18", seed=3)
    assert loaded.record.label == "RANDOM WEIGHTS (seed 3)"
    assert "torchvision/resnet18: RANDOM WEIGHTS (seed 3) are used" in caplog.text
    with pytest.raises(WeightsUnavailable):
        resolve_weights("torchvision/resnet18", "pretrained")
    segmentation = load_model("torchvision/fcn_resnet50", "random")  # its backbone is not downloaded either
    assert isinstance(segmentation.model, nn.Module)


def test_torchvision_weights(tmp_path, monkeypatch):
    torchvision = pytest.importorskip("torchvision")
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    enum = torchvision.models.get_model_weights("squeezenet1_1")
    theirs = torchvision.models.squeezenet1_1()
    # the published file's name ends with digits of its hash, which another file cannot have
    monkeypatch.setattr("replknet.weights.sources.verify_file", lambda path, published: ("0" * 64, "prefix"))
    torch.save(theirs.state_dict(), tmp_path / "checkpoints" / enum.DEFAULT.url.rpartition("/")[2])
    loaded = load_model("torchvision/squeezenet1_1.IMAGENET1K_V1", "pretrained")
    assert loaded.record.model == "torchvision/squeezenet1_1.IMAGENET1K_V1"
    assert loaded.preprocessing.crop_pct == pytest.approx(224 / 256)
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in loaded.model.state_dict().items())
    with pytest.raises(UserError, match="has no weights 'V9'; it has IMAGENET1K_V1"):
        resolve_weights("torchvision/squeezenet1_1.V9")
    with pytest.raises(UserError, match=r"unknown network 'torchvision/resnet19'"):
        resolve_weights("torchvision/resnet19")


def test_the_part_of_a_file_for_torchvision(tmp_path):
    torchvision = pytest.importorskip("torchvision")
    raw, average = (torchvision.models.squeezenet1_1().state_dict() for _ in range(2))
    path = tmp_path / "both.pth"
    torch.save({"state_dict": raw, "state_dict_ema": average}, path)
    labels = {
        None: "weights both.pth (averaged, state_dict_ema)",
        "state_dict_ema": "weights both.pth (averaged, state_dict_ema)",
        "state_dict": "weights both.pth (state_dict)",
    }
    for key, label in labels.items():
        resolved = resolve_weights("torchvision/squeezenet1_1", f"{path}#{key}" if key else str(path))
        loaded = load_model(resolved)
        part = key or "state_dict_ema"
        expected = average if part == "state_dict_ema" else raw
        assert all(torch.equal(value, expected[name]) for name, value in loaded.model.state_dict().items())
        assert resolved.record.identity["part"] == loaded.record.part == part
        assert resolved.record.label == loaded.record.label == label
        assert loaded.record.averaged == (part == "state_dict_ema")
    torch.save({"state_dict": raw}, path)
    resolved = resolve_weights("torchvision/squeezenet1_1", str(path))
    assert "part" not in resolved.record.identity  # nothing was chosen, and earlier results are kept
    torch.save({f"ema.{k}": v for k, v in average.items()} | {f"net.{k}": v for k, v in raw.items()}, path)
    assert load_model("torchvision/squeezenet1_1", str(path)).record.label == "weights both.pth (averaged, ema)"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A repository of the hub: resnet18 with five classes and its own mean."""
    source = timm.create_model("resnet18", num_classes=5).eval()
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    cfg = {"num_classes": 5, "mean": [0.1, 0.2, 0.3], "input_size": [3, 160, 160], "tag": "mine"}
    config = {"architecture": "resnet18", "num_classes": 5, "pretrained_cfg": cfg}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    monkeypatch.setattr("replknet.weights.sources.cannot_reach", lambda url: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args, **kwargs: None)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda repo, file, **_: str(tmp_path / file))
    return source


def test_a_network_of_the_hub(hub):
    loaded = load_model("hf-hub:me/mine")
    assert (loaded.record.model, loaded.record.source) == ("hf-hub:me/mine", "download")
    assert loaded.preprocessing.mean == (0.1, 0.2, 0.3)
    assert loaded.preprocessing.input_size == (160, 160)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded.model(x), hub(x))
    assert load_model("hf-hub:me/mine", "random").record.random


def test_the_head_of_a_network_of_the_hub_is_that_of_the_file(hub, tmp_path):
    """timm draws a head at random where the number of classes differs from that of the weights' description."""
    config = {"architecture": "resnet18", "model_args": {"num_classes": 5}, "pretrained_cfg": {"num_classes": 1000}}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert torch.equal(load_model("hf-hub:me/mine").model.fc.weight, hub.fc.weight)


def test_a_file_of_the_hub_with_integer_weights(hub, tmp_path):
    save_file(
        hub.state_dict() | {"conv1.weight": torch.ones(64, 3, 7, 7, dtype=torch.int8)}, tmp_path / "b.safetensors"
    )
    with pytest.raises(
        CheckpointError, match=r"does not fit resnet18: conv1.weight is of type int8, but weights must be"
    ):
        load_model("hf-hub:me/mine", str(tmp_path / "b.safetensors"))


def test_integer_weights_for_the_users_network(code, tmp_path):
    tensors = load_model(f"{code}:Net").model.state_dict()
    torch.save({key: value.to(torch.int8) for key, value in tensors.items()}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"a.pth does not fit .*: conv.weight and 1 more are of type int8, but"):
        load_model(f"{code}:Net", str(tmp_path / "a.pth"))


def test_the_part_of_a_file_for_a_network_of_the_hub(hub, tmp_path):
    average = {key: torch.zeros_like(value) for key, value in hub.state_dict().items()}
    path = tmp_path / "both.pth"
    torch.save({"model": hub.state_dict(), "model_ema": average}, path)
    chosen, preferred = (load_model("hf-hub:me/mine", f"{path}{key}") for key in ("#model", ""))
    assert torch.equal(chosen.model.conv1.weight, hub.conv1.weight)
    assert not preferred.model.conv1.weight.any()
    assert chosen.record.label == "weights both.pth (model)"
    assert preferred.record.label == "weights both.pth (averaged, model_ema)"
    assert chosen.record.identity != preferred.record.identity


@pytest.mark.usefixtures("hub")
def test_a_repository_that_is_no_network_of_timm(monkeypatch, tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    with pytest.raises(UserError, match=r"is not a timm network: its config.json names the architecture None"):
        resolve_weights("hf-hub:me/bert")


def test_the_hub_out_of_reach(monkeypatch):
    def fails(*args, **kwargs):
        raise RuntimeError("the test has no network")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fails)
    with pytest.raises(WeightsUnavailable, match=r"hf-hub:timm/resnet18 cannot be obtained: the test has no network"):
        resolve_weights("hf-hub:timm/resnet18")


def test_torch_hub_from_a_folder(tmp_path):
    text = "from torch import nn\n\n\ndef tiny():\n    return nn.Conv2d(3, 2, 1)\n"
    (tmp_path / "hubconf.py").write_text(text, encoding="utf-8")
    loaded = load_model(f"torch.hub:{tmp_path}:tiny")
    assert (loaded.record.model, loaded.record.source) == (f"torch.hub:{tmp_path.name}:tiny", "built")
    assert loaded.model.weight.shape == (2, 3, 1, 1)
    with pytest.raises(UserError, match=r"write torch.hub:OWNER/REPO:ENTRY"):
        load_model("torch.hub:dinov2_vits14")


def test_the_code_of_imported_modules_belongs_to_a_network(tmp_path, monkeypatch):
    """Otherwise `--resume` would mix two networks if a module that builds the network was edited between the runs."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    helper = tmp_path / "helper_of_net.py"
    (tmp_path / "net_with_helper.py").write_text(
        "from torch import nn\n\n\ndef build():\n    from helper_of_net import DILATION\n\n"
        "    return nn.Conv2d(3, 4, 3, dilation=DILATION)\n",
        encoding="utf-8",
    )
    hashes = []
    for dilation in (2, 8, 2):
        helper.write_text(f"DILATION = {dilation}\n", encoding="utf-8")
        hashes.append(load_model(f"{tmp_path / 'net_with_helper.py'}:build").record.code_sha256)
        for name in ("helper_of_net", "net_with_helper"):
            sys.modules.pop(name, None)
    assert hashes[0] == hashes[2] != hashes[1]
