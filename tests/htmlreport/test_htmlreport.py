"""The page over a results folder."""

import re
import subprocess
import sys

import pytest
from support import ROOT

from htmlreport import main


def test_both_tools_are_on_one_page(results_folder):
    assert main([str(results_folder)]) == 0
    page = (results_folder / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2 [^>]*>([^<]+)</h2>", page) == ["Effective receptive fields", "Shape bias", "This page"]
    for link in set(re.findall(r'href="([^"#][^"]*)"', page)):
        assert (results_folder / link).is_file(), link
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    for anchor in re.findall(r'href="#([^"]+)"', page):
        assert anchor in ids
    assert len(page) < 1_000_000


def test_one_tool_alone_is_enough(results_folder, tmp_path):
    (tmp_path / "erf").symlink_to(results_folder / "erf")
    page = tmp_path / "pages" / "fields.html"
    assert main([str(tmp_path), "--output", str(page)]) == 0
    text = page.read_text(encoding="utf-8")
    assert "Shape bias" not in text
    assert 'href="../erf/wide.json"' in text


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "holds no results; name the --output" in capsys.readouterr().err


def test_the_command_loads_no_torch(results_folder):
    code = (
        "import sys; from htmlreport import main; "
        f"code = main([{str(results_folder)!r}]); print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"


@pytest.mark.parametrize(
    ("package", "room", "allowed"),
    [("erf", "figures", {"runkit"}), ("shapebias", "figures", {"runkit"}), ("runkit", "html", set())],
)
def test_pages_know_nothing_of_the_other_tools(package, room, allowed):
    text = (ROOT / package / room / "page.py").read_text(encoding="utf-8")
    imported = set(
        re.findall(r"^(?:from|import) (erf|shapebias|replknet|runkit|htmlreport)\b", text, flags=re.MULTILINE)
    )
    assert imported - {package} == allowed
