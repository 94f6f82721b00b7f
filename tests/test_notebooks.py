"""Every notebook runs from top to bottom on small settings, shows what it plots, and is stored without outputs."""

import os
import re
from pathlib import Path

import pytest
from example_results import make_erf_result
from support import ROOT

from erf.results.files import save_result

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = {
    "ERF_SIZE": "64",
    "ERF_IMAGES": "1",
    "SHAPEBIAS_EVERY": "40",
    "BENCHMARK_RESAMPLES": "100",
    "DEPTHWISE_SIDE": "14",
    "DEPTHWISE_KERNELS": "3 13",
    "OMP_NUM_THREADS": "1",
}


PLOTS = re.compile(r"\berf\.plot\(|\.draw_\w+\(|\bsubplots\(")
"""What a cell that plots says."""


def execute(notebook, folder: Path):
    """Run all cells in a fresh kernel, in a folder; returns the notebook with its outputs."""
    resources = {"metadata": {"path": folder}}
    return nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()


def count_pictures(cell, notebook) -> int:
    """How many pictures a cell shows, by itself or in its widget."""
    outputs = list(cell.outputs)
    if "interact(" in cell.source:  # the widget that shows outputs belongs to the notebook
        state = notebook.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
        outputs += [output for widget in state.values() for output in widget["state"].get("outputs", ())]
    return sum("image/png" in output.get("data", {}) for output in outputs)


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request) -> Path:
    return request.param


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 8


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
    if "BENCHMARK_RAW" in source:
        data = request.getfixturevalue("data_dir")
        monkeypatch.setenv("BENCHMARK_RAW", os.pathsep.join([str(data / "networks"), str(data / "human")]))
    for name, value in {**SMALL, "ERF_FIGURES": str(tmp_path), "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    notebook = execute(nbformat.reads(source, as_version=4), path.parent)
    assert list(tmp_path.glob(f"{path.stem}*.png"))
    plots = [cell for cell in notebook.cells if cell.cell_type == "code" and PLOTS.search(cell.source)]
    assert plots
    for cell in plots:
        assert count_pictures(cell, notebook) == 1, cell.source


@pytest.mark.slow
def test_pictures_show_without_a_word_about_the_backend(tmp_path):
    """Axes by pyplot, a result and a figure as values of cells; and what the user draws afterwards."""
    save_result(make_erf_result("net", 5), tmp_path / "net.npz")
    cells = [
        "import erf\nresult = erf.load_result('net.npz')\nresult",
        "ax = erf.plot(result)",
        "erf.draw_comparison([result, result])",
        "import matplotlib.pyplot as plt\nplt.plot([1, 2]);",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in cells])
    for cell in execute(notebook, tmp_path).cells:
        assert count_pictures(cell, notebook) == 1, cell.source
