"""Every notebook runs from top to bottom on small settings, ends in a figure, and is stored without outputs."""

import os
from pathlib import Path

import pytest
from support import ROOT

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {
    "ERF_SIZE": "64",
    "ERF_IMAGES": "1",
    "SHAPEBIAS_EVERY": "40",
    "DEPTHWISE_SIDE": "14",
    "DEPTHWISE_KERNELS": "3 13",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 7


def test_it_is_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.slow
def test_it_runs(path, tmp_path, monkeypatch, request):
    source = path.read_text(encoding="utf-8")
    if "find_stimuli" in source:
        data = request.getfixturevalue("data_dir")
        monkeypatch.setenv("SHAPEBIAS_STIMULI", str(data / "cue-conflict"))
        monkeypatch.setenv("SHAPEBIAS_HUMANS", str(data / "human" / "cue-conflict"))
    for name, value in {**SMALL, "ERF_FIGURES": str(tmp_path), "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    notebook = nbformat.reads(source, as_version=4)
    nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": path.parent}}
    ).execute()
    assert list(tmp_path.glob(f"{path.stem}*.png"))
