"""Unpack a tar archive that nobody vouches for: all of it or nothing, and never outside its folder.

Only regular files are written, by our own hand: no links, no devices, no permissions or owners of the archive. That is
stricter than the `data` filter of `tarfile`, and the same on every Python.
"""

import bz2
import gzip
import io
import lzma
import shutil
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from runkit.console import UserError

__all__ = ["unpack_tar"]

_OPENERS: dict[bytes, Callable[[Path], IO[bytes]]] = {
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item]
    b"BZh": bz2.open,  # type: ignore[dict-item]
    b"\xfd7zXZ\x00": lzma.open,  # type: ignore[dict-item]
}
_BROKEN = (tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, RecursionError)
_MAX_READ = 1 << 24


def unpack_tar(
    archive: str | Path, folder: str | Path, *, pick: Callable[[Path], Path], max_bytes: int, max_members: int
) -> None:
    """Unpack `archive` (tar, plain or compressed by gzip, bzip2 or xz) so that `folder` appears, complete and checked.

    Hidden files (a leading dot) are left out. After an error nothing is left behind; what a killed process leaves,
    `.<folder>.unpack`, the next one removes. The caller keeps other processes from unpacking into the same folder.

    Args:
        archive: The file.
        folder: Folder to make; must not exist, or be empty.
        pick: Given the unpacked tree, returns the folder in it that becomes `folder`; it may raise UserError.
        max_bytes: Most bytes that the archive may unpack to.
        max_members: Most members that it may have.

    Raises: UserError that names the archive and the member that is refused: a link or device, an absolute name or one
        that climbs out, a name twice, more than the limits; or that says how the archive is damaged; or as `pick`.
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
            with _open(archive, max_bytes + 2 * tarfile.RECORDSIZE * (max_members + 1)) as stream:
                _extract(stream, scratch, f"{archive} is refused", max_bytes, max_members)
        except _BROKEN as error:
            raise UserError(f"{archive} cannot be unpacked: {error}") from error
        picked = pick(scratch)
        try:
            picked.rename(folder)
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror}; remove what is there") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)  # it may be what was picked


def _extract(stream: "_Bounded", scratch: Path, refused: str, max_bytes: int, max_members: int) -> None:
    total = 0
    with tarfile.open(fileobj=stream, mode="r:") as tar:  # type: ignore[call-overload]
        for count, member in enumerate(tar, start=1):
            name = PurePosixPath(member.name)
            total += member.size
            if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
                raise UserError(f"{refused}: the member {member.name!r} would be written outside its folder")
            if not (member.isfile() or member.isdir()) or member.issparse():
                raise UserError(f"{refused}: the member {member.name!r} is a link or a device")
            if total > max_bytes or count > max_members:
                raise UserError(f"{refused}: it has more than {max_members} members or {max_bytes} bytes")
            if member.isdir() or any(part.startswith(".") for part in name.parts):
                continue
            target = scratch / name
            target.parent.mkdir(parents=True, exist_ok=True)
            source = tar.extractfile(member)
            assert source is not None  # it is a regular file
            try:
                with source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
            except FileExistsError as error:
                raise UserError(f"{refused}: the member {member.name!r} comes twice") from error
        _check_end(stream, tar.offset)


def _check_end(stream: "_Bounded", offset: int) -> None:
    """Read on to the end, where compressed files have their checksum: after the last member come only zeros.

    `tarfile` takes a damaged header for the end of the archive.
    """
    stream.seek(offset)
    rest = 0
    while chunk := stream.read(tarfile.RECORDSIZE):
        rest += len(chunk)
        if any(chunk):
            raise ValueError("a header is damaged")
    if rest < tarfile.BLOCKSIZE:
        raise EOFError("it breaks off")


def _open(archive: Path, limit: int) -> "_Bounded":
    with archive.open("rb") as file:
        head = file.read(6)
    for magic, opener in _OPENERS.items():
        if head.startswith(magic):
            return _Bounded(opener(archive), limit)
    return _Bounded(archive.open("rb"), limit)


class _Bounded(io.RawIOBase):
    """The unpacked stream, to be read up to `limit` and a little at a time: headers, too, can have absurd sizes."""

    def __init__(self, file: IO[bytes], limit: int) -> None:
        self._file = file
        self._limit = limit

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _MAX_READ or self._file.tell() + size > self._limit:
            raise ValueError(f"it unpacks to more than {self._limit / 1e6:.0f} MB, or has a header of absurd size")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()
        super().close()
