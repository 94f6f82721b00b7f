"""Published files: what is known of them (`manifest.json`), and whether a file on disk is the expected one.

`manifest.json` is the only place for addresses and hashes of files that are downloaded or come with other packages. It
maps section -> name -> `url`, `path` (within an installed package) or `google_drive` (the id of a file that must be
downloaded by hand), `sha256` and `size` (null if nobody has published them), and `source`. Weights also have their
published accuracy and the licences of the code and the weights. Weights served by timm itself or by OpenMMLab are not
repeated here, because their hashes are in their file names or in the hub's cache.
"""

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from runkit.console import UserError
from runkit.files import atomic_write, sha256_of_file

__all__ = [
    "DamagedFileError",
    "KnownFile",
    "check_remembered",
    "discard",
    "known_files",
    "remember_sha256",
    "verify_file",
]


class DamagedFileError(UserError):
    """A file is not the published one, or has changed since it was downloaded."""


@dataclass(frozen=True)
class KnownFile:
    """An entry of the manifest.

    Attributes:
        name: File name; for weights, their timm tag.
        source: Page of the publisher.
        sha256: 64 hexadecimal digits; None if not known.
        size: Size in bytes; None if not known.
        url: Address from which to fetch it.
        path: Path within an installed package, beginning with the name of the package.
        google_drive: Id of the file on Google Drive, which does not let programs fetch large files.
        top1: Published ImageNet-1k top-1 accuracy of weights in per cent; None if none is published.
        code_license: Licence of the code that the weights belong to.
        weights_license: Licence of the weights, if their publisher states one; otherwise that of the repository that
            contains them.
    """

    name: str
    source: str
    sha256: str | None
    size: int | None
    url: str = ""
    path: str = ""
    google_drive: str = ""
    top1: float | None = None
    code_license: str = ""
    weights_license: str = ""


@cache
def known_files(section: str) -> dict[str, KnownFile]:
    """The entries of a section of the manifest, by name."""
    text = resources.files("runkit.fetch").joinpath("manifest.json").read_text(encoding="utf-8")
    return {name: KnownFile(name, **entry) for name, entry in json.loads(text)[section].items()}


def verify_file(path: Path, published: str | None = None) -> tuple[str, str]:
    """Hash a file and compare it with the published hash, and with its hash when it was downloaded.

    Args:
        path: The file.
        published: Published SHA-256 or its leading digits; None if nothing is published.

    Returns: Its SHA-256, and how much of it was verified: 'full', 'prefix' or 'none'.
    Raises: DamagedFileError if the file is not the expected one; UserError if it cannot be read.
    """
    try:
        sha256 = sha256_of_file(path)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    if published and not sha256.startswith(published):
        raise DamagedFileError(
            f"{path} is damaged or not the published file: its SHA-256 begins {sha256[:8]}, not {published[:8]}; "
            "delete it and run again"
        )
    if published and len(published) == 64:
        return sha256, "full"
    check_remembered(path, sha256)
    return sha256, "prefix" if published else "none"


def remember_sha256(path: Path, sha256: str) -> None:
    """Write `<path>.sha256`, in the format of `sha256sum`, so that a later change of a downloaded file is noticed."""
    with atomic_write(_memory(path)) as temporary:
        temporary.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")


def discard(path: Path) -> None:
    """Remove a downloaded file and its stored hash."""
    path.unlink(missing_ok=True)
    _memory(path).unlink(missing_ok=True)


def check_remembered(path: Path, sha256: str) -> None:
    """Compare a hash with the one that `remember_sha256` stored, if any.

    Raises: DamagedFileError if it differs.
    """
    memory = _memory(path)
    try:
        remembered = memory.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read {memory}: {error.strerror}") from error
    known = re.match(r"[0-9a-f]{64}\b", remembered)
    if known is None or known[0] != sha256:
        was = known[0][:8] if known else "unreadable"
        raise DamagedFileError(
            f"{path} is not what was downloaded at first: its SHA-256 begins {sha256[:8]}, {memory.name} says {was}; "
            "delete both to fetch it anew"
        )


def _memory(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
