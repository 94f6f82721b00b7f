"""Griffe extension for docstrings with `Returns: ...`, `Raises: ...` and `Source: ...` in running text.

Griffe expects such sections as headings. Each such line becomes a separate paragraph with a bold title. Sections with
indented entries (`Args:`) are left to Griffe.
"""

import re
from typing import Any

import griffe

__all__ = ["InlineSections"]

_INLINE = re.compile(r"^(Returns|Raises|Source): (?=\S)", re.MULTILINE)


class InlineSections(griffe.Extension):
    """Rewrites the docstring of every loaded object."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = _INLINE.sub(r"\n**\1:** ", obj.docstring.value)
