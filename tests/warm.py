"""Python processes that start immediately: forks of a server that has already imported PyTorch, timm and matplotlib.

Without it, a test that needs a separate process (to kill it, or to run several ranks) spends some seven seconds of
processor time on imports. Tests of the imports themselves, or of environment variables that libraries read when they
are imported, start Python by `subprocess`.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
import types
from collections.abc import Mapping
from pathlib import Path

from support import ROOT

__all__ = ["Python", "run_python"]

LOADED = ["torch.distributed", "torchvision", "timm", "matplotlib.backends.backend_agg", "pandas", "scipy.stats"]

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LOADED)


class Python:
    """A process `python ARGUMENTS` at the root of the project: `-m module ...`, `-c code ...` or `script ...`.

    Args:
        environment: Environment variables in addition to those of this process.
    """

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None):
        self._folder = tempfile.TemporaryDirectory()
        self._paths = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        variables = {**os.environ, **(environment or {})}
        # daemon: it does not outlive the tests
        self._process = _context.Process(
            target=_become, args=(arguments, variables, *map(str, self._paths)), daemon=True
        )
        self._process.start()

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self._folder.cleanup()

    def wait(self, timeout: float | None = None) -> "subprocess.CompletedProcess[str] | None":
        """Wait for the process and return its result; None if it is still running after `timeout` seconds."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            return None
        stdout, stderr = (path.read_text(encoding="utf-8") for path in self._paths)
        self._folder.cleanup()
        return subprocess.CompletedProcess([], code, stdout, stderr)


def run_python(
    *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 300.0
) -> "subprocess.CompletedProcess[str]":
    """Run `python ARGUMENTS` to its end."""
    process = Python(*arguments, environment=environment)
    done = process.wait(timeout)
    if done is None:
        process.kill()
        raise TimeoutError(f"python {' '.join(arguments)} runs longer than {timeout:g} s")
    return done


def _become(arguments: tuple[str, ...], environment: dict[str, str], stdout: str, stderr: str) -> None:
    """Redirect the output of a new process and run its program."""
    for path, descriptor in ((stdout, 1), (stderr, 2)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, descriptor)
        os.close(file)
    sys.stdout, sys.stderr = (
        open(descriptor, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    kind, *rest = arguments
    try:
        if kind == "-m":
            sys.argv = rest
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif kind == "-c":
            sys.argv = ["-c", *rest[1:]]
            sys.modules["__main__"] = main = types.ModuleType("__main__")  # where pickle looks for its classes
            exec(compile(rest[0], "<string>", "exec"), vars(main))
        else:
            sys.argv = list(arguments)
            runpy.run_path(kind, run_name="__main__")
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
