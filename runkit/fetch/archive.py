"""Unpack an untrusted tar archive: completely or not at all, within a size limit, and never outside its folder."""

import bz2
import gzip
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from runkit.console import UserError

__all__ = ["unpack_tar"]

_OPENERS: dict[bytes, Callable[[Path], Any]] = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_BROKEN = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RecursionError)


def unpack_tar(archive: str | Path, folder: str | Path, *, pick: Callable[[Path], Path], max_bytes: int) -> None:
    """Unpack `archive` (tar, plain or compressed by gzip, bzip2 or xz) so that `folder` appears complete and checked.

    Members pass the `data` filter of `tarfile`. In addition, links are refused, and hidden files (a leading dot) are
    left out. Nothing is left behind after an error. A killed process leaves `.<folder>.unpack` behind, which the next
    one removes. The caller must keep other processes from unpacking into the same folder.

    Args:
        archive: The file.
        folder: Folder to create; it must not exist, or be empty.
        pick: Given the unpacked tree, returns the folder in it that becomes `folder`; it may raise UserError.
        max_bytes: Maximum size of the uncompressed archive in bytes.

    Raises: UserError that names the archive and says what is refused or how the archive is damaged; or as `pick`.
    """
    archive, folder = Path(archive), Path(folder)
    scratch = folder.with_name(f".{folder.name}.unpack")
    try:
        if scratch.exists():
            shutil.rmtree(scratch)
        scratch.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror}; name a folder you may write to") from error
    try:
        try:
            _extract(_decompress(archive, scratch / "archive.tar", max_bytes), scratch / "tree")
        except _BROKEN as error:
            raise UserError(f"{archive} cannot be unpacked: {error}") from error
        picked = pick(scratch / "tree")
        try:
            picked.rename(folder)
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror}; remove what is there") from error
    finally:
        shutil.rmtree(scratch)


def _decompress(archive: Path, plain: Path, max_bytes: int) -> Path:
    """Decompress the archive, which also verifies its checksums. Returns the archive itself if it is not compressed."""
    with archive.open("rb") as file:
        head = file.read(6)
    opener = next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)
    if opener is None:
        plain = archive
    else:
        with opener(archive) as source, plain.open("wb") as file:
            while (chunk := source.read(1 << 20)) and file.tell() <= max_bytes:
                file.write(chunk)
    if plain.stat().st_size > max_bytes:
        raise ValueError(f"it has more than {max_bytes} bytes")
    return plain


def _extract(plain: Path, tree: Path) -> None:
    with tarfile.open(plain, "r:") as tar:
        tar.extractall(tree, filter=_data_only)
        # `tarfile` mistakes a damaged header for the end; a complete archive ends in at least two blocks of zeros
        with plain.open("rb") as file:
            file.seek(tar.offset)
            rest = file.read()
    if any(rest):
        raise ValueError("a header is damaged")
    if len(rest) < tarfile.BLOCKSIZE:
        raise EOFError("it breaks off")


def _data_only(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    if any(part.startswith(".") and part != ".." for part in PurePosixPath(member.name).parts):
        return None
    if not (member.isfile() or member.isdir()) or member.issparse():
        raise tarfile.SpecialFileError(member)
    return tarfile.data_filter(member, path)
