"""What the C library's heap holds although nobody uses it, and tensors that lie outside of it.

A heap from which nothing goes back to the system (`runkit.compute.memory.keep_freed_memory`) is fast, but large tensors
of many sizes spread over it until far more of it was touched than is in use at any time.
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
"""The heap has room for a smaller tensor, and pages of the system come zeroed, which takes longer."""
_STATM = Path("/proc/self/statm")


class FreedMemory:
    """Keeps what was freed and is still held within a limit, where the C library is glibc on Linux."""

    def __init__(self) -> None:
        self._least: int | None = None

    def keep_within(self, limit: int, used: int) -> None:
        """Give free memory back to the system if more than `limit` bytes of it are held.

        What is held is what the process has beyond `used`, compared with the least that this ever was; the first call
        gives back what there is.

        Args:
            limit: In bytes.
            used: Bytes of the tensors that are in use, of those that come and go between two calls.
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
    """Memory behind the tensors in nested tuples, lists and dictionaries, that of several views counted once."""
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
    """Uninitialised tensor (count,) on a CPU that goes back to the system as soon as it is no longer used.

    It lies outside of the C library's heap, whose free memory it would cut into pieces that later tensors do not fit
    into. Where the C library is not glibc, or the tensor is small, it is an ordinary tensor.
    """
    size = count * dtype.itemsize
    if size < _OWN_PAGES_BYTES or not is_glibc():
        return torch.empty(count, dtype=dtype)
    # not in huge pages: where memory is scattered the system moves others about to make one, which takes longer
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return torch.frombuffer(pages, dtype=dtype)
