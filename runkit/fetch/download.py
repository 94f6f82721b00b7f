"""Download one file so that it is complete and verified, or absent. An interrupted transfer resumes where it stopped.

pooch's downloader speaks HTTP and writes what arrives. By itself, pooch starts again after an interruption, leaves a
temporary file behind when it is killed, retries when the server says that there is no such file, and silently replaces
a file that has changed. This module adds the partial file and the decision when to retry. Three hidden files lie beside
the destination: `.<name>.part` (the bytes so far), `.<name>.part.json` (what they belong to) and `.<name>.lock`. The
lock is held while fetching, so that one of several processes fetches the file and the others find it.
"""

import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from filelock import FileLock, Timeout

from runkit.console import UserError, is_quiet
from runkit.fetch.manifest import check_remembered, remember_sha256
from runkit.files import sha256_of_file

if TYPE_CHECKING:  # imported at run time only for a download, since it takes a tenth of a second
    from requests import Response

__all__ = ["PATIENCE", "DownloadError", "Patience", "cannot_reach", "download", "locked"]

_logger = logging.getLogger(__name__)
_HEADERS = {"User-Agent": "replknet-analysis", "Accept-Encoding": "identity"}
_CHUNK = 1 << 17
_answers: dict[str, str | None] = {}  # host -> why it cannot be reached, determined once per process


class DownloadError(UserError):
    """A file could not be downloaded, or is not the expected file."""


@dataclass(frozen=True)
class Patience:
    """How persistently a transfer is tried, in seconds and numbers of attempts."""

    stall: float = 15.0  # without a byte, after which a connection is abandoned
    attempts: int = 5  # consecutive attempts that may bring nothing new
    backoff: float = 1.0  # before the second attempt; doubled before each further one
    longest_wait: float = 60.0  # maximum that a server may request (`Retry-After`)


PATIENCE = Patience()


class _TryAgain(Exception):
    """An attempt failed for a reason that may be temporary. `wait` is the time in seconds that the server requested."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


def cannot_reach(url: str, *, seconds: float = 5.0) -> str | None:
    """Reason why the host of `url` does not answer; None if it answers, whatever the answer is.

    The request runs in its own thread, because name resolution has no time limit in Python. Without a network, this
    function returns after `seconds` plus one second at the latest. The result is cached. Proxies set in the environment
    are used.
    """
    import requests

    host = urlsplit(url).netloc
    if urlsplit(url).scheme not in ("http", "https"):
        return "not an http or https address"
    if host in _answers:
        return _answers[host]
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            requests.head(url, headers=_HEADERS, timeout=seconds)
            outcome.append(None)
        except (requests.RequestException, ValueError) as error:
            outcome.append(_reason(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds + 1.0)
    _answers[host] = outcome[0] if outcome else f"no answer within {seconds:g} s"
    return _answers[host]


def download(
    url: str,
    destination: str | Path,
    *,
    what: str,
    sha256: str | None = None,
    size: int | None = None,
    patience: Patience = PATIENCE,
) -> Path:
    """Fetch `url` into `destination`, with a progress bar where stderr is a terminal.

    Transient failures (a connection that breaks or stalls, status 408, 429 or 5xx) are retried. Bytes that are already
    there are not fetched again if the server still has the same file. The file's SHA-256 is stored next to it (see
    `runkit.fetch.manifest.verify_file`).

    Args:
        url: http or https address.
        destination: Path of the file to create. It appears only once it is complete and verified. A file that another
            process puts there in the meantime is left as it is.
        what: Description for messages, such as "weights replknet31b.in1k".
        sha256: Expected SHA-256, or its leading hexadecimal digits.
        size: Expected size in bytes.
        patience: Time-outs and retries.

    Raises: DownloadError if the host does not answer, the transfer cannot be completed, or the file is not the expected
        one; UserError if it cannot be written.
    """
    destination = Path(destination)
    host = urlsplit(url).hostname or url
    if reason := cannot_reach(url):
        raise DownloadError(f"cannot download {what}: {host} does not answer ({reason})")
    with locked(destination):
        if not destination.exists():
            _logger.info("downloading %s from %s", what, host)
            try:
                _fetch(_PartialFile(destination, url, f"{what} from {host}", sha256, size), patience)
            except OSError as error:
                raise UserError(f"cannot write {destination}: {error.strerror or error}") from error
    return destination


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock `path` so that no other process creates it. The lock is released when the process ends, however it ends.

    Raises: UserError if the folder cannot be created or written to.
    """
    lock = FileLock(path.with_name(f".{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _logger.info("waiting for another process that fetches %s", path.name)
            lock.acquire()
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; name a folder you may write to") from error
    try:
        yield
    finally:
        lock.release()


class _PartialFile:
    """The bytes fetched so far, and the address and version to which they belong. pooch writes into it."""

    def __init__(self, destination: Path, url: str, what: str, sha256: str | None, size: int | None) -> None:
        self.destination, self.url, self.what, self.sha256, self.published_size = destination, url, what, sha256, size
        self.path = destination.with_name(f".{destination.name}.part")
        self.total = size
        self.progress: Any = None
        self._note = destination.with_name(f".{destination.name}.part.json")
        self._validator: str | None = None
        belongs = False
        with suppress(FileNotFoundError, ValueError, KeyError, TypeError):  # there is none, or it is incomplete
            note = json.loads(self._note.read_text(encoding="utf-8"))
            self._validator = note["validator"]
            # without a validator, only the SHA-256 of the whole file shows that all bytes belong together
            belongs = note["url"] == url and bool(self._validator or len(sha256 or "") == 64)
        if not belongs:
            self.discard()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def headers(self) -> dict[str, str]:
        """Headers that request the missing bytes, or all of them if the file has changed since."""
        condition = {"If-Range": self._validator} if self._validator else {}
        return {**_HEADERS, "Range": f"bytes={self.size}-", **condition} if self.size else _HEADERS

    def accept(self, response: "Response", **options: object) -> None:
        """Prepare for the body of a response. Bodies of errors and of redirections are ignored."""
        if response.is_redirect:
            target = urljoin(response.url, response.headers["Location"])
            if not target.startswith("https:" if response.url.startswith("https:") else ("https:", "http:")):
                said = f"the server answers {response.status_code}, a redirect to {target}, which is refused"
                raise DownloadError(f"cannot download {self.what}: {said}")
        if response.is_redirect or not response.ok:
            return
        etag, length = response.headers.get("ETag"), response.headers.get("Content-Length", "")
        validator = etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")
        if response.status_code == 206:
            span, _, length = response.headers.get("Content-Range", "/").partition("/")
            changed = validator and self._validator and validator != self._validator
            if not span.startswith(f"bytes {self.size}-") or changed:
                self.discard()
                raise _TryAgain("the rest does not belong to the partial file")
        else:
            self.discard()
            self.path.touch()
            self._validator = validator
            self._note.write_text(json.dumps({"url": self.url, "validator": validator}), encoding="utf-8")
        total = int(length) if length.isdecimal() else self.published_size
        if self.published_size is not None and total != self.published_size:
            raise self._another_file(f"it has {total} bytes, not {self.published_size}")
        self.total = total
        missing, free = (total or 0) - self.size, shutil.disk_usage(self.path.parent).free
        if missing > free:
            raise UserError(
                f"cannot download {self.what}: it needs {missing / 1e6:.0f} MB, "
                f"{self.path.parent} has {free / 1e6:.0f} MB left"
            )

    def write(self, chunk: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(chunk)
            written = file.tell()
        self.progress.total = self.total
        self.progress.update(written - self.progress.n)
        if self.total is not None and written > self.total:
            raise self._another_file(f"it has more than {self.total} bytes")

    def flush(self) -> None:
        """pooch calls this after every chunk. There is nothing to do, since `write` buffers nothing."""

    def finish(self, start: int) -> None:
        """Verify the whole file, of which `start` bytes are from an earlier attempt, and move it to its destination."""
        if self.total is not None and self.size < self.total:
            raise _TryAgain(f"the connection broke off after {self.size} of {self.total} bytes")
        digest = sha256_of_file(self.path)
        if self.sha256 and not digest.startswith(self.sha256):
            wrong = self._another_file(f"its SHA-256 begins {digest[:8]}, not {self.sha256[:8]}")
            raise _TryAgain(f"put together from two attempts, {wrong}") if start else wrong
        if len(self.sha256 or "") < 64:
            check_remembered(self.destination, digest)
            remember_sha256(self.destination, digest)
        self.path.replace(self.destination)
        self._note.unlink(missing_ok=True)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self._validator = None

    def _another_file(self, why: str) -> DownloadError:
        self.discard()
        return DownloadError(f"{self.what} is not the published file: {why}")


def _fetch(part: _PartialFile, patience: Patience) -> None:
    longest, failures = part.size, 0
    while True:
        start = part.size
        try:
            _transfer(part, patience.stall)
            return part.finish(start)
        except _TryAgain as problem:
            failures = 0 if part.size > longest else failures + 1
            longest = max(longest, part.size)
            wait = problem.wait if problem.wait is not None else patience.backoff * 2 ** max(failures - 1, 0)
            if failures >= patience.attempts or wait > patience.longest_wait:
                later = f" and asks to wait {wait:.0f} s" if wait > patience.longest_wait else ""
                raise DownloadError(
                    f"cannot download {part.what}: {problem}{later}; run again to continue"
                ) from problem
            _logger.info("download of %s: %s; trying again in %.3g s", part.what, problem, wait)
            time.sleep(wait)


def _transfer(part: _PartialFile, stall: float) -> None:
    """One attempt to fetch what is missing.

    Raises: _TryAgain for temporary failures, DownloadError for permanent ones, OSError if the file cannot be written.
    """
    import requests
    from pooch import HTTPDownloader
    from tqdm import tqdm

    asked = {"timeout": stall, "headers": part.headers(), "hooks": {"response": part.accept}}
    shown = {"desc": part.destination.name, "unit": "B", "unit_scale": True, "initial": part.size}
    try:
        with tqdm(disable=is_quiet() or None, **shown) as part.progress:  # None: only on a terminal
            HTTPDownloader(chunk_size=_CHUNK, **asked)(part.url, part, None)
    except requests.HTTPError as error:
        raise _judge(error.response, part) from error
    except requests.TooManyRedirects as error:
        raise DownloadError(f"cannot download {part.what}: {error}") from error
    except requests.RequestException as error:
        if part.total is None or not isinstance(error, requests.exceptions.ChunkedEncodingError):
            raise _TryAgain(_reason(error)) from error  # otherwise `finish` says how much has arrived


def _judge(response: "Response | Any", part: _PartialFile) -> Exception:
    """The exception to raise for an error response."""
    from urllib3.exceptions import InvalidHeader
    from urllib3.util import Retry

    said = f"the server answers {response.status_code} {response.reason}".replace("\n", " ")
    if response.status_code == 416:  # the partial file is longer than the file
        part.discard()
    elif response.status_code not in (408, 429) and response.status_code < 500:
        return DownloadError(f"cannot download {part.what}: {said}")
    try:
        return _TryAgain(said, Retry().parse_retry_after(response.headers["Retry-After"]))
    except (KeyError, InvalidHeader):
        return _TryAgain(said)


def _reason(error: Exception) -> str:
    """The underlying reason of an error, extracted from the exceptions of requests and urllib3 that wrap it."""
    while isinstance(inner := getattr(error, "reason", error.args[0] if error.args else None), Exception):
        error = inner
    text = re.sub(r"^<?\S*(Connection|Pool)\S*( object at \w+>)?(\(.*?\))?: ", "", str(error))
    return "no byte came in time" if "timed out" in text else text or type(error).__name__
