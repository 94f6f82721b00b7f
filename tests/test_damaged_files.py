"""Files damaged at random: a reader refuses them in one line, or returns exactly what was saved; nothing in between.

In formats without checksums (CSV, safetensors, PyTorch's old pickle), the change of a value to another valid one cannot
be detected. For these, only the form of the result is checked, and that no part of it is missing.
"""

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import spoil

from erf.measures.sums import map_sums, stack_sums
from erf.results.files import ErfResult, load_result, save_result
from replknet.weights.checkpoint import read_checkpoint
from runkit import UserError
from shapebias.answers.observers import read_observer
from shapebias.answers.probabilities import Probabilities, load_probabilities, save_probabilities
from shapebias.stimuli.categories import CATEGORIES

STATE = {
    "stem.weight": torch.arange(60.0).reshape(3, 20),
    "head.bias": torch.ones(5, dtype=torch.float16),
    "steps": torch.tensor(3),
}


def try_all(reader, path: Path, contents):
    """Return the reader's result for every content that it accepts; a refusal must be one line that names the file."""
    accepted, refusals = [], []
    for content in contents:
        path.write_bytes(content)
        try:
            accepted.append(reader(path))
        except UserError as error:
            refusals.append(str(error))
    assert all(path.name in text and "\n" not in text for text in refusals)
    return accepted


def equal_tensors(state: dict[str, torch.Tensor]) -> bool:
    return state.keys() == STATE.keys() and all(torch.equal(state[key], STATE[key]) for key in STATE)


def save_zip(path: Path) -> None:
    torch.save(STATE, path)


def save_old(path: Path) -> None:
    torch.save(STATE, path, _use_new_zipfile_serialization=False)


def save_safetensors(path: Path) -> None:
    save_file(STATE, path)


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(path).tensors


@pytest.mark.parametrize(
    ("save", "suffix", "checksums"),
    [(save_zip, ".pth", True), (save_old, ".pth", False), (save_safetensors, ".safetensors", False)],
)
def test_checkpoints(tmp_path, save, suffix, checksums):
    path = tmp_path / f"weights{suffix}"
    save(path)
    assert equal_tensors(read_tensors(path))
    accepted = try_all(read_tensors, path, spoil(path.read_bytes(), 400))
    for state in accepted:
        if checksums:
            assert equal_tensors(state)
        else:
            assert all(isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in state.items())
    assert len(accepted) < 250


@pytest.mark.parametrize(
    ("save", "suffix"), [(save_zip, ".pth"), (save_old, ".pth"), (save_safetensors, ".safetensors")]
)
def test_checkpoints_that_break_off(tmp_path, save, suffix):
    path = tmp_path / f"weights{suffix}"
    save(path)
    content = path.read_bytes()
    assert try_all(read_tensors, path, (content[:end] for end in range(0, len(content), 7))) == []


RESULT = ErfResult(
    "net",
    np.arange(81.0).reshape(9, 9),
    {"schema": 2, "weights": {"label": "weights net", "random": False}, "data": {"images_used": 2}},
    stack_sums([map_sums(np.arange(81.0).reshape(9, 9)), map_sums(np.ones((9, 9)))]),
    ("a.png", "b.png"),
)


def save_map(path: Path) -> None:
    save_result(RESULT, path)


def equal_map(result: ErfResult) -> bool:
    sums, expected = result.sums.as_arrays(), RESULT.sums.as_arrays()
    return (
        (result.name, result.provenance, result.image_names) == (RESULT.name, RESULT.provenance, RESULT.image_names)
        and np.array_equal(result.contribution, RESULT.contribution)
        and all(np.array_equal(sums[name], expected[name]) for name in expected)
    )


PROBABILITIES = Probabilities(
    np.linspace(0, 1, 2000, dtype=np.float32).reshape(2, 1000),
    ["cat1-dog1.png", "dog1-cat1.png"],
    {"config": {"model": "net"}, "subject": "net", "label": "net", "weights": {}, "data": {}},
)


def save_rows(path: Path) -> None:
    save_probabilities(PROBABILITIES, path)


def equal_rows(read: Probabilities) -> bool:
    return (
        list(read.images) == list(PROBABILITIES.images)
        and read.provenance == PROBABILITIES.provenance
        and np.array_equal(read.values, PROBABILITIES.values)
    )


@pytest.mark.parametrize(
    ("save", "load", "equal"), [(save_map, load_result, equal_map), (save_rows, load_probabilities, equal_rows)]
)
def test_results(tmp_path, save, load, equal):
    path = tmp_path / "result.npz"
    save(path)
    assert equal(load(path))
    accepted = try_all(load, path, spoil(path.read_bytes(), 600))
    assert all(map(equal, accepted))
    assert len(accepted) < 400


class _WritesFile:
    def __reduce__(self):
        return (open, ("written", "w"))


@pytest.mark.parametrize("load", [load_result, load_probabilities])
@pytest.mark.parametrize(
    "arrays",
    [
        {"provenance": np.array("[1]")},
        {"provenance": np.array("7")},
        {"provenance": np.array('{"schema": 2, "weights": 1}')},
        {"provenance": np.array("{")},
        {"provenance": np.array(["{}", "{}"])},
        {"contribution": np.ones(3), "probabilities": np.ones(3)},
        {"contribution": np.array([["a"]]), "probabilities": np.array([["a"] * 1000] * 2)},
        {"image_moments": np.ones((0, 15)), "images": np.array(["a"])},
        {"contribution": np.ones((3, 3), complex), "probabilities": np.ones((2, 1000), complex)},
        {"image_rings": np.ones((3, 2)), "images": np.array(["a", "b", "c"])},
        {"contribution": np.array([_WritesFile()]), "probabilities": np.array([_WritesFile()])},
    ],
)
def test_well_formed_files_of_something_else(tmp_path, monkeypatch, load, arrays):
    monkeypatch.chdir(tmp_path)
    for save in (save_map, save_rows):
        save(tmp_path / "good.npz")
        with np.load(tmp_path / "good.npz") as good:
            np.savez(tmp_path / "other.npz", **{**good, **arrays})
        with pytest.raises(UserError, match=r"other\.npz is not a "):
            load(tmp_path / "other.npz")
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(("save", "load"), [(save_map, load_result), (save_rows, load_probabilities)])
def test_a_member_that_is_no_array(tmp_path, save, load):
    save(tmp_path / "good.npz")
    with zipfile.ZipFile(tmp_path / "good.npz", "a") as archive:
        archive.writestr("more.npy", b"")
    with pytest.raises(UserError, match=r"good\.npz is not a .*more is not an array"):
        load(tmp_path / "good.npz")


def test_raw_data(tmp_path):
    rows = [
        f"subject-01,1,{i + 1},0.5,{CATEGORIES[i]},{CATEGORIES[i]},0,{i:04d}_{CATEGORIES[i]}1-{CATEGORIES[-1 - i]}2.png"
        for i in range(16)
    ]
    header = "subj,session,trial,rt,object_response,category,condition,imagename"
    path = tmp_path / "answers.csv"
    path.write_text("\n".join([header, *rows, ""]))
    whole = read_observer(path).trials
    contents = list(spoil(path.read_bytes(), 800))
    for content in contents:
        for observer in try_all(read_observer, path, [content]):
            lines = [line for line in content.decode("utf-8-sig").splitlines() if line]
            assert len(observer.trials) == len(lines) - 1  # no row was passed over or joined to another
            assert set(observer.trials.columns) == set(whole.columns)
            assert set(observer.trials["response"]) <= {*CATEGORIES, "na"}
            assert set(observer.trials["shape"]) | set(observer.trials["texture"]) <= set(CATEGORIES)
