"""Code blocks of Markdown pages, and the commands in them."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Block", "code_blocks", "commands"]

_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE)
_NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]+) -->\s*\Z")


@dataclass(frozen=True)
class Block:
    """A fenced block of code.

    Attributes:
        line: Number of its first line on the page.
        language: The word after the fence.
        text: Its text without the indentation of the fence.
        not_run: The reason given by `<!-- not run: ... -->` directly before the block; empty if the block is run.
    """

    line: int
    language: str
    text: str
    not_run: str


def code_blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    blocks = []
    for fence in _FENCE.finditer(text):
        before = text[: fence.start()]
        reason = _NOT_RUN.search(before)
        blocks.append(
            Block(
                line=before.count("\n") + 2,
                language=fence["language"],
                text=textwrap.dedent(fence["text"]),
                not_run=reason["reason"] if reason else "",
            )
        )
    return blocks


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell block, without comments, `&&`, a final `&`, `> file` and variables."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r" && ", line):
            words = shlex.split(part, comments=True)
            words = words[:-1] if words[-1:] == ["&"] else words
            words = words[: words.index(">")] if ">" in words else words
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield words
