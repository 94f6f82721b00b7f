"""Runs that are killed at random moments and resumed give the same files as an uninterrupted run.

`KILLS=20 pytest tests/test_kill_and_resume.py` kills each tool twenty times; the default is once.
"""

import json
import os
import random
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from warm import Python, run_python

from shapebias.stimuli.categories import CATEGORIES

KILLS = int(os.environ.get("KILLS", "1"))


@pytest.fixture
def erf_command(tmp_path) -> list[str]:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(16):
        Image.fromarray(rng.integers(0, 256, (80, 90, 3), dtype=np.uint8)).save(folder / f"{number:02d}.png")
    return ["erf.visualize", "--model", "resnet18", "--weights", "random", "--images", str(folder), "--size", "96"]


@pytest.fixture
def shapebias_command(tmp_path) -> list[str]:
    stimuli, people = tmp_path / "edge", tmp_path / "people"
    rng = np.random.default_rng(0)
    rows = ["subj,session,trial,rt,object_response,category,condition,imagename"]
    for shape in CATEGORIES:
        (stimuli / shape).mkdir(parents=True)
        for number in range(1, 11):
            name = f"{shape}{number}.png"
            Image.fromarray(rng.integers(0, 256, (224, 224), dtype=np.uint8)).save(stimuli / shape / name)
            rows.append(f"subject-01,1,{len(rows)},NaN,{shape},{shape},0,{name}")
    people.mkdir()
    (people / "1.csv").write_text("\n".join(rows) + "\n")
    data = ["--experiment", "edge", "--stimuli", str(stimuli), "--humans", str(people)]
    return ["shapebias.run", "--model", "test_resnet", "--weights", "random", *data]


def start(command: list[str], output: Path) -> Python:
    threads = {"OMP_NUM_THREADS": "1"}  # the same number of threads gives the same bits
    return Python("-m", *command, "--resume", "--output", str(output), environment=threads)


def finish(command: list[str], output: Path) -> float:
    """Run a command to its end and return the seconds it took."""
    started = time.monotonic()
    done = start(command, output).wait()
    assert done.returncode == 0, done.stderr
    return time.monotonic() - started


def content(output: Path) -> dict[str, object]:
    """The content of a run's files, without times, speed and command."""
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
    run_python("-c", "pass")  # the first one waits for the server
    seconds = finish(command, tmp_path / "whole")
    whole, killed = content(tmp_path / "whole"), tmp_path / "killed"
    rng = random.Random(0)
    kills = 0
    while kills < KILLS:
        process = start(command, killed)
        done = process.wait(rng.uniform(0.2, 0.9) * seconds)
        if done is None:
            process.kill()
            kills += 1
            continue
        assert done.returncode == 0
        assert content(killed) == whole  # and from the beginning
        shutil.rmtree(killed)
    finish(command, killed)
    assert content(killed) == whole
