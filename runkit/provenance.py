"""Provenance of a result: versions, commit, machine, command. It is saved in every JSON file."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Literal

from runkit.console import command_line
from runkit.content import Environment, Machine, RunHead

__all__ = ["SCHEMA_VERSION", "describe_environment", "describe_run", "list_differences", "processor_name"]

SCHEMA_VERSION: Literal[2] = 2  # 2: receptive fields keep sums of each image's map, and their measures have intervals
DISTRIBUTION = "replknet-analysis"
_PACKAGES = (
    DISTRIBUTION,
    "torch",
    "torchvision",
    "timm",
    "triton",
    "numpy",
    "scipy",
    "pillow",
    "matplotlib",
    "seaborn",
)


def describe_environment() -> Environment:
    """Versions, commit and machine: `versions`, `git_commit`, `git_clean`, `machine`.

    Versions are read without importing the packages; that of a package that is not installed is None. `git_commit` and
    `git_clean` are None if the code does not run from a checkout of its repository.
    """
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    commit, clean = _git_state()
    machine: Machine = {"system": platform.platform(), "processor": processor_name(), "cores": os.cpu_count()}
    return {"versions": versions, "git_commit": commit, "git_clean": clean, "machine": machine}


def describe_run(*, program: str, arguments: Sequence[str], started: datetime, seconds: float) -> RunHead:
    """The head of every result file: `schema`, `command`, `started` (UTC), `seconds`, then the environment."""
    return {
        "schema": SCHEMA_VERSION,
        "command": command_line(program, arguments),
        "started": started.astimezone(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds, 3),
        **describe_environment(),
    }


_SHOWN = 6  # maximum number of differing list elements shown
_SHA256 = re.compile(r"^([0-9a-f]{8})[0-9a-f]{56}$")  # of which the first digits are shown


def list_differences(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    """Lines `key: old -> new` for every leaf in which two configurations differ. Nested keys are joined by dots.

    For long lists, only the elements that are in one list and not in the other are named.
    """
    old_leaves, new_leaves = _leaves(old), _leaves(new)
    keys = [*old_leaves, *(key for key in new_leaves if key not in old_leaves)]
    absent = "(absent)"
    pairs = ((key, old_leaves.get(key, absent), new_leaves.get(key, absent)) for key in keys)
    return [f"{key}: {_change(before, after)}" for key, before, after in pairs if before != after]


def _change(before: object, after: object) -> str:
    """Describe the change from one value to another."""
    if not isinstance(before, (list, tuple)) or not isinstance(after, (list, tuple)):
        return " -> ".join(_SHA256.sub(r"\1...", str(value)) for value in (before, after))
    if len(before) + len(after) <= _SHOWN:
        return f"{before} -> {after}"
    parts = [
        f"{word} {', '.join(map(str, some[:_SHOWN]))}{f' and {len(some) - _SHOWN} more' * (len(some) > _SHOWN)}"
        for word, some in (
            ("without", _beyond(before, after)),
            ("with", _beyond(after, before)),
        )
        if some
    ]
    return f"{len(before)} values -> {len(after)} values, {' and '.join(parts) or 'in another order'}"


def _beyond(values: Sequence[object], others: Sequence[object]) -> list[object]:
    """The values that are not among others. Each value is matched once, so surplus repetitions are listed too."""
    left, found = list(others), []
    for one in values:
        if one in left:
            left.remove(one)
        else:
            found.append(one)
    return found


def _leaves(content: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    leaves: dict[str, object] = {}
    for key, value in content.items():
        if isinstance(value, dict):
            leaves.update(_leaves(value, f"{prefix}{key}."))
        else:
            leaves[prefix + key] = value
    return leaves


def _git_state() -> tuple[str | None, bool | None]:
    """Commit of the checkout that contains this file, and whether its tracked files are unmodified."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None, None

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):  # git is not available, so the commit stays unknown
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit, changes = git("rev-parse", "HEAD"), git("status", "--porcelain", "--untracked-files=no")
    return commit, None if changes is None else changes == ""


def processor_name() -> str:
    """Model name of the processor, from /proc/cpuinfo on Linux and from Python's `platform` elsewhere."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
