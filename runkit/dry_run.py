"""What a run would do, for `--dry-run` of both tools."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from runkit.checkpoint_files import refuse_no_checkpoint
from runkit.console import Failures, write_json, write_out
from runkit.cost import Cost
from runkit.files import refuse_unwritable
from runkit.sweep import Job, LeftOut, OnDisk, Preview, Tool
from runkit.tables import format_table

__all__ = ["Cost", "DryRun", "ForeseenJob", "foresee_sweep"]

_Job = TypeVar("_Job", bound=Job)


@dataclass(frozen=True)
class ForeseenJob:
    """What would be done for one result.

    Attributes:
        name: Name of the result and its files.
        weights: Where the weights would come from, as text.
        state: What would be done, as text.
        files: Files that would be written or kept.
        cost: Estimated cost; None if nothing is computed.
    """

    name: str
    weights: str
    state: str
    files: tuple[Path, ...]
    cost: Cost | None = None


@dataclass(frozen=True)
class DryRun:
    """Everything that a command would do.

    Attributes:
        program: Name of the command.
        what: Input of every network, as text.
        jobs: One job per result.
        files: Further files that would be written for all jobs together.
        basis: Basis of the estimates, as text; empty without estimates.
        free_bytes: Memory that is free now; None if it does not matter.
        failed: Maps a network to the reason why it cannot run.
    """

    program: str
    what: str
    jobs: Sequence[ForeseenJob]
    files: Sequence[Path]
    basis: str = ""
    free_bytes: int | None = None
    failed: Mapping[str, str] = field(default_factory=dict)

    def show(self, *, as_json: bool) -> None:
        """Write the report to stdout, as text or as JSON."""
        if as_json:
            write_json(self.as_dict())
        else:
            write_out(self.as_text())

    def as_dict(self) -> dict[str, Any]:
        """The report as content for JSON."""

        def describe(paths: Sequence[Path]) -> list[dict[str, Any]]:
            return [{"path": str(path), "exists": path.exists()} for path in paths]

        runs = [
            {
                "name": job.name,
                "weights": job.weights,
                "state": job.state,
                "files": describe(job.files),
                "estimate": job.cost and asdict(job.cost),
            }
            for job in self.jobs
        ]
        return {
            "program": self.program,
            "what": self.what,
            "runs": runs,
            "files": describe(self.files),
            "basis": self.basis,
            "free_bytes": self.free_bytes,
            "failed": dict(self.failed),
            "dry_run": True,
        }

    def as_text(self) -> str:
        """The report as text."""
        header = ["network", "weights", "parameters", "GMACs an image", "time", "memory", "what"]
        table = format_table(header, [[job.name, job.weights, *_cells(job.cost), job.state] for job in self.jobs])
        lines = [f"{self.program} would measure {self.what}:", "", table]
        if any(job.cost for job in self.jobs):
            free = "" if self.free_bytes is None else f" {_memory(self.free_bytes)} of memory are free now."
            lines += ["", f"Time and memory are estimates: {self.basis}.{free}"]
        lines += ["", "Files ('is there': exists already, and is replaced if the run writes it):"]
        paths = [path for job in self.jobs for path in job.files] + list(self.files)
        return "\n".join([*lines, *(f"  {'is there' if path.exists() else 'new':<8}  {path}" for path in paths)])


def foresee_sweep(tool: Tool[_Job, Any, Any, Any, Any]) -> tuple[DryRun, Failures]:
    """What `runkit.sweep.run_sweep` would do. Nothing is downloaded or written.

    Raises: UserError if the run would raise one.
    """
    refuse_unwritable(tool.config.output, try_it=False)
    refuse_no_checkpoint(tool.config.weights)
    tool.refuse_early()
    from runkit.compute.device import choose_device
    from runkit.compute.memory import available_memory

    device = choose_device(tool.config.device)
    tool.begin_dry(device)
    tool.settle_precision(device)
    failures, asked = Failures(), tool.config.asked
    listed = [
        failures.guard(name, partial(_preview, tool, name, weights), alone=len(asked) == 1) for name, weights in asked
    ]
    entries = [entry for of_network in listed for entry in of_network or ()]
    missing = [name for (name, _), of_network in zip(asked, listed, strict=True) if not of_network]
    tool.check_jobs([entry.job for entry in entries if isinstance(entry, Preview)], missing)
    alone = len(asked) == len(entries) == 1
    foreseen = [
        entry
        if isinstance(entry, ForeseenJob)
        else failures.guard(entry.job.name, partial(_foresee, tool, entry), alone=alone)
        for entry in entries
    ]
    known = DryRun(
        program=tool.program,
        what=tool.describe_inputs(),
        jobs=[job for job in foreseen if job is not None],
        files=tool.common_files([entry.job for entry in entries if isinstance(entry, Preview)]),
        basis=tool.basis,
        free_bytes=available_memory(device),
        failed=failures.reasons,
    )
    return known, failures


def _preview(tool: Tool[_Job, Any, Any, Any, Any], name: str, weights: str) -> "Sequence[Preview[_Job] | ForeseenJob]":
    try:
        return tool.preview_jobs(name, weights)
    except LeftOut as reason:
        return [ForeseenJob(name, str(reason), "leave out", ())]


def _foresee(tool: Tool[_Job, Any, Any, Any, Any], preview: "Preview[_Job]") -> ForeseenJob:
    """Raises: UserError if the run would be refused."""
    job, disk = preview.job, OnDisk(tool)
    files, images = tuple(tool.files(job)), tool.count_images(job)

    def entry(state: str, left: int = 0) -> ForeseenJob:
        return ForeseenJob(job.name, preview.weights, state, files, tool.estimate_cost(job, left) if left else None)

    if preview.unknown:
        kept = f", or keep what is there: known when the {preview.unknown} are downloaded"
        return entry(tool.verb + (kept if files[0].exists() and not tool.config.overwrite else ""), images)
    if disk.is_finished(job):
        return entry("finished: keep")
    if disk.has_outputs(job):
        return entry("measure what is saved")
    saved = disk.find_progress(job)
    done = tool.count_done(saved) if saved else 0
    return entry(f"continue after image {done} of {images}" if done else tool.verb, images - done)


def _cells(cost: Cost | None) -> list[str]:
    if cost is None:
        return ["-"] * 4
    memory = "-" if cost.peak_bytes is None else _memory(cost.peak_bytes)
    return [f"{cost.parameters / 1e6:.1f} M", f"{cost.macs / 1e9:.2f}", _duration(cost.seconds), memory]


def _memory(count: int) -> str:
    return f"{count / 1e9:.1f} GB"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
