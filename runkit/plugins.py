"""Code that a user names on the command line: `FILE.py:NAME` or `package.module:NAME`.

Such code runs with the user's permissions, like any program that the user starts. No other code is run.
"""

import ast
import importlib
import importlib.util
import inspect
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runkit.console import UserError
from runkit.files import sha256_of_file, sha256_of_lines

__all__ = ["OWN_CODE_ERRORS", "is_plugin", "load_plugin", "own_sources", "sha256_of_code", "words_of"]

OWN_CODE_ERRORS = (Exception, SystemExit)
"""Errors of a user's own code that are reported in one line: everything but Ctrl-C. SystemExit is included, because
`sys.exit` would end the program without a message.
"""


_PROJECT = ("claims", "erf", "htmlreport", "replknet", "runkit", "shapebias")


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


def sha256_of_code(code: Any) -> str | None:
    """SHA-256 of the file that defines a function or class, and of the user's own modules that it imports.

    With other modules, it is the SHA-256 of the lines `<file name> <SHA-256>`, that of the file itself first.

    Returns: 64 hexadecimal digits; None if the file is not known.
    """
    try:
        source = inspect.getsourcefile(code)
    except TypeError:  # neither a function nor a class
        return None
    if not source or not Path(source).is_file():
        return None
    files = own_sources(Path(source), getattr(inspect.getmodule(code), "__package__", None))
    if len(files) == 1:
        return sha256_of_file(files[0])
    first, *others = (f"{path.name} {sha256_of_file(path)}" for path in files)
    return sha256_of_lines([first, *sorted(others)])


def own_sources(file: Path, package: str | None = None) -> list[Path]:
    """A Python file, and the files of the user's own modules that it imports, directly or through one another.

    Installed packages, Python's own modules and this project are left out. So are modules that are imported under a
    computed name.

    Args:
        file: The file.
        package: Package of its module, for relative imports.

    Returns: The file itself first.
    """
    found: dict[Path, None] = {}
    waiting = [(file.resolve(), package)]
    while waiting:
        path, inside = waiting.pop()
        if path in found:
            continue
        found[path] = None
        for name in _imported_names(path, inside):
            module = _own_module(name)
            if module is not None:
                waiting.append(module)
    return list(found)


def _imported_names(path: Path, package: str | None) -> Iterator[str]:
    """Absolute names of all modules that a file may import, anywhere in its code; some may be other objects."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            if node.level and package:
                try:
                    base = importlib.util.resolve_name(base, package)
                except ImportError:
                    continue
            if base.strip("."):
                yield from _with_parents(base.lstrip("."))
                yield from (f"{base.lstrip('.')}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    yield from (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _own_module(name: str) -> tuple[Path, str | None] | None:
    """File and package of a module, if it is the user's own."""
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or not _is_own(_file_of(top)):
        return None
    path = _file_of(name)
    if path is None or not _is_own(path):
        return None
    return path, name if path.name == "__init__.py" else name.rpartition(".")[0] or None


def _file_of(name: str) -> Path | None:
    """The Python file of a module, whether it has been imported or not; None if there is none."""
    module = sys.modules.get(name)
    place = getattr(module, "__file__", None)
    if module is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError, AttributeError):
            return None
        place = spec.origin if spec is not None else None
    return Path(place).resolve() if place and place.endswith(".py") else None


def _is_own(path: Path | None) -> bool:
    """Whether a file is neither of an installed package, nor of Python, nor of this project."""
    if path is None:
        return False
    places = [Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    ours = Path(__file__).resolve().parent.parent
    places += [ours / name for name in _PROJECT]
    return not any(path.is_relative_to(place) for place in places)
