"""The conduct of a command line: what a user can mend ends with exit code 2 and one line, our own faults with 1."""

import argparse
import logging
import sys
from collections.abc import Callable, Sequence

__all__ = ["UserError", "auto_or_int", "format_latex", "format_table", "run_main"]


class UserError(Exception):
    """Something the user can put right: the message says in one line what, where, and what would be right."""


def run_main(work: Callable[[], int], *, program: str, resume_hint: Callable[[], str | None] = lambda: None) -> int:
    """Run a command's work and turn its ending into an exit code.

    Args:
        work: The command; returns its own exit code.
        program: Name printed in front of messages.
        resume_hint: Called after Ctrl-C; the command that continues the run, or None where nothing was begun.
    Returns: 2 after a `UserError` (one line on stderr, no traceback), 130 after Ctrl-C, else what `work` returned.
        Any other exception is a fault of ours and is not caught: Python prints its traceback and exits with 1.
    """
    logging.basicConfig(level=logging.WARNING, format=f"{program}: %(message)s", stream=sys.stderr)
    for package in ("erf", "shapebias", "replknet", "runkit"):
        logging.getLogger(package).setLevel(logging.INFO)
    try:
        return work()
    except UserError as error:
        sys.stderr.write(f"{program}: error: {error}\n")
        return 2
    except KeyboardInterrupt:
        hint = resume_hint()
        sys.stderr.write(f"\n{program}: interrupted." + (f" Continue with: {hint}\n" if hint else "\n"))
        return 130


def auto_or_int(text: str) -> int | None:
    """Type of an option that takes a positive whole number or `auto` (None): for argparse, which reports its error."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"take auto or a whole number of at least 1, not {text!r}")
    return int(text)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text table: first column flush left, the rest flush right, a rule under the header."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        return "  ".join([first, *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *(line(row) for row in rows)])


def format_latex(header: Sequence[str], rows: Sequence[Sequence[str]], *, note: str = "") -> str:
    """The same table for LaTeX with the package booktabs: a `tabular`, its text escaped.

    Args:
        note: Written above it as a comment.
    """

    def line(cells: Sequence[str]) -> str:
        return "  " + " & ".join(cell.translate(_LATEX) for cell in cells) + r" \\"

    columns = "l" + "r" * (len(header) - 1)
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"  \toprule", line(header), r"  \midrule", *map(line, rows)]
    comment = [f"% {text}" for text in note.splitlines()]
    return "\n".join([*comment, *lines, r"  \bottomrule", r"\end{tabular}", ""])


_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"$<$",
        ">": r"$>$",
        "×": r"$\times$",
    }
)
