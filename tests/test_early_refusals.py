"""Every command refuses a missing or invalid checkpoint before it imports PyTorch."""

import pytest
import torch

from erf.visualize import main as measure_fields
from runkit import UserError
from runkit.checkpoint_files import fault_of_checkpoint, fault_of_content, refuse_no_checkpoint, split_key
from shapebias.reliance import main as measure_reliance
from shapebias.run import main as measure_shape_bias


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["run", "dry run"])
@pytest.mark.parametrize("main", [measure_fields, measure_shape_bias, measure_reliance])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "error: --weights net.pth does not exist; give 'auto', 'pretrained', 'random', or a .pth"),
        ("epoch,accuracy\n", "error: net.pth is damaged or no PyTorch file: it holds text"),
        ("", "error: net.pth is damaged or no PyTorch file: it is empty"),
    ],
)
def test_what_is_no_checkpoint_is_refused_at_once(tmp_path, monkeypatch, capsys, main, content, message, dry):
    def load(*_):
        raise AssertionError("the device is chosen, for which PyTorch is loaded")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("runkit.compute.device.choose_device", load)
    if content is not None:
        (tmp_path / "net.pth").write_text(content)
    assert main(["--model", "resnet18n", "--weights", "net.pth", *dry]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "figures").exists()


def test_words_and_sound_files_pass(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "zip.pth")
    torch.save({"a": torch.ones(2)}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    files = [str(tmp_path / name) for name in ("zip.pth", "old.pth", "zip.pth#a")]
    refuse_no_checkpoint(["auto", "pretrained", "random", *files])
    with pytest.raises(UserError, match=r"no\.pth does not exist"):
        refuse_no_checkpoint(["auto", files[0], str(tmp_path / "no.pth#ema")])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "holds text"),
        ("größer\n".encode() * 100, "holds text"),  # the last character that is looked at may be cut off
        (b"x" * 511 + "ö".encode(), "holds text"),
        (b"\x80\x02}q\x00.", ""),
        (b"PK\x03\x04", ""),
        (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", ""),
    ],
)
def test_text_is_told_by_its_beginning(tmp_path, content, fault):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert fault_of_content(path).endswith(fault)
    assert bool(fault_of_content(path)) == bool(fault)


def test_a_folder_is_no_checkpoint(tmp_path):
    assert "is a folder; give 'auto'" in fault_of_checkpoint(tmp_path)


def test_the_part_of_a_file_is_told_from_its_name(tmp_path):
    assert [str(part) for part in split_key("a.pth#state_dict")] == ["a.pth", "state_dict"]
    assert split_key("a.pth")[1] is None
    odd = tmp_path / "a#1.pth"
    odd.write_bytes(b"")
    assert split_key(str(odd)) == (odd, None)
    assert split_key(f"{odd}#ema") == (odd, "ema")
