"""Features that both command lines share: verbosity, stdout, completion, dry runs."""

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from runkit import is_quiet, run_main, write_out
from runkit.dry_run import Cost, DryRun, ForeseenJob
from runkit.options import Console, add_console, program_name


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tool")
    parser.add_argument("--output", metavar="DIR")
    add_console(parser, script="tool")
    return parser


def test_what_the_console_is_asked_for(parser):
    options = vars(parser.parse_args(["--json", "--quiet", "--list-models"]))
    assert Console.pop_from(options) == Console(json=True, quiet=True, list_models="*")
    assert options == {"output": None}
    assert (Console().level, Console(quiet=True).level, Console(verbose=True).level) == (20, 30, 10)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--quiet", "--verbose"])


def test_loudness(caplog):
    logger = logging.getLogger("erf.anything")

    def work() -> int:
        logger.debug("detail")
        logger.info("news")
        logger.warning("trouble")
        return int(is_quiet())

    for level, expected in ((10, "detail news trouble"), (20, "news trouble"), (30, "trouble")):
        caplog.clear()
        assert run_main(work, program="tool", level=level) == (level > 20)
        assert " ".join(record.getMessage() for record in caplog.records) == expected
    run_main(work, program="tool")


def test_a_reader_that_has_seen_enough_is_no_error():
    code = "from runkit import write_out\nfor i in range(100000): write_out('line')"
    program = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", cwd=ROOT
    )
    assert program.stdout.readline() == "line\n"
    program.stdout.close()
    assert program.stderr.read() == ""
    program.stderr.close()
    assert program.wait() == 0


def test_the_program_is_called_as_the_user_called_it(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/erf", "--help"])
    assert program_name("erf.visualize", "erf") == "erf"
    monkeypatch.setattr(sys, "argv", ["/repo/erf/visualize.py"])
    assert program_name("erf.visualize", "erf") == "python -m erf.visualize"


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(parser, shell, capsys):
    pytest.importorskip("shtab")
    with pytest.raises(SystemExit, match="0"):
        parser.parse_args(["--print-completion", shell])
    script = capsys.readouterr().out
    assert "dry-run" in script
    assert "python -m" not in script


def test_completion_without_its_package(parser, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--print-completion", "bash"])
    assert "pip install 'replknet-analysis[completion]'" in capsys.readouterr().err


def test_console_scripts():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"erf": "erf.visualize:main", "shapebias": "shapebias.run:main"}


def test_dry_runs(tmp_path, capsys):
    (tmp_path / "a.npz").write_text("")
    files = (tmp_path / "a.npz", tmp_path / "a.json")
    cost = Cost(parameters=25_600_000, macs=4_110_000_000, seconds=600.0, peak_bytes=2_300_000_000)
    jobs = [ForeseenJob("a", "installed", "compute", files, cost), ForeseenJob("b", "cached", "finished: keep", ())]
    dry_run = DryRun("tool", "3 images", jobs, [Path("all.csv")], basis="from a try", free_bytes=8_000_000_000)
    dry_run.show(as_json=False)
    text = capsys.readouterr().out
    assert "tool would measure 3 images:" in text
    assert "a        installed      25.6 M            4.11  10 min  2.3 GB         compute" in text
    assert "estimates: from a try. 8.0 GB of memory are free now." in text
    assert f"  is there  {files[0]}\n  new       {files[1]}\n  new       all.csv\n" in text
    dry_run.show(as_json=True)
    content = json.loads(capsys.readouterr().out)
    assert content["dry_run"] is True
    assert content["runs"][0]["files"] == [
        {"path": str(files[0]), "exists": True},
        {"path": str(files[1]), "exists": False},
    ]
    assert content["runs"][0]["estimate"]["macs"] == 4_110_000_000
    assert content["runs"][1]["estimate"] is None


def test_stdout_gets_whole_lines(capsys):
    write_out("a\nb")
    assert capsys.readouterr().out == "a\nb\n"
