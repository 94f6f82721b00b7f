"""Memory: how much is available and used, how many images fit, and smaller batches when it runs out.

Also controls what the C library does with freed memory.
"""

import ctypes
import logging
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

import torch

from runkit import UserError
from runkit.content import PeakMemory

__all__ = [
    "Batches",
    "available_memory",
    "fitting_batch_size",
    "is_glibc",
    "is_out_of_memory",
    "keep_freed_memory",
    "peak_memory",
    "reset_peak_memory",
    "return_freed_memory",
]

_logger = logging.getLogger(__name__)
_USABLE = 0.8
"""Share of the free memory that a batch may take: allocators round up, and other processes need memory, too."""

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class Batches:
    """Processes items in batches. If memory does not suffice, the batch size is halved and the run continues.

    Attributes:
        size: Batch size, at least 1.
        label: Label of the network, for messages.
    """

    def __init__(self, size: int, label: str):
        if size < 1:
            raise ValueError(f"batch_size must be at least 1, not {size}")
        self.size, self.label = size, label

    def run(self, work: Callable[[Sequence[_In]], Sequence[_Out]], items: Sequence[_In]) -> list[_Out]:
        """Apply `work` to `items` in batches, and return the results.

        Raises: UserError if memory does not suffice for one item.
        """
        results: list[_Out] = []
        while len(results) < len(items):
            batch = items[len(results) : len(results) + self.size]
            try:
                results.extend(work(batch))
                continue
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = (str(error).splitlines() or ["MemoryError"])[0]
            # outside of the handler, where the error's traceback would keep the tensors alive
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
            if len(batch) == 1:
                raise UserError(f"{self.label}: not enough memory for one image ({reason}); choose a smaller --size")
            self.size = len(batch) // 2
            _logger.warning("%s: out of memory, going on with batches of %d", self.label, self.size)
        return results


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice. On a CPU, PyTorch raises a plain RuntimeError, NumPy and Pillow a MemoryError."""
    said = ("not enough memory", "can't allocate memory", "DefaultCPUAllocator", "CUDA out of memory")
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(words in str(error) for words in said)


def fitting_batch_size(run_one: Callable[[], object], device: torch.device, *, limit: int) -> int:
    """How many images fit into memory together, estimated from one image.

    Args:
        run_one: Sends one image through the network.
        device: Device of the network.
        limit: Largest batch size to return; larger ones would not be faster.
    """
    if limit == 1:
        return 1
    run_one()  # memory that is allocated only once, such as workspaces, does not belong to an image
    reset_peak_memory(device)
    before = torch.cuda.memory_allocated(device) if device.type == "cuda" else _resident("VmRSS")
    run_one()
    after = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else _resident("VmHWM")
    if before is None or after is None:
        return limit
    fit = int(_USABLE * available_memory(device) / max(after - before, 1))
    return max(1, min(limit, fit))


def available_memory(device: torch.device) -> int:
    """Bytes that this process can still allocate on `device`; on a CPU, its share if torchrun started several."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return _available_on_host() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def _available_on_host() -> int:
    limits = [left for left in (_left_in_cgroup(*names) for names in _CGROUP_FILES) if left is not None]
    kibibytes = _read_field(Path("/proc/meminfo"), "MemAvailable")
    if kibibytes is None:  # not Linux: take all memory
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    else:
        limits.append(kibibytes * 1024)
    return min(limits)


_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
"""Files with the limit and use of a container's memory, in bytes, for both versions of control groups."""


def _left_in_cgroup(limit: str, used: str) -> int | None:
    try:
        return int(Path(limit).read_text()) - int(Path(used).read_text())
    except (OSError, ValueError):  # no such file, or it contains the word "max"
        return None


def reset_peak_memory(device: torch.device) -> None:
    """Restart the measurement of `peak_memory`; on a CPU only if the system supports it (Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def peak_memory(device: torch.device) -> PeakMemory:
    """Peak memory: `resident_bytes` of this process, and `cuda_bytes` of PyTorch's allocator or None."""
    resident = _resident("VmHWM")
    if resident is None and sys.platform != "win32":
        import resource

        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS
    cuda = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return {"resident_bytes": resident, "cuda_bytes": cuda}


def _resident(field: str) -> int | None:
    """Memory of this process in bytes, `VmRSS` (current) or `VmHWM` (peak); None if the system does not report it."""
    kibibytes = _read_field(Path("/proc/self/status"), field)
    return None if kibibytes is None else kibibytes * 1024


def _read_field(path: Path, field: str) -> int | None:
    """The number after `field:` in one of Linux's files."""
    if not path.exists():
        return None
    lines = (line for line in path.read_text().splitlines() if line.startswith(f"{field}:"))
    return next((int(line.split()[1]) for line in lines), None)


@cache
def is_glibc() -> bool:
    """Whether the C library is glibc. The result is cached, since Python reads its own executable to find out."""
    return platform.libc_ver()[0] == "glibc"


_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # glibc's <malloc.h>


def keep_freed_memory() -> bool:
    """Return free memory to the system once. From then on, keep freed memory for the next large tensor.

    By default, glibc returns every large block at once and gets it back page by page, zeroed. For tensors of tens of
    megabytes, this takes a tenth of the time of a network on a CPU. With another C library, nothing is done.

    Returns: Whether the C library is glibc and accepted the setting.
    """
    if not is_glibc():
        return False
    return_freed_memory()
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30) and libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def return_freed_memory() -> None:
    """Return free memory to the system if the C library is glibc. The next large tensor gets it back page by page."""
    if is_glibc():
        ctypes.CDLL(None).malloc_trim(0)
