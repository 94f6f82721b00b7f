"""Griffe extension: docstrings here say `Returns: ...` and `Raises: ...` in running text, Griffe wants headings.

Such a line becomes a paragraph of its own; sections with indented entries (`Args:`) are Griffe's.
"""

import re
from typing import Any

import griffe

__all__ = ["InlineSections"]

_INLINE = re.compile(r"^(Returns|Raises|Source): (?=\S)", re.MULTILINE)


class InlineSections(griffe.Extension):
    """Rewrites the docstring of every object that is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _INLINE.sub(r"\n**\1:** ", obj.docstring.value)
