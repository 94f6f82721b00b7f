"""Code that a user names on the command line: `FILE.py:NAME` or `package.module:NAME`.

Such code runs with the user's permissions, like any program that the user starts. No other code is run.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from runkit.console import UserError

__all__ = ["OWN_CODE_ERRORS", "is_plugin", "load_plugin", "words_of"]

OWN_CODE_ERRORS = (Exception, SystemExit)
"""Errors of a user's own code that are reported in one line: everything but Ctrl-C. SystemExit is included, because
`sys.exit` would end the program without a message.
"""


def words_of(error: BaseException) -> str:
    """Message of an error from other code, in one line: its type and its first paragraph."""
    if isinstance(error, SystemExit):
        return f"it calls sys.exit({'' if error.code is None else repr(error.code)})"
    words = " ".join(str(error).split("\n\n")[0].split())
    if words and isinstance(error, AssertionError):
        return words
    kind = type(error).__name__
    return f"{kind}: {words}" if words else kind


def is_plugin(text: str) -> bool:
    """Whether an argument names code, in the form `FILE.py:NAME` or `package.module:NAME`."""
    place, mark, name = text.rpartition(":")
    # a URL, a drive letter or `hf-hub:name` does not name code
    return (
        bool(mark) and name.isidentifier() and (place.endswith(".py") or all(map(str.isidentifier, place.split("."))))
    )


def load_plugin(text: str) -> Any:
    """Import a file or module, and return the object with the given name from it.

    A file is imported under its own name and with its folder on the path, so that it finds neighbouring modules as it
    does when it is run.

    Raises: UserError if there is no such file, module or name, or if importing it fails.
    """
    place, _, name = text.rpartition(":")
    try:
        module = _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except ModuleNotFoundError as error:
        raise UserError(f"{text}: cannot import {place}: {error}; name FILE.py:NAME or package.module:NAME") from error
    except UserError:
        raise
    except OWN_CODE_ERRORS as error:
        raise UserError(f"{text}: importing {place} failed: {words_of(error)}") from error
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise UserError(f"{text}: {place} has no {name!r}; it has {', '.join(public[:12]) or 'nothing to call'}")
    return getattr(module, name)


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    sys.modules.setdefault(path.stem, module)  # dataclasses and pickles look up their module
    spec.loader.exec_module(module)
    return module
