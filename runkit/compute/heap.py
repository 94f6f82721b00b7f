"""Limit the unused memory that the C library's heap holds, and allocate tensors outside of the heap.

A heap that never returns memory to the system (`runkit.compute.memory.keep_freed_memory`) is fast. However, large
tensors of many sizes fragment it, until it holds far more memory than is in use at any time.
"""

import mmap
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from runkit.compute.memory import is_glibc, return_freed_memory

__all__ = ["FreedMemory", "bytes_of", "on_own_pages"]

_OWN_PAGES_BYTES = 1 << 23
"""Smaller tensors go to the heap: pages from the system come zeroed, which takes longer."""
_STATM = Path("/proc/self/statm")


class FreedMemory:
    """Keeps the freed memory that the heap still holds within a limit, if the C library is glibc on Linux."""

    def __init__(self) -> None:
        self._least: int | None = None

    def keep_within(self, limit: int, used: int) -> None:
        """Return free memory to the system if more than `limit` bytes of it are held.

        The memory held is estimated as the memory of the process beyond `used`, compared with the smallest value that
        this has had. The first call always returns free memory.

        Args:
            limit: Limit in bytes.
            used: Bytes of the tensors in use, counting those that are created or released between calls.
        """
        if not _STATM.exists():
            return
        beside = _resident_bytes() - used
        if self._least is None or beside - self._least > limit:
            return_freed_memory()
            beside = _resident_bytes() - used
        self._least = beside if self._least is None else min(beside, self._least)


def _resident_bytes() -> int:
    return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def bytes_of(tree: Any) -> int:
    """Memory behind the tensors in nested tuples, lists and dictionaries; memory that views share counts once."""
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in _tensors(tree)}.values())


def _tensors(tree: Any) -> Iterable[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))
    elif isinstance(tree, (tuple, list)):
        for part in tree:
            yield from _tensors(part)


def on_own_pages(count: int, dtype: torch.dtype) -> Tensor:
    """Uninitialised CPU tensor (count,) whose memory returns to the system as soon as it is no longer used.

    It lies outside of the C library's heap, which it would otherwise fragment so that later tensors find no room. If
    the C library is not glibc, or the tensor is small, it is an ordinary tensor.
    """
    size = count * dtype.itemsize
    if size < _OWN_PAGES_BYTES or not is_glibc():
        return torch.empty(count, dtype=dtype, device="cpu")
    # not in huge pages: if memory is fragmented, the system moves other pages to make one, which takes longer
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype)
