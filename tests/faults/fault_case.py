"""One row of the table of faults: what is wrong, how the command is called, and what the user sees."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Case", "table"]


@dataclass(frozen=True)
class Case:
    """A call of a command line that encounters a fault.

    Attributes:
        group: Heading of the table that contains the case.
        what: What is wrong, in words.
        call: Receives an empty folder (prepared for `group`) and returns the arguments, to which `--output` is added.
        sees: The line on stderr, where "…" stands for parts that differ between machines and versions. Empty if there
            is no message.
        code: Exit code.
        patch: Modifies the running program for faults that cannot be produced from outside (such as a full disk).
        existing: Whether `call` itself fills the output folder.
    """

    group: str
    what: str
    call: Callable[[Path], list[str]]
    sees: str
    code: int = 2
    patch: Callable[..., None] | None = None
    existing: bool = False


def table(cases: list[Case]) -> str:
    """The cases as Markdown, a table for each group."""
    lines = [
        "# Faulty input and the messages",
        "",
        "This page shows what `erf.visualize` and `shapebias.run` print for faulty input.",
        "`tests/faults/test_faults.py` runs the cases and writes this page. … marks text that differs between machines",
        "and versions. Exit code 2 means an input or environment error. If the message begins with `error:`, no file",
        "was written or changed. If it begins with `failed:`, it concerns one network of several, and the results of",
        "the others were written. Exit code 0 means that the run continued and reported what it left out.",
    ]
    group = ""
    for case in cases:
        if case.group != group:
            group = case.group
            lines += ["", f"## {group}", "", "| case | exit code | message |", "|---|---|---|"]
        sees = case.sees.replace("|", "\\|") or "none: the image is used"
        lines.append(f"| {case.what} | {case.code} | {sees} |")
    return "\n".join(lines) + "\n"
