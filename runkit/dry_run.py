"""What a run would do, as `--dry-run` of both tools tells it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from runkit.console import write_json, write_out
from runkit.tables import format_table

__all__ = ["Estimate", "Plan", "PlannedRun"]


@dataclass(frozen=True)
class Estimate:
    """The cost of one network's run.

    Attributes:
        parameters: Of the network.
        macs: Multiply-accumulates of one image's forward pass, counted.
        seconds: Of all images that are left, estimated.
        peak_bytes: Of the process, on CUDA of the device, estimated; None if not known.
    """

    parameters: int
    macs: int
    seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class PlannedRun:
    """One network's run.

    Attributes:
        name: The files are called after it.
        weights: Where they would come from, in words.
        state: What would be done, in words.
        files: That would be written, or are kept.
        estimate: None where nothing is computed.
    """

    name: str
    weights: str
    state: str
    files: tuple[Path, ...]
    estimate: Estimate | None = None


@dataclass(frozen=True)
class Plan:
    """All that a command would do.

    Attributes:
        program: Its name.
        what: What every network is given, in words.
        runs: Of the networks.
        files: That would be written besides, for all networks together.
        basis: What the estimates come from, in words; empty without estimates.
        free_bytes: Memory that is free now; None if it does not matter.
        failed: Networks that cannot run, and why.
    """

    program: str
    what: str
    runs: Sequence[PlannedRun]
    files: Sequence[Path]
    basis: str = ""
    free_bytes: int | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    def show(self, *, as_json: bool) -> None:
        """Write it to stdout, as text or as JSON."""
        if as_json:
            write_json(self.as_dict())
        else:
            write_out(self.as_text())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""

        def describe(paths: Sequence[Path]) -> list[dict[str, Any]]:
            return [{"path": str(path), "exists": path.exists()} for path in paths]

        runs = [{**asdict(run), "files": describe(run.files)} for run in self.runs]
        return {**asdict(self), "dry_run": True, "runs": runs, "files": describe(self.files)}

    def as_text(self) -> str:
        """For people."""
        header = ["network", "weights", "parameters", "GMACs an image", "time", "memory", "what"]
        table = format_table(header, [[run.name, run.weights, *_cost(run.estimate), run.state] for run in self.runs])
        lines = [f"{self.program} would measure {self.what}:", "", table]
        if any(run.estimate for run in self.runs):
            free = "" if self.free_bytes is None else f" {_memory(self.free_bytes)} of memory are free now."
            lines += ["", f"Time and memory are estimates: {self.basis}.{free}"]
        lines += ["", "Files ('is there' also of what would be replaced):"]
        paths = [path for run in self.runs for path in run.files] + list(self.files)
        return "\n".join([*lines, *(f"  {'is there' if path.exists() else 'new':<8}  {path}" for path in paths)])


def _cost(estimate: Estimate | None) -> list[str]:
    if estimate is None:
        return ["-"] * 4
    memory = "-" if estimate.peak_bytes is None else _memory(estimate.peak_bytes)
    return [f"{estimate.parameters / 1e6:.1f} M", f"{estimate.macs / 1e9:.2f}", _duration(estimate.seconds), memory]


def _memory(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
