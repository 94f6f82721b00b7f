"""Lists of networks: which weights are available, which would be downloaded, and that none is downloaded."""

import json

import pytest

from replknet.listing import SOURCES, find_source, list_networks, show_networks
from runkit import UserError

pytestmark = pytest.mark.usefixtures("no_network")


def test_every_kind_of_weights_is_told():
    words = {row.name: row.weights for row in list_networks()}
    assert len(words) > 1000
    assert words["tf_efficientnet_lite0.in1k"] == "installed"
    assert words["replknet31b.in1k"] == "downloadable"
    assert words["resnet101.tv_in1k"] == "downloadable"
    assert words["replknet3"] == "random only"
    assert set(words.values()) <= set(SOURCES.values())


def test_what_is_at_hand_comes_first():
    words = [row.weights for row in list_networks("*efficientnet_lite*")]
    assert words == sorted(words, key=list(SOURCES.values()).index)
    assert words[0] == "installed"


def test_a_word_stands_for_all_names_that_contain_it():
    assert {row.name for row in list_networks("replknet31")} == {row.name for row in list_networks("*replknet31*")}
    assert [row.name for row in list_networks("replknet3")] != [row.name for row in list_networks("replknet3?")]


def test_a_cached_file_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    assert find_source("replknet31b.in1k") == "download"
    from timm import get_pretrained_cfg

    (tmp_path / "checkpoints").mkdir()
    url = get_pretrained_cfg("replknet31b.in1k").url
    (tmp_path / "checkpoints" / url.rpartition("/")[2]).write_text("anything: nothing is read")
    assert find_source("replknet31b.in1k") == "cache"
    assert find_source("replknet31b") == "cache"  # its default tag


def test_sources_that_the_user_chooses():
    assert find_source("replknet31b", "random") == "random"
    assert find_source("replknet31b", "weights.pth") == "file"
    assert find_source("replknet3") is None
    with pytest.raises(UserError, match="did you mean replknet31"):
        find_source("replknet31")


def test_only_heads_of_so_many_classes():
    names = {row.name for row in list_networks("swin_base_patch4_window7_224", num_classes=[1000])}
    assert "swin_base_patch4_window7_224.ms_in1k" in names
    assert "swin_base_patch4_window7_224.ms_in22k" not in names


def test_what_is_shown(capsys):
    show_networks("tf_efficientnet_lite0", as_json=False)
    out = capsys.readouterr().out
    assert "tf_efficientnet_lite0.in1k  installed       224" in out
    assert out.endswith("1 in all: 1 installed\n")
    show_networks("tf_efficientnet_lite0", as_json=True)
    assert json.loads(capsys.readouterr().out)["networks"] == [
        {
            "name": "tf_efficientnet_lite0.in1k",
            "weights": "installed",
            "input_size_px": 224,
            "num_classes": 1000,
        }
    ]
    with pytest.raises(UserError, match="--list-models nosuch: no network with a head that is known is called so"):
        show_networks("nosuch", as_json=False, num_classes=[1000])
