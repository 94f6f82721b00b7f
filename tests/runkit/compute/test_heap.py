"""The contents of the C library's heap, and tensors outside of it."""

import subprocess
import sys

import pytest
import torch
from support import ROOT

from runkit.compute import heap
from runkit.compute.heap import FreedMemory, bytes_of, on_own_pages


@pytest.mark.parametrize("dtype", [torch.float16, torch.uint8, torch.float32])
@pytest.mark.parametrize("count", [5, 1 << 18])
def test_a_tensor_on_its_own_pages_is_an_ordinary_one(count, dtype, monkeypatch):
    monkeypatch.setattr(heap, "_OWN_PAGES_BYTES", 1 << 16)
    x = on_own_pages(count, dtype)
    assert (x.shape, x.dtype, x.is_contiguous()) == ((count,), dtype, True)
    x.copy_(torch.arange(count) % 7)
    part = x.view(count, 1)[3:]
    del x  # the view keeps the pages
    assert part[:2, 0].tolist() == [3, 4]


def test_its_memory_goes_back_at_once_even_where_freed_memory_is_kept():
    code = (
        "import torch\n"
        "from runkit.compute.heap import _STATM, _resident_bytes, on_own_pages\n"
        "from runkit.compute.memory import keep_freed_memory\n"
        "if not (keep_freed_memory() and _STATM.exists()):\n"
        "    raise SystemExit(print('other'))\n"
        "def left(make):\n"
        "    make()\n"
        "    before = _resident_bytes()\n"
        "    x = make()\n"
        "    assert _resident_bytes() - before > 60 << 20\n"
        "    del x\n"
        "    return _resident_bytes() - before\n"
        "print(left(lambda: on_own_pages(1 << 26, torch.uint8).fill_(1)) < 1 << 20)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", cwd=ROOT, check=True)
    assert done.stdout.strip() in ("True", "other")


def test_free_memory_goes_back_when_more_than_the_limit_is_held(monkeypatch):
    resident, given_back = [1000], []

    def give_back():
        given_back.append(resident[0])
        resident[0] = 500

    monkeypatch.setattr(heap, "_resident_bytes", lambda: resident[0])
    monkeypatch.setattr(heap, "return_freed_memory", give_back)
    monkeypatch.setattr(heap, "_STATM", heap.Path(heap.__file__))  # of a system that has it
    freed = FreedMemory()
    freed.keep_within(100, used=200)  # 300 beside what is used, the least that there can be
    assert given_back == [1000]
    for resident[0], used in ((600, 250), (800, 420), (450, 150)):
        freed.keep_within(100, used=used)
    assert given_back == [1000]
    resident[0] = 551
    freed.keep_within(100, used=150)
    assert given_back == [1000, 551]
    resident[0] = 610
    freed.keep_within(100, used=200)  # 350 were held after the last time, and 300 before
    assert given_back == [1000, 551, 610]


def test_memory_behind_several_views_counts_once():
    x, y = torch.zeros(100), torch.zeros(10, dtype=torch.uint8)
    assert bytes_of({1: [x, x[3:]], 2: (None, (y, 3.0))}) == 410
