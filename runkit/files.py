"""Files that are either complete or absent, and their hashes."""

import hashlib
import json
import os
import platform
import re
import stat
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runkit.console import UserError

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "IMAGE_SUFFIXES",
    "atomic_write",
    "file_stem",
    "list_visible",
    "load_json",
    "read_arrays",
    "reason_in_words",
    "refuse_special_file",
    "refuse_unwritable",
    "save_json",
    "sha256_of_file",
    "sha256_of_files",
    "sha256_of_lines",
]

IMAGE_SUFFIXES = frozenset([".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"])
"""Suffixes, in lower case, of the files that count as images in a user's folder."""

_MACHINE = re.sub(r"\W", "_", platform.node())
# raised by zipfile and numpy for a damaged archive; AttributeError for a bare .npy
_NPZ_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, AttributeError, NotImplementedError, RuntimeError)


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to `path` that replaces it when the block ends without an error.

    The temporary name keeps the suffix of `path`, because libraries choose the format by it. Missing parent folders are
    created. After an error, the temporary file is removed and `path` is unchanged. Temporary files left behind by
    processes that were killed on this machine are removed as well; running processes do not affect each other.

    Raises: UserError if the folder cannot be created or written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        prefix = f".{path.stem}.{_MACHINE}-{os.getpid()}-"
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=f".tmp{path.suffix}", dir=path.parent)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; name a folder you may write to") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp creates private files
        temporary.replace(path)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; make room, or name another folder") from error
    finally:
        temporary.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove temporary files for `path` whose process no longer runs, if that was on this machine."""
    ours = re.compile(rf"\.{re.escape(path.stem)}\.{_MACHINE}-(\d+)-\w+\.tmp{re.escape(path.suffix)}")
    for entry in os.scandir(path.parent):
        if (match := ours.fullmatch(entry.name)) and not _is_running(int(match[1])):
            Path(entry.path).unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # processes cannot be checked here, so nothing is removed
    try:
        os.kill(process, 0)  # signal 0 only checks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def file_stem(name: str) -> str:
    """Stem of the file names of a result: its name, with a hyphen for every character that some file systems reject.

    Letters, digits, spaces and ``_ . + ( ) -`` are kept; dots and spaces at either end are removed.
    """
    return re.sub(r"[^\w.+() -]", "-", name).strip(". ") or "unnamed"


def save_json(path: str | Path, content: Mapping[str, object]) -> None:
    """Write `content` as indented JSON; numbers that JSON cannot represent (NaN, infinity) are an error."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def refuse_special_file(path: Path) -> None:
    """Refuse special files such as named pipes, which a program would wait for without end.

    Raises: UserError if there is something at `path` that is neither a file nor a folder.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return  # opening it will give the error message
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise UserError(f"cannot read {path}: it is not a regular file, but a pipe, a socket or a device")


def refuse_unwritable(folder: Path, *, try_it: bool = True) -> None:
    """Check that a folder can be created and written to, before starting the work whose results it will hold.

    Args:
        folder: The folder; it need not exist, and is not created.
        try_it: Whether to create and remove a temporary folder in its place. Otherwise only the permissions are
            checked, which do not reveal a full or read-only file system.
    Raises: UserError if it cannot.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if os.path.lexists(parent))
    advice = "name a folder you may write to"
    if not there.is_dir():
        raise UserError(f"cannot write {folder}: {there} is not a folder; {advice}")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"cannot write {folder}: {there} is not yours to write to; {advice}")
    if try_it:
        try:
            Path(tempfile.mkdtemp(prefix=f".{_MACHINE}-{os.getpid()}-", dir=there)).rmdir()
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror or error} ({there}); {advice}") from error


def load_json(path: str | Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises: UserError if the file is missing, unreadable, not a regular file, or does not hold a JSON object.
    """
    refuse_special_file(Path(path))
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a JSON {type(content).__name__}, not an object")
    return content


def list_visible(root: Path, pattern: str) -> list[Path]:
    """Sorted contents of a folder that match a glob pattern, without hidden files and the contents of hidden folders.

    macOS writes a hidden `._name` with the same suffix next to every file that it copies to another file system.

    Args:
        root: The folder, which may itself be hidden.
        pattern: As for `Path.glob`, such as "*.json", or "**/*" for any depth.

    Raises: UserError if a name is not valid UTF-8, since results could not name the file.
    """
    found = [p for p in root.glob(pattern) if not any(part.startswith(".") for part in p.relative_to(root).parts)]
    for path in found:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise UserError(f"{str(path)!a}: the name is not valid UTF-8; rename the file") from None
    return sorted(found)


def read_arrays(path: Path) -> "dict[str, np.ndarray]":
    """All arrays of a `.npz` file; pickled objects are never loaded.

    Raises: OSError if the file cannot be opened, ValueError if it is damaged, UserError if it is not a regular file.
    """
    import numpy as np

    refuse_special_file(path)
    with path.open("rb") as file:
        if file.read(2) != b"PK":  # numpy would take it for a pickle, and its message explains how to load one unsafely
            raise ValueError("not a .npz archive")
        file.seek(0)
        try:
            with np.load(file, allow_pickle=False) as archive:
                if damaged := archive.zip.testzip():  # numpy skips the checksum of an array of another shape
                    raise ValueError(f"{damaged} is damaged")
                arrays = {name: archive[name] for name in archive.files}
        except _NPZ_ERRORS as error:
            raise ValueError(f"not a .npz archive ({error})") from error
    for name, values in arrays.items():
        if not isinstance(values, np.ndarray):  # numpy returns the bytes of members that are not arrays
            raise ValueError(f"{name} is not an array")
    return arrays


def reason_in_words(error: Exception) -> str:
    """Explain an error that arose because a file has unexpected content.

    For a missing key, Python's message is just the key; for a value of the wrong type, it only says what cannot be
    done.
    """
    if isinstance(error, KeyError):
        return f"it has no {error}"
    return "a part of it is of another type" if isinstance(error, TypeError) else str(error)


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file) -> str:
    """`hashlib.file_digest` for Python 3.10."""
    total = hashlib.sha256()
    while chunk := file.read(1 << 20):
        total.update(chunk)
    return total.hexdigest()


def sha256_of_lines(lines: Iterable[str]) -> str:
    """SHA-256 of text lines, each terminated by a newline; used as the fingerprint of a file list."""
    total = hashlib.sha256()
    for line in lines:
        total.update(line.encode("utf-8") + b"\n")
    return total.hexdigest()


def sha256_of_files(root: Path, paths: Iterable[Path]) -> str:
    """SHA-256 of the lines `<path relative to root> <SHA-256 of the file>`, which also detects changed files.

    Raises: UserError if a file cannot be read.
    """

    def line(path: Path) -> str:
        try:
            return f"{path.relative_to(root).as_posix()} {sha256_of_file(path)}"
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}; make it readable, or take it away") from error

    return sha256_of_lines(map(line, paths))
