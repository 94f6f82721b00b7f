"""Runs killed at random moments and continued end in the files of a run that was never interrupted.

`KILLS=20 pytest tests/test_kill_and_resume.py` kills each tool twenty times; by default it is done once.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import ROOT

KILLS = int(os.environ.get("KILLS", "1"))


@pytest.fixture
def erf_command(tmp_path) -> list[str]:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(30):
        Image.fromarray(rng.integers(0, 256, (100, 120, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return ["erf.visualize", "--model", "resnet18", "--weights", "random", "--images", str(folder), "--size", "160"]


@pytest.fixture
def shapebias_command(tmp_path, benchmark_folder) -> list[str]:
    people = tmp_path / "people"
    people.mkdir()
    rows = [
        f"subject-01,1,{trial},NaN,{path.parent.name},{path.parent.name},0,{path.name}"
        for trial, path in enumerate(sorted(benchmark_folder.glob("*/*.png")), start=1)
    ]
    columns = "subj,session,trial,rt,object_response,category,condition,imagename"
    (people / "1.csv").write_text("\n".join([columns, *rows]) + "\n")
    data = ["--stimuli", str(benchmark_folder), "--humans", str(people)]
    return ["shapebias.run", "--model", "test_resnet", "--weights", "random", *data]


def start(command: list[str], output: Path) -> subprocess.Popen:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # the same number of threads gives the same bits
    arguments = [sys.executable, "-m", *command, "--resume", "--output", str(output)]
    return subprocess.Popen(arguments, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(command: list[str], output: Path) -> float:
    """Let a run come to its end; returns the seconds it took."""
    started = time.monotonic()
    process = start(command, output)
    said, _ = process.communicate()
    assert process.returncode == 0, said.decode()
    return time.monotonic() - started


def content(output: Path) -> dict[str, object]:
    """What the files of a run say, without when, how fast and by which command it was made."""
    found: dict[str, object] = {}
    for path in sorted(output.rglob("*")):
        name = path.relative_to(output).as_posix()
        if path.suffix == ".npz":
            with np.load(path) as archive:
                found |= {f"{name}/{key}": archive[key].tobytes() for key in archive.files if key != "provenance"}
        elif path.suffix == ".json":
            found[name] = json.loads(path.read_text(encoding="utf-8"))["results"]
        elif path.suffix in (".csv", ".tex"):
            found[name] = path.read_bytes()
        else:
            found[name] = path.is_file()
    return found


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("tool", ["erf", "shapebias"])
def test_killed_runs_end_in_the_same_files(tool, request, tmp_path):
    command = request.getfixturevalue(f"{tool}_command")
    seconds = finish(command, tmp_path / "whole")
    whole, killed = content(tmp_path / "whole"), tmp_path / "killed"
    rng = random.Random(0)
    kills = 0
    while kills < KILLS:
        process = start(command, killed)
        try:
            process.communicate(timeout=rng.uniform(0.2, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0
        assert content(killed) == whole  # and from the beginning
        shutil.rmtree(killed)
    finish(command, killed)
    assert content(killed) == whole
