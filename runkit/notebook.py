"""Representation of results in notebooks, registered with IPython so that results need not import figures."""

import importlib
import sys
from typing import Any

__all__ = ["show_as_picture"]


def show_as_picture(shown: str, *, drawn_by: str) -> None:
    """Make IPython show every object of a class as a picture. Without a running IPython, nothing is done.

    Neither of the two modules is imported before there is an object to show.

    Args:
        shown: The class, as 'module:Class'.
        drawn_by: 'module:function' that makes a `runkit.figures.StyledFigure` from such an object.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None:
        return
    (module, name), (drawing_module, function) = shown.split(":"), drawn_by.split(":")

    def make_png(thing: Any) -> bytes:
        return getattr(importlib.import_module(drawing_module), function)(thing)._repr_png_()

    shell.display_formatter.formatters["image/png"].for_type_by_name(module, name, make_png)
