"""Every notebook runs from top to bottom on small settings, shows what it plots, and is stored without outputs."""

import os
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from queue import Empty

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
    "SHAPEBIAS_EVERY": "80",
    "BENCHMARK_RESAMPLES": "100",
    "DEPTHWISE_SIDE": "14",
    "DEPTHWISE_KERNELS": "3 13",
}


PLOTS = re.compile(r"\berf\.plot\(|\.draw_\w+\(|\bsubplots\(")
"""What a cell that plots says."""


def asking_often(get_msg: Callable[..., Awaitable]) -> Callable[..., Awaitable]:
    """A channel's `get_msg` that checks for a message every two seconds.

    pyzmq may miss the event that announces a message. The message is then found only when the wait ends: with a single
    wait of 300 seconds, a notebook of five seconds took five minutes.
    """

    async def get(timeout: float | None = None):
        end = float("inf") if timeout is None else time.monotonic() + timeout
        while True:
            try:
                return await get_msg(timeout=max(0.0, min(2.0, end - time.monotonic())))
            except Empty:
                if time.monotonic() >= end:
                    raise

    return get


@pytest.fixture(scope="module")
def execute(tmp_path_factory) -> Iterator[Callable]:
    """Run all cells of a notebook in a folder, and return the notebook with its outputs.

    All notebooks share one kernel, whose names are deleted in between, because most cells take less time than imports.
    """
    environment = {
        "HF_HUB_OFFLINE": "1",  # these are read once
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    client = nbclient.NotebookClient(
        nbformat.v4.new_notebook(),
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": tmp_path_factory.mktemp("kernel")}},
    )

    def run(notebook, folder: Path, variables: Mapping[str, str] | None = None):
        place = f"import os\nos.chdir({str(folder)!r})\nos.environ.update({dict(variables or {})!r})"
        before = [nbformat.v4.new_code_cell(source) for source in ("%reset -f", place)]
        client.nb = nbformat.v4.new_notebook(cells=[*before, *notebook.cells], metadata=notebook.metadata)
        client.reset_execution_trackers()
        for index, cell in enumerate(client.nb.cells):
            client.execute_cell(cell, index)
        client.set_widgets_metadata()
        return nbformat.v4.new_notebook(cells=client.nb.cells[len(before) :], metadata=client.nb.metadata)

    with client.setup_kernel(env={**os.environ, **environment}):
        for channel in (client.kc.shell_channel, client.kc.iopub_channel):
            channel.get_msg = asking_often(channel.get_msg)
        yield run


def count_pictures(cell, notebook) -> int:
    """Count the pictures that a cell shows, by itself or in a widget."""
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
def test_it_runs(path, tmp_path, execute, request):
    source = path.read_text(encoding="utf-8")
    variables = {**SMALL, "ERF_FIGURES": str(tmp_path)}
    if "find_stimuli" in source:
        data = request.getfixturevalue("data_dir")
        variables["SHAPEBIAS_STIMULI"] = str(data / "cue-conflict")
        variables["SHAPEBIAS_HUMANS"] = str(data / "human" / "cue-conflict")
    if "BENCHMARK_RAW" in source:
        data = request.getfixturevalue("data_dir")
        variables["BENCHMARK_RAW"] = os.pathsep.join([str(data / "networks"), str(data / "human")])
    notebook = execute(nbformat.reads(source, as_version=4), path.parent, variables)
    assert list(tmp_path.glob(f"{path.stem}*.png"))
    plots = [cell for cell in notebook.cells if cell.cell_type == "code" and PLOTS.search(cell.source)]
    assert plots
    for cell in plots:
        assert count_pictures(cell, notebook) == 1, cell.source


@pytest.mark.slow
def test_pictures_show_without_a_word_about_the_backend(tmp_path, execute):
    """Covers pyplot Axes, a result and a figure as values of cells, and what the user draws afterwards."""
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
