"""Exit codes, whole files, provenance."""

import argparse
import hashlib
import json
import subprocess
import sys
from datetime import datetime, timezone

import pytest
from support import ROOT

from runkit import (
    UserError,
    atomic_write,
    auto_or_int,
    describe_run,
    format_latex,
    format_table,
    list_differences,
    load_json,
    run_main,
    save_json,
    sha256_of_files,
    sha256_of_lines,
)


def raising(error):
    def work():
        raise error

    return work


def test_exit_codes(capsys):
    assert run_main(lambda: 0, program="tool") == 0
    assert run_main(raising(UserError("what to do")), program="tool") == 2
    assert capsys.readouterr().err == "tool: error: what to do\n"
    assert run_main(raising(KeyboardInterrupt()), program="tool", resume_hint=lambda: "tool --resume") == 130
    assert "Continue with: tool --resume" in capsys.readouterr().err
    with pytest.raises(ZeroDivisionError):
        run_main(raising(ZeroDivisionError()), program="tool")


def test_atomic_write_is_all_or_nothing(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("one")
    assert path.read_text() == "one"

    def fail_half_way():
        with atomic_write(path) as temporary:
            temporary.write_text("two")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_atomic_write_where_one_may_not(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"), atomic_write(tmp_path / "file" / "a.txt"):
        pass


def test_json(tmp_path):
    save_json(tmp_path / "a.json", {"x": 1.5})
    assert load_json(tmp_path / "a.json") == {"x": 1.5}
    with pytest.raises(ValueError, match="JSON"):
        save_json(tmp_path / "b.json", {"x": float("nan")})
    assert not (tmp_path / "b.json").exists()
    (tmp_path / "c.json").write_text("[1]")
    for name, message in (("no.json", "cannot read"), ("c.json", "not an object")):
        with pytest.raises(UserError, match=message):
            load_json(tmp_path / name)


def test_differences():
    old, new = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 5, "d": 3}, "e": 6}
    assert list_differences(old, new) == ["b.c: 2 -> 5", "e: (absent) -> 6"]


def test_table():
    assert format_table(["name", "n"], [["long name", "1"], ["x", "20"]]).splitlines() == [
        "name        n",
        "---------  --",
        "long name   1",
        "x          20",
    ]


def test_provenance_is_complete():
    run = describe_run(program="tool", arguments=["--x", "1"], started=datetime.now(timezone.utc), seconds=1.0)
    assert run["command"] == "python -m tool --x 1"
    assert {"schema", "started", "seconds", "versions", "git_commit", "git_clean", "machine"} <= run.keys()
    assert run["versions"]["torch"]
    json.dumps(run, allow_nan=False)


def test_lines_are_hashed_with_their_ends():
    assert sha256_of_lines(["a", "b"]) != sha256_of_lines(["ab"])


def test_files_are_hashed_by_name_and_content(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1").write_bytes(b"one")
    expected = sha256_of_lines([f"a/1 {hashlib.sha256(b'one').hexdigest()}"])
    assert sha256_of_files(tmp_path, [tmp_path / "a" / "1"]) == expected
    with pytest.raises(UserError, match=r"cannot read .*nowhere: No such file"):
        sha256_of_files(tmp_path, [tmp_path / "nowhere"])


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", ""])
def test_auto_or_int(text):
    assert auto_or_int("auto") is None
    assert auto_or_int("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="at least 1"):
        auto_or_int(text)


@pytest.mark.parametrize("package", ["erf", "shapebias", "runkit"])
def test_importing_a_tool_is_light(package):
    heavy = ("torch", "matplotlib", "pandas", "triton", "timm")
    code = f"import sys, {package}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_latex_tables_are_escaped():
    text = format_latex(["name", "95% interval"], [["a_b & c", "0-1"], ["31×31", "-"]], note="needs\nbooktabs")
    assert text.splitlines() == [
        "% needs",
        "% booktabs",
        r"\begin{tabular}{lr}",
        r"  \toprule",
        r"  name & 95\% interval \\",
        r"  \midrule",
        r"  a\_b \& c & 0-1 \\",
        r"  31$\times$31 & - \\",
        r"  \bottomrule",
        r"\end{tabular}",
    ]
