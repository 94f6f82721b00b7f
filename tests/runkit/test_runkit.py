"""Exit codes, complete files, provenance."""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import pytest
from support import ROOT

from runkit import (
    Failures,
    RunStopped,
    UserError,
    atomic_write,
    auto_or_int,
    command_line,
    describe_run,
    format_latex,
    format_table,
    list_differences,
    load_json,
    run_main,
    save_json,
    save_latex,
    sha256_of_files,
    sha256_of_lines,
)
from runkit.compute.device import choose_device
from runkit.files import refuse_unwritable
from runkit.intervals import share_interval
from runkit.options import meant_device


def raising(error):
    def work():
        raise error

    return work


def test_exit_codes(capsys):
    def run(work):
        return run_main(work, program="tool", arguments=["--images", "my photos"])

    again = "Continue with: python -m tool --images 'my photos' --resume"
    assert run(lambda: 0) == 0
    assert run(raising(UserError("what to do"))) == 2
    assert capsys.readouterr().err == "tool: error: what to do\n"
    assert run(raising(KeyboardInterrupt())) == 130
    assert again in capsys.readouterr().err
    assert run(raising(RunStopped("rank 1 ended"))) == 1
    assert capsys.readouterr().err == f"tool: stopped: rank 1 ended. {again}\n"
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_a_request_to_end_is_treated_as_ctrl_c(capsys):
    before = signal.getsignal(signal.SIGTERM)
    assert run_main(lambda: os.kill(os.getpid(), signal.SIGTERM), program="tool", arguments=["--resume"]) == 143
    assert capsys.readouterr().err.endswith("tool: interrupted. Continue with: python -m tool --resume\n")
    assert signal.getsignal(signal.SIGTERM) is before


def test_only_rank_0_speaks(capsys, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    assert run_main(raising(UserError("what to do")), program="tool", arguments=[]) == 2
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("RANK")
    assert run_main(lambda: 0, program="tool", arguments=[]) == 0  # which lets the loggers speak again


def test_the_command_of_a_run_with_several_ranks(monkeypatch):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert command_line("tool", ["--x", "1"]) == "torchrun --nproc-per-node=2 -m tool --x 1"


def test_a_failing_network_does_not_stop_a_sweep(caplog):
    failures = Failures()
    assert failures.guard("good", lambda: 1, alone=False) == 1
    assert failures.exit_code == 0
    assert failures.guard("bad", raising(UserError("no weights")), alone=False) is None
    assert failures.exit_code == 2
    assert failures.guard("broken", raising(ZeroDivisionError("0")), alone=False) is None
    assert failures.guard("bad too", raising(UserError("no such layer")), alone=False) is None
    assert failures.exit_code == 1  # one is a fault that the user cannot mend
    failures.log()
    assert "failed: bad: no weights" in caplog.text
    assert "failed: broken: ZeroDivisionError: 0" in caplog.text


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("no weights", "net.py:build: no weights"),
        ("net.py:build: no weights", "net.py:build: no weights"),
        ("net.py:build has 10 outputs", "net.py:build has 10 outputs"),
        ("net.py:build() failed", "net.py:build() failed"),
        ("net.py:build2 is no network", "net.py:build: net.py:build2 is no network"),
    ],
)
def test_a_failure_names_its_network_once(message, shown, caplog):
    def fail():
        raise UserError(message)

    failures = Failures()
    failures.guard("net.py:build", fail, alone=False)
    failures.log()
    assert caplog.messages == [f"{shown}; going on with the others", f"failed: {shown}"]
    with pytest.raises(UserError, match="no weights"):
        failures.guard("bad", raising(UserError("no weights")), alone=True)
    with pytest.raises(RunStopped):
        failures.guard("bad", raising(RunStopped("rank 1 ended")), alone=False)


def test_atomic_write_is_all_or_nothing(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("one")
    assert path.read_text(encoding="utf-8") == "one"

    def fail_half_way():
        with atomic_write(path) as temporary:
            temporary.write_text("two")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail_half_way()
    assert path.read_text(encoding="utf-8") == "one"
    assert list(path.parent.iterdir()) == [path]


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    """A process that is killed while it writes leaves a temporary file; the next to write the same file removes it."""
    code = (
        "import os, signal, sys; from runkit import atomic_write\n"
        "with atomic_write(sys.argv[1]) as path: path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    path = tmp_path / "a.json"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, check=False)
        assert len(list(tmp_path.iterdir())) == 1
    (leftover,) = tmp_path.iterdir()
    alive = tmp_path / re.sub(r"-\d+-", f"-{os.getpid()}-", leftover.name)
    alive.write_text("of a process that lives")
    with atomic_write(tmp_path / "b.json") as temporary:
        temporary.write_text("another file")
    assert leftover.exists()
    with atomic_write(path) as temporary:
        temporary.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([path, alive, tmp_path / "b.json"])


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


def test_differences_of_hashes_show_their_first_digits():
    old, new = {"sha256": "0123456789abcdef" * 4}, {"sha256": "fedcba9876543210" * 4}
    assert list_differences(old, new) == ["sha256: 01234567... -> fedcba98..."]


def test_differences_of_long_lists_name_what_is_not_in_both():
    numbers = list(range(40))
    assert list_differences({"a": [1, 2]}, {"a": [1, 3]}) == ["a: [1, 2] -> [1, 3]"]
    assert list_differences({"a": numbers}, {"a": [*numbers[2:], 77]}) == [
        "a: 40 values -> 39 values, without 0, 1 and with 77"
    ]
    assert list_differences({"a": numbers}, {"a": numbers[8:]}) == [
        "a: 40 values -> 32 values, without 0, 1, 2, 3, 4, 5 and 2 more"
    ]
    assert list_differences({"a": numbers}, {"a": numbers[::-1]}) == ["a: 40 values -> 40 values, in another order"]
    twice = [*numbers[:-1], 0]
    assert list_differences({"a": numbers}, {"a": twice}) == ["a: 40 values -> 40 values, without 39 and with 0"]


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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
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
        r"  31$\times$31 & -- \\",
        r"  \bottomrule",
        r"\end{tabular}",
    ]


def test_minus_signs_are_set_as_such_in_latex_and_hyphens_stay():
    text = format_latex(
        ["pair", "by", "interval"], [["x-1.in1k - y-2", "-0.5", "[-0.313, +0.200]"], ["a", "-", "1e-5"]]
    )
    assert r"x-1.in1k $-$ y-2 & $-$0.5 & [$-$0.313, +0.200] \\" in text
    assert r"a & -- & 1e-5 \\" in text


def test_latex_files_have_no_empty_columns_and_dashes_of_latex(tmp_path):
    rows = [["a", "–", "1–2", ""], ["b", "", "−3", "-"]]
    text = save_latex(tmp_path / "t.tex", ["name", "none", "some", "nothing"], rows, note="a note").read_text("utf-8")
    assert r"\begin{tabular}{lr}" in text
    assert r"  name & some \\" in text
    assert r"  a & 1--2 \\" in text
    assert r"  b & $-$3 \\" in text


def test_a_folder_is_tried_before_the_work_and_left_as_it_was(tmp_path, monkeypatch):
    refuse_unwritable(tmp_path / "not" / "there" / "yet")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="link is not a folder; name a folder you may write to"):
        refuse_unwritable(tmp_path / "link" / "out")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=rf"cannot write {tmp_path / 'out'}: {tmp_path} is not yours to write to"):
        refuse_unwritable(tmp_path / "out")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that takes no files")
def test_permissions_do_not_tell_everything():
    with pytest.raises(UserError, match=r"cannot write /proc/mine: .*; name a folder you may write to"):
        refuse_unwritable(Path("/proc/mine"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [("gpu", "cuda"), ("GPU:1", "cuda:1"), ("CUDA", "cuda"), ("Cpu", "cpu"), ("cuda:1", ""), ("nosuch", "")],
)
def test_usual_mistakes_in_a_devices_name(name, meant):
    assert meant_device(name) == meant
    if meant:
        with pytest.raises(UserError, match=rf"there is no device '{name}'; did you mean {meant}\?"):
            choose_device(name)


def test_an_unknown_device_is_called_so_in_few_words():
    with pytest.raises(UserError, match="--device nosuch cannot be used: PyTorch knows no such device; take cpu, cuda"):
        choose_device("nosuch")


def test_intervals_of_shares():
    """Wilson's interval of 8 in 10, and intervals if all or none succeed."""
    assert share_interval(8, 10) == pytest.approx((0.4901625, 0.9433178), abs=1e-6)
    assert share_interval(0, 10) == pytest.approx((0.0, 0.2775328), abs=1e-6)
    assert share_interval(10, 10) == pytest.approx((0.7224672, 1.0), abs=1e-6)
    with pytest.raises(ValueError, match="11 successes of 10"):
        share_interval(11, 10)
