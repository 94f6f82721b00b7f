"""Check the file that `--weights` names without PyTorch: whether it exists, and whether it can hold weights at all.

PyTorch takes seconds to load. A mistyped path, or a text page that was saved under the name of a checkpoint, is
therefore refused before that.
"""

import codecs
import os
from collections.abc import Iterable
from pathlib import Path

from runkit.console import UserError

__all__ = ["fault_of_checkpoint", "fault_of_content", "refuse_no_checkpoint", "split_key"]

_WORDS = ("auto", "pretrained", "random")
"""Values that `--weights` accepts besides paths."""
_BEGINNING = 512
"""Number of bytes that are examined. In every checkpoint format, some of them cannot occur in text."""


def split_key(weights: str) -> tuple[Path, str | None]:
    """File and key of `PATH#KEY`; None without a key. In the name of an existing file, a # is part of the name."""
    path, mark, key = weights.rpartition("#")
    if mark and not Path(weights).exists():
        return Path(path), key
    return Path(weights), None


def refuse_no_checkpoint(weights: Iterable[str]) -> None:
    """Refuse a value of `--weights` if the file does not exist or cannot be a checkpoint.

    Args:
        weights: 'auto', 'pretrained', 'random', or paths of checkpoints, each with or without `#KEY`.

    Raises: UserError for the first value that cannot be used.
    """
    for option in weights:
        if option not in _WORDS and (fault := fault_of_checkpoint(option)):
            raise UserError(fault)


def fault_of_checkpoint(weights: str | os.PathLike[str]) -> str:
    """What is wrong with a checkpoint given as `PATH` or `PATH#KEY`, judging by the first bytes of the file.

    Returns: A message; empty if nothing is wrong.
    """
    path, _ = split_key(os.fspath(weights))
    if path.is_file():
        return fault_of_content(path)
    what = "is a folder" if path.is_dir() else "is not a regular file" if path.exists() else "does not exist"
    return f"--weights {path} {what}; give 'auto', 'pretrained', 'random', or a .pth, .pt or .safetensors file"


def fault_of_content(path: Path) -> str:
    """What is wrong with a file that is empty, contains text, or cannot be opened; '' for any other file."""
    try:
        with path.open("rb") as file:
            beginning = file.read(_BEGINNING)
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
    kind = "safetensors" if path.suffix == ".safetensors" else "PyTorch"
    if not beginning:
        return f"{path} is damaged or no {kind} file: it is empty"
    return f"{path} is damaged or no {kind} file: it holds text" if _is_text(beginning) else ""


def _is_text(beginning: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(beginning)  # the last character may be cut off
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter.isspace() for letter in text)
