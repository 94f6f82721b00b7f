"""Everything that can be wrong with the user's input, through both command lines; the table is `docs/faults.md`."""

import os
import shutil
from pathlib import Path

import erf_cases
import pytest
import shapebias_cases
from fault_case import Case, table
from support import ROOT, fits, tenth_of_the_images

from erf.visualize import main as erf_main
from shapebias.run import main as shapebias_main

CASES = erf_cases.CASES + shapebias_cases.CASES
TABLE = ROOT / "docs" / "faults.md"
# timm warns of a deprecated spelling when it builds some networks; not ours to fix
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} if folder.is_dir() else {}


@pytest.fixture
def few_asked():
    """The benchmark has a tenth of its images, as in `few_images`."""
    with tenth_of_the_images():
        yield


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group.partition('.')[0]}: {case.what}")
def test_fault(case: Case, tmp_path, benchmark_folder, few_images, capsys, caplog, monkeypatch, request):
    erf = case.group.startswith("erf")
    if not erf:
        whole = case.group.endswith(("arguments", "stimuli"))  # what is wrong may be the number of images
        images = benchmark_folder if whole else few_images
        shutil.copytree(images, tmp_path / "cue-conflict", copy_function=os.link)
        if not whole:
            request.getfixturevalue("few_asked")
    arguments = case.call(tmp_path)
    out = tmp_path / "out"
    if "--output" not in arguments:
        arguments = [*arguments, "--output", str(out)]
    before = files(out)
    capsys.readouterr()
    caplog.clear()
    if case.patch:
        case.patch(monkeypatch)
    try:
        code = (erf_main if erf else shapebias_main)(arguments)
    except SystemExit as ending:  # argparse
        code = ending.code
    captured = capsys.readouterr()
    lines = [line.partition(": ")[2] for line in captured.err.splitlines() if ": error: " in line]
    lines += [record.getMessage() for record in caplog.records]
    assert "Traceback" not in captured.err
    assert code == case.code
    if case.sees:
        assert any(fits(case.sees, line) for line in lines), "\n".join(lines)
    else:
        assert not any(line.startswith(("skipped", "error")) for line in lines)
    if code == 2 and not case.sees.startswith("failed"):
        assert captured.out == ""
        assert files(out) == before
        assert case.existing or not before


def test_the_table_in_the_documentation_is_that_of_the_cases():
    assert len(CASES) >= 60
    if os.environ.get("WRITE_FAULTS"):
        TABLE.write_text(table(CASES), encoding="utf-8")
    assert TABLE.read_text(encoding="utf-8") == table(CASES), "write it again: WRITE_FAULTS=1 pytest tests/faults"
