"""Write the repository's address into every file that shows it: notebooks, `CITATION.cff`, the README's BibTeX entry.

The source of the address is `project.urls.Repository` in `pyproject.toml`. Change it there, then run
`python scripts/address.py`. `--check` changes nothing and exits with 1 if a file shows another address.
"""

import argparse
import json
import re
import sys
from pathlib import Path

__all__ = ["COLAB_INSTALL", "badge", "main", "repository_address"]

ROOT = Path(__file__).resolve().parents[1]
COLAB_INSTALL = """import sys

if "google.colab" in sys.modules:  # elsewhere the package is installed already
    %pip install --quiet "replknet-analysis[lite] @ git+{address}"
"""


def repository_address() -> str:
    """Read the address from `pyproject.toml`, without a trailing slash."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^Repository = "(https://github\.com/[^/"]+/[^/"]+)"$', text, re.MULTILINE)
    if found is None:
        sys.exit('pyproject.toml: [project.urls] has no line Repository = "https://github.com/OWNER/NAME"')
    return found[1]


def badge(address: str, notebook: str) -> str:
    """Markdown of a badge that opens a notebook in Colab."""
    path = address.removeprefix("https://github.com/")
    picture = "https://colab.research.google.com/assets/colab-badge.svg"
    return (
        f"[![Open in Colab]({picture})]"
        f"(https://colab.research.google.com/github/{path}/blob/main/notebooks/{notebook}.ipynb)"
    )


def notebook_with_address(text: str, address: str, name: str) -> str:
    """Add or replace a notebook's Colab badge and the cell that installs the package on Colab; return its text."""
    notebook = json.loads(text)
    ours = ("colab-badge", "colab-install")
    cells = [cell for cell in notebook["cells"] if cell.get("id") not in ours]
    shown = {"cell_type": "markdown", "id": ours[0], "metadata": {}, "source": [badge(address, name)]}
    source = COLAB_INSTALL.format(address=address).rstrip("\n").splitlines(keepends=True)
    code = {
        "cell_type": "code",
        "execution_count": None,
        "id": ours[1],
        "metadata": {},
        "outputs": [],
        "source": source,
    }
    notebook["cells"] = [cells[0], shown, code, *cells[1:]]
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def wanted(address: str) -> dict[Path, str]:
    """Text of each file with the current address."""
    texts = {}
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        texts[path] = notebook_with_address(path.read_text(encoding="utf-8"), address, path.stem)
    for name, pattern, line in (
        ("pyproject.toml", r'^Issues = ".*"$', f'Issues = "{address}/issues"'),
        ("CITATION.cff", r"^repository-code: .*$", f"repository-code: {address}"),
        ("README.md", r"^  url = \{.*\}", f"  url = {{{address}}}"),
    ):
        before = (ROOT / name).read_text(encoding="utf-8")
        text, count = re.subn(pattern, line, before, flags=re.MULTILINE)
        if count != 1:
            sys.exit(f"{name}: {count} lines match {pattern}, where one should")
        texts[ROOT / name] = text
    return texts


def main(arguments: list[str] | None = None) -> int:
    """Write the address, or only compare it with --check, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 where a file differs")
    check = parser.parse_args(arguments).check
    differing = {path: text for path, text in wanted(repository_address()).items() if path.read_text("utf-8") != text}
    for path, text in differing.items():
        sys.stderr.write(f"{path.relative_to(ROOT)}: {'shows another address' if check else 'written'}\n")
        if not check:
            path.write_text(text, encoding="utf-8")
    return int(check and bool(differing))


if __name__ == "__main__":
    sys.exit(main())
