"""One file from the web: whole and checked, or absent; an interrupted transfer goes on where it stopped.

Beside the destination lie, hidden, `.<name>.part` (the bytes so far), `.<name>.part.json` (whose they are) and
`.<name>.lock` (held while fetching, so that of several processes one fetches and the others find the file). Python's
own HTTP client is used: the one that comes with huggingface_hub is another in each of its major versions.
"""

import email.utils
import http.client
import json
import logging
import re
import shutil
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from filelock import FileLock, Timeout

from runkit.console import UserError, is_quiet
from runkit.fetch.manifest import check_remembered, remember_sha256
from runkit.files import sha256_of_file

__all__ = ["PATIENCE", "DownloadError", "Patience", "cannot_reach", "download", "locked"]

_logger = logging.getLogger(__name__)
_AGENT = {"User-Agent": "replknet-analysis"}
_CHUNK = 1 << 18
_answers: dict[str, str | None] = {}  # host -> why it cannot be reached, for the rest of the process: one wait


class DownloadError(UserError):
    """A file could not be had from the web, or is not the file it should be."""


@dataclass(frozen=True)
class Patience:
    """How long a transfer is tried.

    Attributes:
        stall: Seconds without a byte after which a connection is given up.
        attempts: How many attempts in a row may bring nothing new.
        backoff: Seconds before the second attempt, doubled before each further one.
        longest_wait: Seconds that a server may ask for (`Retry-After`) without being given up.
    """

    stall: float = 15.0
    attempts: int = 5
    backoff: float = 1.0
    longest_wait: float = 60.0


PATIENCE = Patience()


class _TryAgain(Exception):
    """An attempt failed in a way that may pass; `wait`: seconds the server asked for."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, and from https only to https; Python ends loops."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if urlsplit(newurl).scheme not in (("https",) if req.type == "https" else ("http", "https")):
            raise urllib.error.HTTPError(req.full_url, code, f"redirect to {newurl} refused", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_opener = urllib.request.build_opener(_SafeRedirects)


def cannot_reach(url: str, *, seconds: float = 5.0) -> str | None:
    """Reason why the host of `url` does not answer, None if it does (whatever it answers).

    Asked in a thread of its own, because looking up a name has no time limit in Python: without a network the answer
    comes after `seconds` and one more at the latest, and is remembered. Proxies set in the environment are used.
    """
    host = urlsplit(url).netloc
    if urlsplit(url).scheme not in ("http", "https"):
        return "not an http or https address"
    if host in _answers:
        return _answers[host]
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            with _opener.open(urllib.request.Request(url, method="HEAD", headers=_AGENT), timeout=seconds):
                outcome.append(None)
        except urllib.error.HTTPError as error:
            error.close()
            outcome.append(None)
        except (OSError, ValueError, http.client.HTTPException) as error:
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

    Transient failures (a connection that breaks or stalls, status 408, 429 or 5xx) are tried again, and what is there
    already is not fetched twice if the server has the same file still. The file's SHA-256 is remembered beside it (see
    `runkit.fetch.manifest.verify_file`).

    Args:
        url: http or https address.
        destination: Path of the file to make; it appears only once it is complete and checked. A file that another
            process puts there meanwhile is left as it is.
        what: Words for messages, such as "weights replknet31b.in1k".
        sha256: Its SHA-256, or leading hexadecimal digits of it.
        size: Its bytes.
        patience: Time-outs and retries.

    Raises: DownloadError if the host does not answer, the transfer cannot be completed, or the file is not the one
        asked for; UserError if it cannot be written.
    """
    destination = Path(destination)
    host = urlsplit(url).hostname or url
    if reason := cannot_reach(url):
        raise DownloadError(f"cannot download {what}: {host} does not answer ({reason})")
    with locked(destination):
        if not destination.exists():
            _logger.info("downloading %s from %s", what, host)
            try:
                _fetch(url, destination, f"{what} from {host}", sha256, size, patience)
            except OSError as error:
                raise UserError(f"cannot write {destination}: {error.strerror or error}") from error
    return destination


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from making `path` meanwhile; a process that ends, however it does, lets go of it.

    Raises: UserError if the folder cannot be made or written to.
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
    """The bytes fetched so far, and which version of which address they belong to."""

    def __init__(self, destination: Path, url: str, *, checked: bool) -> None:
        """`checked`: whether a whole SHA-256 will tell at the end that all bytes belong together."""
        self.path = destination.with_name(f".{destination.name}.part")
        self._note = destination.with_name(f".{destination.name}.part.json")
        self._url = url
        self.validator: str | None = None
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            belongs = note["url"] == url and (note["validator"] or checked)
            self.validator = note["validator"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):  # none, or not written to its end
            belongs = False
        if not belongs:
            self.discard()

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def request(self) -> urllib.request.Request:
        """Asks for what is missing, or for all if the file has changed since."""
        headers = dict(_AGENT)
        if self.size:
            headers["Range"] = f"bytes={self.size}-"
            if self.validator:
                headers["If-Range"] = self.validator
        return urllib.request.Request(self._url, headers=headers)

    def accept(self, response: http.client.HTTPResponse) -> int | None:
        """Make ready for the response's body; returns how long the whole file is, if the server says so."""
        validator = _validator(response)
        if response.status != 206:
            self.discard()
            self.validator = validator
            self._note.write_text(json.dumps({"url": self._url, "validator": validator}), encoding="utf-8")
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isdecimal() else None
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if span is None or int(span[1]) != self.size or (validator and self.validator and validator != self.validator):
            self.discard()
            raise _TryAgain("the rest does not belong to the partial file")
        return None if span[2] == "*" else int(span[2])

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._note.unlink(missing_ok=True)
        self.validator = None

    def finish(self, destination: Path) -> None:
        self.path.replace(destination)
        self._note.unlink(missing_ok=True)


def _fetch(url: str, destination: Path, what: str, sha256: str | None, size: int | None, patience: Patience) -> None:
    whole = sha256 is not None and len(sha256) == 64
    part = _PartialFile(destination, url, checked=whole)
    longest, failures = part.size, 0
    while True:
        try:
            digest = _transfer(part, destination, what, sha256, size, patience.stall)
            break
        except _TryAgain as problem:
            failures = 0 if part.size > longest else failures + 1
            longest = max(longest, part.size)
            wait = problem.wait if problem.wait is not None else patience.backoff * 2 ** max(failures - 1, 0)
            if failures >= patience.attempts or wait > patience.longest_wait:
                later = f" and asks to wait {wait:.0f} s" if wait > patience.longest_wait else ""
                raise DownloadError(f"cannot download {what}: {problem}{later}; run again to continue") from problem
            _logger.info("download of %s: %s; trying again in %.3g s", what, problem, wait)
            time.sleep(wait)
    if not whole:
        check_remembered(destination, digest)
        remember_sha256(destination, digest)
    part.finish(destination)


def _transfer(
    part: _PartialFile, destination: Path, what: str, sha256: str | None, size: int | None, stall: float
) -> str:
    """One attempt at what is missing; returns the SHA-256 of the complete file.

    Raises: _TryAgain for what may pass, DownloadError for what will not, OSError if the file cannot be written.
    """
    from tqdm import tqdm

    with _open(part, what, stall) as response:
        total = part.accept(response)
        start = written = part.size
        if size is not None and total not in (None, size):
            part.discard()
            raise DownloadError(f"{what} is not the published file: it has {total} bytes, not {size}")
        total = size if total is None else total
        free = shutil.disk_usage(destination.parent).free
        if total is not None and total - start > free:
            raise UserError(
                f"cannot download {what}: it needs {(total - start) / 1e6:.0f} MB, "
                f"{destination.parent} has {free / 1e6:.0f} MB left"
            )
        with (
            part.path.open("ab") as file,
            tqdm(
                total=total,
                initial=start,
                unit="B",
                unit_scale=True,
                desc=destination.name,
                disable=is_quiet() or None,  # None: shown on a terminal
            ) as bar,
        ):
            while (chunk := _read(response)) and (total is None or written <= total):
                file.write(chunk)
                written += len(chunk)
                bar.update(len(chunk))
    if total is not None and written < total:
        raise _TryAgain(f"the connection broke off after {written} of {total} bytes")
    digest = sha256_of_file(part.path)
    wrong = ""
    if total is not None and written > total:
        wrong = f"it has more than {total} bytes"
    elif sha256 and not digest.startswith(sha256):
        wrong = f"its SHA-256 begins {digest[:8]}, not {sha256[:8]}"
    if wrong:
        part.discard()
        if start:  # the bytes of an earlier attempt may be of another file
            raise _TryAgain(f"put together from two attempts, {wrong}")
        raise DownloadError(f"{what} is not the published file: {wrong}")
    return digest


def _open(part: _PartialFile, what: str, stall: float) -> Any:
    try:
        return _opener.open(part.request(), timeout=stall)
    except urllib.error.HTTPError as error:
        error.close()
        answer = f"the server answers {error.code} {error.reason}".replace("\n", " ")
        if error.code == 416:  # the partial file is longer than the file
            part.discard()
            raise _TryAgain(answer) from error
        if error.code in (408, 429) or error.code >= 500:
            raise _TryAgain(answer, _retry_after(error.headers.get("Retry-After"))) from error
        raise DownloadError(f"cannot download {what}: {answer}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _TryAgain(_reason(error)) from error


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _TryAgain(_reason(error)) from error


def _reason(error: Exception) -> str:
    if isinstance(getattr(error, "reason", None), Exception):  # URLError wraps what happened
        error = error.reason  # type: ignore[attr-defined]
    return "no byte came in time" if isinstance(error, TimeoutError) else str(error) or type(error).__name__


def _validator(response: http.client.HTTPResponse) -> str | None:
    """What names this version of the file: a strong ETag, else its date."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified")


def _retry_after(value: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks for, in either of its forms."""
    if value is None:
        return None
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:  # neither form: as if it were not there
        return None
