"""The documentation builds: no broken link or reference, every page in the navigation."""

import subprocess
import sys

import pytest
from support import ROOT

pytest.importorskip("material", reason="needs the dependency group docs")


def test_the_site_builds_strictly(tmp_path):
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        encoding="utf-8",
    )
    assert built.returncode == 0, built.stderr
    commands = (tmp_path / "reference" / "command-lines" / "index.html").read_text(encoding="utf-8")
    for option in ("--num-images N", "--from-probabilities NPZ ...", "--erf JSON ..."):
        assert f"<code>{option}</code>" in commands
    python = (tmp_path / "reference" / "erf" / "index.html").read_text(encoding="utf-8")
    assert 'id="erf.gradient.contribution.contribution_map"' in python
    assert "<strong>Returns:</strong> float64 (H, W)" in python


def test_the_tables_of_options_on_the_pages_are_those_of_the_programs():
    """If this fails, run `python docs/option_tables.py`, which writes the tables for readers of the repository."""
    command = [sys.executable, str(ROOT / "docs" / "option_tables.py"), "--check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, f"run python docs/option_tables.py: {done.stderr}"
