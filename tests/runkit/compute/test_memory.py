"""Batches that fit: halved when memory does not suffice, and chosen from the memory of one image."""

import logging
import subprocess
import sys

import pytest
import torch
from support import ROOT

from runkit import UserError
from runkit.compute import memory
from runkit.compute.memory import Batches, available_memory, fitting_batch_size

CPU = torch.device("cpu")
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 100 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_batch_that_does_not_fit_is_halved_for_good(error, caplog):
    sizes = []

    def work(items):
        sizes.append(len(items))
        if len(items) > 3:
            raise error
        return [-item for item in items]

    batches = Batches(8, "net")
    with caplog.at_level(logging.WARNING):
        assert batches.run(work, range(10)) == [-item for item in range(10)]
    assert sizes == [8, 4, 2, 2, 2, 2, 2]
    assert batches.size == 2
    assert "net: out of memory, going on with batches of 2" in caplog.text
    assert batches.run(work, range(3)) == [0, -1, -2]


def test_one_item_that_does_not_fit_is_the_users_matter():
    def work(items):
        raise ERRORS[1]

    with pytest.raises(UserError, match="net: not enough memory for one image"):
        Batches(4, "net").run(work, range(4))


def test_other_errors_are_passed_on():
    def work(items):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        Batches(4, "net").run(work, range(4))


@pytest.mark.parametrize(("free", "expected"), [(1e12, 16), (80e6, 3), (1e6, 1)])
def test_as_many_as_fit(free, expected, monkeypatch):
    """The number of images of 20 MB that fit into 0.8 of the free memory."""
    resident = {"VmRSS": 100_000_000, "VmHWM": 120_000_000}
    monkeypatch.setattr(memory, "_resident", resident.get)
    monkeypatch.setattr(memory, "available_memory", lambda device: free)
    assert fitting_batch_size(lambda: None, CPU, limit=16) == expected


def test_a_limit_of_one_needs_no_measurement():
    assert fitting_batch_size(lambda: pytest.fail("an image was computed"), CPU, limit=1) == 1


PEAK = """
import torch
from runkit.compute.memory import peak_memory, reset_peak_memory

cpu = torch.device("cpu")
reset_peak_memory(cpu)
before = peak_memory(cpu)["resident_bytes"]
torch.ones(50_000_000)  # 200 MB
assert peak_memory(cpu)["resident_bytes"] > before + 150e6
assert peak_memory(cpu)["cuda_bytes"] is None
reset_peak_memory(cpu)
assert peak_memory(cpu)["resident_bytes"] < before + 150e6
"""


@pytest.mark.skipif(memory._resident("VmHWM") is None, reason="only Linux says how much memory is in use")
def test_the_peak_of_memory_is_seen_and_forgotten():
    """Run in a separate process, because freed memory stays in use after `keep_freed_memory`."""
    done = subprocess.run([sys.executable, "-c", PEAK], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_ranks_divide_the_memory(monkeypatch):
    alone = available_memory(CPU)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert available_memory(CPU) < alone / 2
