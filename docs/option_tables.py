"""Update the tables of options between `<!-- options: MODULE -->` and `<!-- end of options -->` on all pages.

A table is generated from the parser itself (`MODULE.build_parser()`). MkDocs generates it whenever the site is built,
so that the site cannot differ from the program. For readers of the pages in the repository,
`python docs/option_tables.py` writes the tables into the pages. `--check` changes nothing and exits with 1 if a table
is out of date.
"""

import argparse
import html
import importlib
import re
import sys
from pathlib import Path
from typing import Any

__all__ = ["main", "on_page_markdown", "option_table"]

_MARK = re.compile(r"(<!-- options: (?P<module>[\w.]+) -->\n).*?(<!-- end of options -->)", re.DOTALL)
_ROOT = Path(__file__).resolve().parent.parent


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Update the tables in the text of a page; MkDocs calls this for every page."""
    return _MARK.sub(lambda mark: f"{mark[1]}\n{option_table(mark['module'])}\n\n{mark[3]}", markdown)


def option_table(module: str) -> str:
    """Markdown table of the arguments of a command line, in the order of its `--help`."""
    if str(_ROOT) not in sys.path:
        sys.path.insert(0, str(_ROOT))  # the checkout, whether it is installed or not
    parser = importlib.import_module(module).build_parser()
    rows = ["| argument | meaning |", "|---|---|"]
    for action in parser._actions:
        if not isinstance(action, argparse._HelpAction):
            meaning = html.escape((action.help or "") % vars(action), quote=False).replace("|", "&#124;")
            rows.append(f"| `{_name(action)}` | {meaning} |")
    return "\n".join(rows)


def _name(action: argparse.Action) -> str:
    """The name of an argument as in the usage, such as `--size S ...`."""
    value = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    words = [
        ", ".join(action.option_strings),
        value if action.nargs != 0 else "",
        "..." if action.nargs in ("+", "*") else "",
    ]
    return " ".join(filter(None, words)).replace("|", "/")  # a bar would end the cell of the table


def main(arguments: list[str] | None = None) -> int:
    """Write the tables into the pages, or only compare them with --check, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where a table is out of date")
    check = parser.parse_args(arguments).check
    differs = False
    for page in sorted((_ROOT / "docs").rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        current = on_page_markdown(text)
        if current != text:
            differs = True
            sys.stderr.write(f"{page.relative_to(_ROOT)}: {'out of date' if check else 'written'}\n")
            if not check:
                page.write_text(current, encoding="utf-8")
    return int(check and differs)


if __name__ == "__main__":
    sys.exit(main())
