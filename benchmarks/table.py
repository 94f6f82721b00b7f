"""Benchmark tables: CSV rows keyed by what was measured and on what, so that a rerun replaces its own."""

import csv
import platform
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path

import torch

from runkit import atomic_write
from runkit.provenance import processor_name

__all__ = ["SHARES", "VERSIONS", "describe_versions", "device_name", "merge_rows", "percentile"]

SHARES = (0.5, 0.2, 0.8)
"""What is reported of repeated measurements: the median, and the 20th and 80th percentile."""

VERSIONS = ("threads", "torch", "timm", "triton", "when")


def percentile(values: Sequence[float], share: float) -> float:
    """Value below which `share` of the sorted values lie, without interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def device_name(device: str) -> str:
    """Name of the GPU, or of the processor with the widest vectors that PyTorch uses on it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{processor_name() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def describe_versions(device: str) -> dict[str, str]:
    """The columns `VERSIONS` of a row that is measured now; threads on the CPU only."""
    packages = {name: _version(name) for name in ("timm", "triton")}
    return {
        "threads": str(torch.get_num_threads()) if device == "cpu" else "",
        "torch": torch.__version__,
        **packages,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def merge_rows(path: Path, new: Sequence[dict[str, str]], *, key: Sequence[str], fields: Sequence[str]) -> None:
    """Write the table with `new` rows in place of those of the same key; the rest stays.

    Args:
        path: CSV file; columns it has besides `fields` are dropped, those it lacks are left empty.
        new: Rows with the columns `fields`.
        key: The columns that say what was measured, and on what.
        fields: All columns, in order.
    """
    rows: dict[tuple[str, ...], dict[str, str]] = {}
    if path.exists():
        with path.open(newline="", encoding="utf-8") as file:
            rows = {tuple(row[name] for name in key): row for row in csv.DictReader(file)}
    rows.update({tuple(row[name] for name in key): row for row in new})
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, restval="", extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows.values())


def _version(package: str) -> str:
    """Installed version, empty if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
