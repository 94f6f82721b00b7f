"""Tables of results: as text, as CSV with full precision, for LaTeX and for notebooks."""

import csv
import html
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from runkit.files import atomic_write

__all__ = ["format_html", "format_latex", "format_table", "save_csv", "save_latex"]


_EMPTY = ("", "-", "–")
"""Cells that count as empty."""


def save_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write rows that have the same keys, with a header. The file is complete or absent. Returns `path`."""
    with atomic_write(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else [])
        writer.writeheader()
        writer.writerows(rows)
    return path


def save_latex(
    path: Path, header: Sequence[str], rows: Sequence[Sequence[str]], *, note: str, grey: Collection[int] = ()
) -> Path:
    """Write `format_latex` without empty columns, below a comment with `note` and the packages that it needs.

    The file is complete or absent. Returns `path`.
    """
    packages = "booktabs,colortbl" if grey else "booktabs"
    kept = [0, *(i for i in range(1, len(header)) if any(row[i] not in _EMPTY for row in rows))]
    header, rows = [header[i] for i in kept], [[row[i] for i in kept] for row in rows]
    text = format_latex(header, rows, note=f"needs \\usepackage{{{packages}}}; {note}", grey=grey)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Text table: first column left-aligned, the others right-aligned, with a rule under the header."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        first = cells[0].ljust(widths[0])
        return "  ".join([first, *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))]).rstrip()

    return "\n".join([line(header), line(["-" * w for w in widths]), *(line(row) for row in rows)])


def format_html(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same table as HTML for notebooks; its text is escaped."""

    def line(cells: Sequence[str], tag: str) -> str:
        first, *others = (html.escape(cell) for cell in cells)
        numbers = "".join(f'<{tag} style="text-align: right">{cell}</{tag}>' for cell in others)
        return f'<tr><{tag} style="text-align: left">{first}</{tag}>{numbers}</tr>'

    body = "".join(line(row, "td") for row in rows)
    return f"<table><thead>{line(header, 'th')}</thead><tbody>{body}</tbody></table>"


def format_latex(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, note: str = "", grey: Collection[int] = ()
) -> str:
    """The same table as a LaTeX `tabular` for the package booktabs. Its text is escaped; `note` stands above it.

    Args:
        grey: Indices of rows with a grey background, for which the package colortbl is needed.
    """

    def line(cells: Sequence[str]) -> str:
        first, *others = (_MINUS.sub("$-$", cell.translate(_LATEX)) for cell in cells)
        return "  " + " & ".join([first, *("--" if cell == "$-$" else cell for cell in others)]) + r" \\"

    columns = "l" + "r" * (len(header) - 1)
    body = [rf"  \rowcolor[gray]{{0.9}}{line(row)}" if i in grey else line(row) for i, row in enumerate(rows)]
    lines = [rf"\begin{{tabular}}{{{columns}}}", r"  \toprule", line(header), r"  \midrule", *body]
    comment = [f"% {text}" for text in note.splitlines()]
    return "\n".join([*comment, *lines, r"  \bottomrule", r"\end{tabular}", ""])


_MINUS = re.compile(r"(?<![^\s\[(])-(?=\d|\s|$)")
"""A minus sign before a number, or between two names. Alone in a cell it stands for a missing number."""
_LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"$<$",
        ">": r"$>$",
        "×": r"$\times$",
        "–": "--",
        "−": "$-$",
        "²": "$^2$",
    }
)
