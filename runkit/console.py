"""How commands end: an input or environment error gives exit code 2 and one line, a bug in this project exit code 1."""

import argparse
import json
import logging
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

__all__ = [
    "Failures",
    "RunStopped",
    "UserError",
    "about",
    "auto_or_int",
    "command_line",
    "is_main_process",
    "is_quiet",
    "run_main",
    "write_json",
    "write_out",
]

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


class UserError(Exception):
    """An input or environment error. The message says in one line what is wrong, where, and how to fix it."""


class RunStopped(Exception):
    """A run cannot continue, but its progress is saved. The message says why in one line."""


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM). It is treated like Ctrl-C."""


def run_main(
    work: Callable[[], int], *, program: str, arguments: Sequence[str] | None = None, level: int = logging.INFO
) -> int:
    """Run a command and turn its outcome into an exit code.

    Args:
        work: The command; returns an exit code.
        program: Name to print in front of messages.
        arguments: Arguments of a command that has `--resume`. The message that says how to continue contains them.
        level: Lowest level of the messages that are shown. Above INFO, progress is not shown either.
    Returns: 2 after a `UserError` (one line on stderr; its cause and traceback only if `level` is DEBUG); 130 after
        Ctrl-C, 143 after SIGTERM and 1 after `RunStopped` (these three print the command that continues the run);
        otherwise what `work` returned. Any other exception is a bug in this project and is not caught: Python prints
        its traceback and exits with 1.
    """
    logging.basicConfig(level=logging.WARNING, format=f"{program}: %(message)s", stream=sys.stderr)
    for package in ("claims", "erf", "shapebias", "replknet", "runkit", "htmlreport"):
        logging.getLogger(package).setLevel(level if is_main_process() else logging.CRITICAL)

    def tell(message: str) -> None:
        if is_main_process():
            sys.stderr.write(message + "\n")

    again = ""
    if arguments is not None:
        resume = [] if "--resume" in arguments else ["--resume"]
        again = f" Continue with: {command_line(program, [*arguments, *resume])}"
    try:
        with _sigterm_raises():
            return work()
    except UserError as error:
        if level <= logging.DEBUG and error.__cause__ is not None and is_main_process():
            traceback.print_exception(error)
        tell(f"{program}: error: {error}")
        return 2
    except RunStopped as error:
        tell(f"{program}: stopped: {error}.{again}")
        return 1
    except KeyboardInterrupt as error:
        tell(f"\n{program}: interrupted.{again}")
        return 143 if isinstance(error, Terminated) else 130


def is_main_process() -> bool:
    """Whether this process prints and writes for the run: the only process, or rank 0 of those of torchrun."""
    return os.environ.get("RANK", "0") == "0"


def is_quiet() -> bool:
    """Whether progress is hidden (`--quiet`). It is not hidden in programs that only import the packages."""
    return logging.getLogger("runkit").level > logging.INFO


def write_out(text: str) -> None:
    """Write a line to stdout; a reader that closes the pipe early, such as `head`, is not an error."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python would try again at exit


def write_json(content: Mapping[str, Any]) -> None:
    """Write a JSON object to stdout, for scripts."""
    write_out(json.dumps(content, indent=2, allow_nan=False))


def command_line(program: str, arguments: Sequence[str]) -> str:
    """The command line of this run, for results and for repeating the run."""
    processes = os.environ.get("LOCAL_WORLD_SIZE")  # set by torchrun
    launcher = f"torchrun --nproc-per-node={processes}" if processes else "python"
    return " ".join([launcher, "-m", program, *map(shlex.quote, arguments)])


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """Inside this context, SIGTERM (from a scheduler, or from torchrun when another rank died) raises `Terminated`."""
    if threading.current_thread() is not threading.main_thread():  # where Python sets no handlers
        yield
        return

    def handle(*_: object) -> NoReturn:
        raise Terminated

    before = signal.signal(signal.SIGTERM, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def about(name: str, message: object) -> str:
    """`name: message`, or the message alone if it already begins with the name."""
    text = str(message)
    begins = text.startswith(name) and not text[len(name) : len(name) + 1].isalnum()
    return text if begins else f"{name}: {text}"


class Failures:
    """Collects the failures in a sweep over several networks. A network that fails does not stop the others.

    Attributes:
        reasons: Maps a network to the reason of its failure.
        exit_code: 0 if none failed, 2 if all failures are input or environment errors, otherwise 1.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.exit_code = 0

    def guard(self, name: str, work: Callable[[], _T], *, alone: bool) -> _T | None:
        """The result of `work`; or None if it failed, in which case the failure is recorded and logged.

        An exception other than `UserError` is logged with its traceback, since it may come from the network's code.

        Args:
            name: Name of the network.
            work: The function that may fail.
            alone: Whether this is the only network. Its error is then raised.
        """
        try:
            return work()
        except RunStopped:
            raise
        except Exception as error:
            if alone:
                raise
            fixable = isinstance(error, UserError)
            self.reasons[name] = str(error) if fixable else f"{type(error).__name__}: {error}"
            self.exit_code = 2 if fixable and self.exit_code != 1 else 1
            verbose = _logger.isEnabledFor(logging.DEBUG) and error.__cause__ is not None
            _logger.error(
                "%s; going on with the others", about(name, self.reasons[name]), exc_info=verbose or not fixable
            )
        return None

    def log(self) -> None:
        """Log each network that failed, at the end of a sweep."""
        for name, reason in self.reasons.items():
            _logger.error("failed: %s", about(name, reason))


def auto_or_int(text: str) -> int | None:
    """Type of an argparse option that takes a positive whole number or `auto`, which becomes None."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"take auto or a whole number of at least 1, not {text!r}")
    return int(text)
