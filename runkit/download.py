"""One file from the web: checked, whole or absent, and never waited for in vain."""

import hashlib
import logging
import threading
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from runkit.console import UserError
from runkit.files import atomic_write

__all__ = ["DownloadError", "cannot_reach", "download"]

_logger = logging.getLogger(__name__)
_AGENT = {"User-Agent": "replknet-analysis"}
_CHUNK = 1 << 18
_unreachable: dict[str, str] = {}  # host -> why, for the rest of the process: many networks, one wait


class DownloadError(UserError):
    """A file could not be had from the web, or is not the file it should be."""


def cannot_reach(url: str, *, seconds: float = 5.0) -> str | None:
    """Reason why the host of `url` does not answer, None if it does (whatever it answers).

    Asked in a thread of its own, because looking up a name has no time limit in Python: without a network the answer
    comes after `seconds` and one more at the latest, and is remembered. Proxies set in the environment are used.
    """
    host = urlsplit(url).netloc
    if host in _unreachable:
        return _unreachable[host]
    outcome: list[str | None] = []

    def ask() -> None:
        request = urllib.request.Request(url, method="HEAD", headers=_AGENT)
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                outcome.append(None)
        except urllib.error.HTTPError:
            outcome.append(None)
        except (OSError, ValueError) as error:  # URLError is an OSError
            outcome.append(str(getattr(error, "reason", error)))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 1.0)
    reason = outcome[0] if outcome else f"no answer within {seconds:g} s"
    if reason is not None and host:
        _unreachable[host] = reason
    return reason


def download(
    url: str, destination: str | Path, *, what: str, sha256_prefix: str | None = None, timeout: float = 15.0
) -> Path:
    """Fetch `url` into `destination`, with a progress bar on stderr.

    Args:
        url: http(s) or file address.
        destination: Path of the file to make; it appears only once it is complete and checked.
        what: Words for messages, such as "weights replknet31b.in1k".
        sha256_prefix: Leading hexadecimal digits that the file's SHA-256 must have.
        timeout: Seconds without a byte after which the transfer is given up.

    Raises: DownloadError if the host does not answer, the transfer breaks, or the file is not what was asked for.
    """
    from tqdm import tqdm

    destination = Path(destination)
    host = urlsplit(url).hostname or url
    if reason := cannot_reach(url):
        raise DownloadError(f"cannot download {what}: {host} does not answer ({reason})")
    _logger.info("downloading %s from %s", what, host)
    digest = hashlib.sha256()
    with atomic_write(destination) as temporary:
        try:
            request = urllib.request.Request(url, headers=_AGENT)
            with urllib.request.urlopen(request, timeout=timeout) as response, temporary.open("wb") as file:
                total = int(response.headers.get("Content-Length") or 0)
                with tqdm(total=total or None, unit="B", unit_scale=True, desc=destination.name) as bar:
                    while chunk := response.read(_CHUNK):
                        file.write(chunk)
                        digest.update(chunk)
                        bar.update(len(chunk))
        except (OSError, ValueError) as error:
            raise DownloadError(f"cannot download {what} from {host}: {getattr(error, 'reason', error)}") from error
        size = temporary.stat().st_size
        if total and size != total:
            raise DownloadError(f"download of {what} from {host} broke off after {size} of {total} bytes; try again")
        if sha256_prefix and not digest.hexdigest().startswith(sha256_prefix):
            raise DownloadError(
                f"{what} from {host} is not the published file: its SHA-256 begins {digest.hexdigest()[:8]}, "
                f"not {sha256_prefix}"
            )
    return destination
