"""Benchmark tables: CSV rows with a key of measurement and device, so that a rerun replaces its own rows."""

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
"""Quantiles reported for repeated measurements: the median, and the 20th and 80th percentile."""

VERSIONS = ("threads", "torch", "timm", "triton", "when")


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which a share of the sorted values lies, without interpolation."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def device_name(device: str) -> str:
    """The name of the GPU, or of the processor followed by the widest vector instructions that PyTorch uses on it."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    return f"{processor_name() or platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def describe_versions(device: str) -> dict[str, str]:
    """The columns `VERSIONS` of a row measured now. The number of threads is empty unless the device is a CPU."""
    packages = {name: _version(name) for name in ("timm", "triton")}
    return {
        "threads": str(torch.get_num_threads()) if device == "cpu" else "",
        "torch": torch.__version__,
        **packages,
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def merge_rows(path: Path, new: Sequence[dict[str, str]], *, key: Sequence[str], fields: Sequence[str]) -> None:
    """Write `new` rows to a table, where they replace rows of the same key; other rows are kept.

    Args:
        path: CSV file. Existing columns that are not in `fields` are dropped, and missing ones are left empty.
        new: Rows with the columns `fields`.
        key: The columns that identify a measurement.
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
    """The installed version of a package; empty if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
