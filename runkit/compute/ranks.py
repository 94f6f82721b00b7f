"""One process or many: the ranks started by `torchrun` share the images of a run, and rank 0 prints and writes.

Every rank runs the same program on its share of each round of images. The results of the ranks are collected on rank 0
in the order of the images, so neither the result of a run nor its saved progress depends on the number of ranks. A
single process is a world of size 1. It does not communicate and does not need `torch.distributed`.

The backend for results is gloo between CPUs and NCCL between CUDA devices.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from runkit import RunStopped, UserError, list_differences

__all__ = ["World", "cores_of_rank", "joined_world"]

_PATIENCE = timedelta(minutes=30)
"""How long a rank waits for another before it gives up. It is longer than any batch or download takes."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class World:
    """The processes of a run, seen from one of them.

    Attributes:
        rank: Rank of this process, from 0.
        size: Number of processes.

    Every method except `share` must be called by all ranks alike. An error that `work` raises on one rank is raised on
    all ranks, so that they stay in step. The other ranks raise the same `UserError`, or a RuntimeError that names the
    rank.

    Raises (each method): RunStopped if another rank no longer exists.
    """

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is rank 0, which writes and prints."""
        return self.rank == 0

    def share(self, items: Sequence[_T]) -> Sequence[_T]:
        """This rank's part of `items`. Parts are contiguous, in the order of the ranks, and of nearly equal size."""
        return items[len(items) * self.rank // self.size : len(items) * (self.rank + 1) // self.size]

    def together(self, work: Callable[[], _T]) -> _T:
        """Call `work` on every rank, and return this rank's result once all of them have succeeded."""
        if self.size == 1:
            return work()
        error: Exception | None = None
        try:
            result = work()
        except Exception as raised:
            error = raised
        fixable = error is None or isinstance(error, UserError)
        report = error if fixable else f"{type(error).__name__}: {error}"
        reports = self._talk(lambda: _all_gather(report, self.size))
        if error is not None:
            raise error
        for rank, other in enumerate(reports):
            if other is not None:
                raise other if isinstance(other, UserError) else RuntimeError(f"rank {rank} failed: {other}")
        return result

    def on_main(self, work: Callable[[], _T]) -> _T:
        """Call `work` on rank 0 only, and return its result on every rank."""
        result = self.only_main(work)
        if self.size == 1:
            return result  # type: ignore[return-value]
        box: list[Any] = [result]
        self._talk(lambda: dist.broadcast_object_list(box))
        return box[0]

    def only_main(self, work: Callable[[], _T]) -> _T | None:
        """Call `work` on rank 0 only. Returns its result on rank 0 and None on the others, to which nothing is sent."""
        return self.together(lambda: work() if self.main else None)

    def main_first(self, work: Callable[[], _T]) -> _T:
        """Call `work` first on rank 0, then on the others, so that they find what rank 0 has downloaded."""
        if self.size == 1:
            return work()
        first = self.only_main(work)
        return self.together(lambda: first if self.main else work())  # type: ignore[return-value]

    def collect(self, work: Callable[[], Sequence[_T]]) -> list[_T]:
        """Call `work` on every rank. Returns the concatenated results on rank 0, and an empty list on the others."""
        part = self.together(work)
        if self.size == 1:
            return list(part)
        parts: list[Any] | None = [None] * self.size if self.main else None
        self._talk(lambda: dist.gather_object(part, parts))
        return [item for one in parts or () for item in one]

    def check_same(self, what: Mapping[str, Any]) -> None:
        """Check that all ranks have the same run.

        Raises: UserError that names the differences from rank 0, which arise if other files lie on that rank's machine.
        """
        if self.size == 1:
            return
        first, *others = self._talk(lambda: _all_gather(what, self.size))
        for rank, other in enumerate(others, start=1):
            if differences := list_differences(first, other):
                raise UserError(f"rank {rank} would compute something else than rank 0: {'; '.join(differences)}")

    def _talk(self, exchange: Callable[[], _T]) -> _T:
        try:
            return exchange()
        except RuntimeError as error:  # raised by both backends
            reason = (str(error).splitlines() or [""])[0]
            raise RunStopped(f"rank {self.rank} lost the connection to another rank, which ended ({reason})") from error


@contextmanager
def joined_world(device: torch.device) -> Iterator[World]:
    """Context with the world of this process: that of torchrun's ranks, otherwise a world of size 1.

    Ranks on a CPU divide the cores of their machine: PyTorch's number of threads is set accordingly.

    Args:
        device: Device of this rank (see `runkit.compute.device.choose_device`).
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    if device.type == "cpu":
        torch.set_num_threads(cores_of_rank())
    else:
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        # PyTorch 2.6 waits for its threads while holding the interpreter's lock. A thread that releases the last tensor
        # that it sent needs this lock. While this process sleeps, that thread gets the lock and finishes.
        time.sleep(0.05)
        dist.destroy_process_group()


def cores_of_rank() -> int:
    """Number of cores for this process, at least 1: its share if torchrun started several processes on this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _all_gather(value: Any, size: int) -> list[Any]:
    values: list[Any] = [None] * size
    dist.all_gather_object(values, value)
    return values
