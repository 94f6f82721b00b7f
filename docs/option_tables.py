"""MkDocs hook: `<!-- options: MODULE -->` on a page becomes the table of options of that module's command line.

The table is read from the parser itself (`MODULE.build_parser()`), so the reference cannot differ from the program.
"""

import argparse
import html
import importlib
import re
import sys
from pathlib import Path
from typing import Any

__all__ = ["on_page_markdown", "option_table"]

_MARK = re.compile(r"<!-- options: ([\w.]+) -->")
_ROOT = Path(__file__).resolve().parent.parent


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this with the text of every page."""
    return _MARK.sub(lambda mark: option_table(mark[1]), markdown)


def option_table(module: str) -> str:
    """Markdown table of a command line's arguments, in the order of its `--help`."""
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
    """As the usage shows it: `--size S ...`."""
    value = str(action.metavar or "|".join(map(str, action.choices or ())) or action.dest.upper())
    words = [", ".join(action.option_strings), value if action.nargs != 0 else "", "..." if action.nargs == "+" else ""]
    return " ".join(filter(None, words))
