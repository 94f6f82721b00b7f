"""Fetching the benchmark's public files: a progress bar, a short patience, and files that are whole or absent."""

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from runkit import UserError, atomic_write

__all__ = ["DownloadFailed", "cache_folder", "download"]

TIMEOUT_S = 5.0
"""Patience with a silent server, in seconds, for the connection and for every read."""

_CHUNK_BYTES = 1 << 16


class DownloadFailed(UserError):
    """A file could not be fetched; the message names the address and the reason."""


def cache_folder() -> Path:
    """Where fetched data is kept: `$REPLKNET_CACHE`, else `replknet-analysis` in the user's cache folder."""
    if chosen := os.environ.get("REPLKNET_CACHE"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "replknet-analysis"


def download(url: str, destination: Path, *, what: str, max_bytes: int, progress: bool = True) -> Path:
    """Fetch `url` into `destination`, replacing what is there once the whole file has arrived.

    Args:
        url: Address of the file.
        destination: Path of the file to write; missing folders are made.
        what: Name of the thing for messages and the progress bar (on stderr).
        max_bytes: A longer answer is refused.
        progress: Whether to show the bar.
    Returns: `destination`.
    Raises: DownloadFailed without a network, on an error status, or on a short, long or stalled answer.
    """
    from tqdm import tqdm

    try:
        with (
            urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer,
            atomic_write(destination) as temporary,
            temporary.open("wb") as file,
        ):
            length = answer.headers.get("Content-Length")
            expected = int(length) if length else None
            received = 0
            with tqdm(total=expected, unit="B", unit_scale=True, desc=what, disable=not progress) as bar:
                while chunk := answer.read(_CHUNK_BYTES):
                    received += len(chunk)
                    if received > max_bytes:
                        raise DownloadFailed(f"cannot download {what} from {url}: more than {max_bytes} bytes")
                    file.write(chunk)
                    bar.update(len(chunk))
            if expected is not None and received != expected:
                raise DownloadFailed(f"cannot download {what} from {url}: {received} of {expected} bytes arrived")
    except urllib.error.HTTPError as error:
        raise DownloadFailed(f"cannot download {what} from {url}: HTTP {error.code} {error.reason}") from error
    except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise DownloadFailed(f"cannot download {what} from {url}: {reason}") from error
    return destination
