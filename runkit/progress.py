"""Progress of an unfinished run: a `.npz` file with the identity of the run, and the decision when to write it.

The file holds the arrays computed so far and a `head` of JSON text. The head contains `identity` (what determines the
result) and whatever else the tool needs to resume.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runkit.console import UserError
from runkit.files import atomic_write, read_arrays, reason_in_words
from runkit.provenance import list_differences

if TYPE_CHECKING:
    import numpy as np

__all__ = ["SaveClock", "SavedProgress", "discard_progress", "find_progress", "save_progress"]

_SAVE_EVERY_SECONDS = 60.0
_SAVE_EVERY_BATCHES = 10
_COST = 0.05
"""Share of the time that saving after every ten batches may take; the files grow with the number of images."""


@dataclass(frozen=True)
class SavedProgress:
    """Content of a progress file: the arrays, and the head without the identity."""

    arrays: "dict[str, np.ndarray]"
    head: dict[str, Any]


class SaveClock:
    """Decides when to save progress: after ten batches if saving is fast compared with them, and after a minute."""

    def __init__(self) -> None:
        self._batches, self._saved_at, self._cost = 0, time.monotonic(), 0.0

    def tick(self, save: Callable[[], None]) -> None:
        """Count another batch, and call `save` if it is time."""
        self._batches += 1
        waited = time.monotonic() - self._saved_at
        cheap = self._cost <= _COST * waited
        if waited >= _SAVE_EVERY_SECONDS or (self._batches >= _SAVE_EVERY_BATCHES and cheap):
            before = time.monotonic()
            save()
            self._batches, self._saved_at = 0, time.monotonic()
            self._cost = self._saved_at - before


def save_progress(
    path: Path, identity: Mapping[str, Any], arrays: "Mapping[str, np.ndarray]", head: Mapping[str, Any]
) -> None:
    """Write a progress file, complete or not at all."""
    import numpy as np

    text = json.dumps({**head, "identity": identity}, allow_nan=False)
    content: dict[str, Any] = {"head": np.array(text), **arrays}
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **content)


def find_progress(
    path: Path, identity: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
) -> SavedProgress | None:
    """The unfinished run to resume; None to start from the beginning.

    Args:
        path: The progress file, which may be missing.
        identity: What determines the result of the run that is starting.
        resume: Whether to resume from the file.
        overwrite: Whether to ignore a file that is not resumed from: any file without `resume`, and one that is damaged
            or from another run with `resume`.

    Raises: UserError that suggests a solution, if there is a file that is neither resumed from nor ignored.
    """
    if not path.exists() or (overwrite and not resume):
        return None
    if not resume:
        raise UserError(f"{path} holds an unfinished run; --resume continues it, --overwrite starts again")
    try:
        return _load_progress(path, identity)
    except UserError:
        if overwrite:
            return None
        raise


def discard_progress(path: Path, identity: Mapping[str, Any]) -> None:
    """Remove the progress file of a finished run. The file of another run is left alone."""
    try:
        if path.exists():
            _load_progress(path, identity)
            path.unlink()
    except UserError:
        return


def _load_progress(path: Path, identity: Mapping[str, Any]) -> SavedProgress:
    """Read a progress file.

    Raises: UserError if the file is damaged or from another run.
    """
    try:
        arrays = read_arrays(path)
        head = json.loads(str(arrays.pop("head")))
        differences = list_differences(head.pop("identity"), json.loads(json.dumps(identity)))
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{path} is damaged ({reason_in_words(error)}); start again with --overwrite") from error
    if differences:
        raise UserError(f"{path} is of another run ({'; '.join(differences)}); start again with --overwrite")
    return SavedProgress(arrays, head)
