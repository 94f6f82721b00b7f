"""Providers that take turns, each in a separate process with its own memory and allocator.

The program of a provider calls `serve`. The benchmark has a `Worker` for each provider and sends them lines in turn.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch

from runkit.compute.memory import peak_memory

__all__ = ["Worker", "serve", "take_turns"]


class Worker:
    """The process of a provider.

    Args:
        command: Arguments of Python that start the process, such as ['-m', 'benchmarks.erf_worker', 'plain'].

    Attributes:
        seconds: Seconds of each timed piece of work.
        peak_bytes: Peak memory of the process so far.
    """

    def __init__(self, command: Sequence[str]):
        self.seconds: list[float] = []
        self.peak_bytes = 0
        self._process = subprocess.Popen(
            [sys.executable, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, line: str, *, timed: bool = True) -> Any:
        """Request one piece of work and return the answer. Its seconds are added to `seconds` if `timed`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # then there is nothing to read either
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        text = self._process.stdout.readline()
        if not text:
            raise RuntimeError(f"the provider has ended with exit code {self._process.wait()}; its error stands above")
        reply = json.loads(text)
        self.peak_bytes = reply["peak_bytes"]
        if timed:
            self.seconds.append(reply["seconds"])
        return reply["answer"]

    def close(self) -> None:
        """Close the input of the process and wait for its end."""
        self._process.communicate()


def take_turns(
    workers: Mapping[str, Worker], work: Callable[[str, Worker], Any], *, rounds: int, limit_s: float = float("inf")
) -> dict[str, Any]:
    """Call `work(name, worker)` for every worker in each round.

    Stops before the last round once `limit_s` seconds have passed, but not before three rounds.

    Returns: The last answer of each worker.
    """
    answers: dict[str, Any] = {}
    begin = time.monotonic()
    for number in range(rounds):
        for name, worker in workers.items():
            answers[name] = work(name, worker)
        if time.monotonic() - begin > limit_s and number >= 2:
            break
    return answers


def serve(work: Callable[[str], Any], device: str) -> int:
    """Serve as a provider: answer each line on stdin with a line of JSON.

    An answer holds the seconds of the work, the peak memory so far (of CUDA if used, else resident) and the result.

    Returns: 0, once stdin ends.
    """
    answers = sys.stdout
    sys.stdout = sys.stderr  # for code that prints
    for line in sys.stdin:
        begin = time.perf_counter()
        answer = work(line.strip())
        seconds = time.perf_counter() - begin
        memory = peak_memory(torch.device(device))
        peak = memory["cuda_bytes"] or memory["resident_bytes"]
        answers.write(json.dumps({"seconds": seconds, "peak_bytes": peak, "answer": answer}) + "\n")
        answers.flush()
    return 0
