"""Downloads from a server that fails in every possible way."""

import hashlib
import os
import signal
import socket
import subprocess
import sys
import time
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import pytest
from requests.adapters import HTTPAdapter
from support import ROOT
from web import corrupted, etag_of, serve, status, truncated, without_length, without_ranges

from runkit import UserError
from runkit.fetch.download import DownloadError, Patience, cannot_reach, download
from runkit.fetch.manifest import DamagedFileError, known_files, verify_file

CONTENT = bytes(range(256)) * 400  # 102400 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()
OTHER = CONTENT[::-1]
QUICK = Patience(stall=1.0, attempts=3, backoff=0.01, longest_wait=0.5)


@pytest.fixture
def fetch(web, tmp_path, monkeypatch):
    """Download `/file` to `tmp_path/new/file.bin`, with short timeouts and small chunks."""
    monkeypatch.setattr("runkit.fetch.download._CHUNK", 1 << 14)
    web.files["/file"] = CONTENT

    def run(path: str = "/file", **options) -> Path:
        options = {"what": "a file", "patience": QUICK, **options}
        return download(web.url(path), tmp_path / "new" / "file.bin", **options)

    return run


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def partial(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if ".part" in path.name)


def test_no_network_is_noticed_within_seconds():
    assert cannot_reach("http://name.invalid/file", seconds=2.0)


def test_a_host_that_takes_the_call_and_says_nothing_is_given_up():
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/file"
        started = time.monotonic()
        assert cannot_reach(url, seconds=0.5)
        assert cannot_reach(url, seconds=60.0)  # remembered: no second wait
        assert time.monotonic() - started < 5


def test_a_file_comes_whole_and_its_hash_is_remembered(fetch, web):
    path = fetch()
    assert path.read_bytes() == CONTENT
    assert visible(path.parent) == ["file.bin", "file.bin.sha256"]
    assert partial(path.parent) == []
    assert (path.parent / "file.bin.sha256").read_text(encoding="utf-8") == f"{SHA256}  file.bin\n"
    assert len(web.requests) == 1
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_a_file_that_is_there_is_not_fetched_again(fetch, web):
    fetch()
    fetch()
    assert len(web.requests) == 1


@pytest.mark.parametrize("sha256", [SHA256, SHA256[:8]])
def test_published_hash_and_size_are_checked(fetch, sha256):
    assert fetch(sha256=sha256, size=len(CONTENT)).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sha256": "0" * 64}, f"its SHA-256 begins {SHA256[:8]}, not 00000000"),
        ({"sha256": "01234567"}, f"its SHA-256 begins {SHA256[:8]}, not 01234567"),
        ({"size": 7}, "it has 102400 bytes, not 7"),
    ],
)
def test_another_file_is_refused_and_nothing_stays(fetch, tmp_path, options, message):
    with pytest.raises(DownloadError, match=f"a file from 127.0.0.1 is not the published file: {message}"):
        fetch(**options)
    assert visible(tmp_path / "new") == []
    assert partial(tmp_path / "new") == []


def test_a_file_without_an_end_is_given_up_at_its_size(fetch, web):
    web.answers = [without_length]
    with pytest.raises(DownloadError, match="it has more than 1000 bytes"):
        fetch(size=1000)


def test_what_was_fetched_before_a_break_is_kept(fetch, web):
    web.answers = [truncated(40_000)]
    assert fetch().read_bytes() == CONTENT
    assert 20_000 < continued_at(web.requests[1]) <= 40_000  # what is less than a chunk is fetched again
    assert web.requests[1]["If-Range"] == etag_of(CONTENT)


def continued_at(headers: dict[str, str]) -> int:
    """The number of bytes that a request already has."""
    return int(headers["Range"].removeprefix("bytes=").removesuffix("-"))


def test_a_stream_of_unknown_length_that_breaks_is_begun_again(fetch, web):
    def breaks(handler, content):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n" % len(content) + content[:40_000])

    web.answers = [breaks]
    assert fetch().read_bytes() == CONTENT
    assert len(web.requests) == 2


def test_an_empty_file_is_a_file(fetch, web):
    web.files["/file"] = b""
    assert fetch().read_bytes() == b""


def test_a_stalled_connection_is_given_up_and_continued(fetch, web):
    web.answers = [web.stall(50_000)]
    started = time.monotonic()
    assert fetch().read_bytes() == CONTENT
    assert time.monotonic() - started < 2
    assert 30_000 < continued_at(web.requests[1]) <= 50_000


def test_a_server_that_only_stalls_is_given_up(fetch, web):
    web.answers = [web.stall(0)] * QUICK.attempts
    with pytest.raises(DownloadError, match="no byte came in time; run again to continue"):
        fetch(patience=Patience(stall=0.05, attempts=3, backoff=0.01))
    assert len(web.requests) == 3


def test_progress_earns_further_attempts_but_standing_still_does_not(fetch, web):
    """Six interruptions with progress are more than the three attempts that are allowed without progress."""
    steps = [
        lambda handler, content, end=end: serve_part(handler, content, end) for end in range(10_000, 70_000, 10_000)
    ]
    web.answers = list(steps)
    assert fetch().read_bytes() == CONTENT
    assert len(web.requests) == 7


def serve_part(handler, content, end):
    """Send the requested range up to `end`, although the header promises the rest."""
    original = handler.wfile

    def write(data):
        start = int(handler.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
        original.write(data[: end - start] if len(data) > 1000 else data)

    handler.wfile = SimpleNamespace(write=write, flush=original.flush, closed=False, close=original.close)
    serve(handler, content)
    handler.wfile = original


def test_no_progress_ends_the_attempts(fetch, web, tmp_path):
    web.answers = [truncated(40_000), *[truncated(30_000)] * 3]
    with pytest.raises(DownloadError, match=r"broke off after \d+ of 102400 bytes; run again to continue"):
        fetch()
    assert len(web.requests) == 4
    assert visible(tmp_path / "new") == []
    assert fetch().read_bytes() == CONTENT  # and that is what running again does
    assert 10_000 < continued_at(web.requests[-1]) <= 30_000


def test_a_server_without_ranges_starts_again(fetch, web):
    web.answers = [truncated(40_000), without_ranges]
    assert fetch().read_bytes() == CONTENT
    assert "Range" in web.requests[1]


@pytest.mark.parametrize("second", [serve, without_ranges])
def test_a_file_that_changes_between_attempts_is_fetched_anew(fetch, web, second):
    def change(handler, content):
        web.files["/file"] = OTHER
        truncated(40_000)(handler, content)

    web.answers = [change, second]
    assert fetch().read_bytes() == OTHER


def test_a_server_that_ignores_the_condition_is_found_out(fetch, web):
    """It sends the rest of a changed file as if it had not changed."""

    def rest_of_another(handler, content):
        del handler.headers["If-Range"]
        serve(handler, OTHER)

    web.answers = [truncated(40_000), rest_of_another]
    assert fetch().read_bytes() == CONTENT
    assert "Range" not in web.requests[2]


def test_without_etag_the_whole_hash_decides_what_belongs_together(fetch, web):
    web.answers = [truncated(40_000, etag=False)]
    fetch(sha256=SHA256)
    assert 20_000 < continued_at(web.requests[1]) <= 40_000


def test_without_etag_or_hash_nothing_is_kept(fetch, web):
    web.answers = [truncated(40_000, etag=False)] * 4
    with pytest.raises(DownloadError, match="broke off"):
        fetch()
    fetch()
    assert "Range" not in web.requests[-1]


def test_a_partial_file_of_another_file_is_discarded(fetch, web, tmp_path):
    folder = tmp_path / "new"
    folder.mkdir()
    (folder / ".file.bin.part").write_bytes(b"of something else")
    assert fetch().read_bytes() == CONTENT
    assert "Range" not in web.requests[0]


def test_a_partial_file_with_wrong_bytes_costs_one_more_attempt(fetch, web, tmp_path):
    web.answers = [truncated(40_000), *[truncated(0)] * 3]
    with pytest.raises(DownloadError):
        fetch(sha256=SHA256)
    (tmp_path / "new" / ".file.bin.part").write_bytes(bytes(40_000))
    assert fetch(sha256=SHA256).read_bytes() == CONTENT


def test_a_partial_file_that_is_too_long_is_no_trap(fetch, web, tmp_path):
    web.answers = [truncated(40_000), *[truncated(0)] * 3]
    with pytest.raises(DownloadError):
        fetch()
    (tmp_path / "new" / ".file.bin.part").write_bytes(CONTENT + b"more")
    assert fetch().read_bytes() == CONTENT


def test_a_corrupted_transfer_is_refused(fetch, web, tmp_path):
    web.answers = [corrupted]
    with pytest.raises(DownloadError, match="is not the published file"):
        fetch(sha256=SHA256)
    assert fetch(sha256=SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("code", [408, 429, 500, 502, 503, 504])
def test_errors_that_pass_are_tried_again(fetch, web, code):
    web.answers = [status(code), status(code)]
    assert fetch().read_bytes() == CONTENT
    assert len(web.requests) == 3


@pytest.mark.parametrize("code", [400, 401, 403, 410, 451])
def test_errors_that_stay_are_not(fetch, web, code):
    web.answers = [status(code)] * 3
    with pytest.raises(DownloadError, match=f"the server answers {code}"):
        fetch()
    assert len(web.requests) == 1


def test_a_file_that_does_not_exist(fetch, web):
    with pytest.raises(DownloadError, match=r"cannot download a file from 127.0.0.1: the server answers 404 Not Found"):
        fetch("/elsewhere")
    assert len(web.requests) == 1


def test_attempts_come_to_an_end(fetch, web):
    web.answers = [status(503)] * 9
    with pytest.raises(DownloadError, match="answers 503 Service Unavailable; run again"):
        fetch()
    assert len(web.requests) == QUICK.attempts


@pytest.mark.parametrize("wait", ["0", "nonsense", "past date"])
def test_retry_after_is_kept_to(fetch, web, wait):
    web.answers = [status(429, Retry_After=formatdate(0, usegmt=True) if wait == "past date" else wait)]
    assert fetch().read_bytes() == CONTENT


def test_a_wait_that_is_asked_for_is_waited(fetch, web):
    web.answers = [status(503, Retry_After="1")]
    started = time.monotonic()
    fetch(patience=Patience(stall=1.0, attempts=3, backoff=0.01, longest_wait=2.0))
    assert time.monotonic() - started >= 1


def test_a_long_wait_is_said_instead(fetch, web):
    web.answers = [status(429, Retry_After="3600")]
    with pytest.raises(DownloadError, match="answers 429 Too Many Requests and asks to wait 3600 s"):
        fetch()


def test_redirects_are_followed(fetch, web):
    web.files["/old"] = b""
    web.answers = [status(302, Location=web.url("/file"))]
    assert fetch("/old").read_bytes() == CONTENT


def test_redirects_in_a_circle_end(fetch, web):
    web.files["/old"] = b""
    web.answers = [status(302, Location=web.url("/old"))] * 50
    with pytest.raises(DownloadError, match=r"cannot download .*Exceeded 30 redirects"):
        fetch("/old")
    assert len(web.requests) < 40


@pytest.mark.parametrize("target", ["file:///etc/hostname", "ftp://127.0.0.1/file", "gopher://127.0.0.1/"])
def test_redirects_to_other_schemes_are_refused(fetch, web, target):
    web.answers = [status(301, Location=target)]
    with pytest.raises(DownloadError, match=f"answers 301, a redirect to {target}, which is refused"):
        fetch()


def test_redirects_from_https_to_http_are_refused(web, tmp_path, monkeypatch):
    send = HTTPAdapter.send

    def https_in_the_clear(self, request, **options):
        secure, request.url = request.url, request.url.replace("https:", "http:")
        response = send(self, request, **options)
        request.url = response.url = secure
        return response

    monkeypatch.setattr(HTTPAdapter, "send", https_in_the_clear)
    web.files |= {"/old": b"", "/file": CONTENT}
    secure = web.url("/").replace("http:", "https:")
    web.answers = [status(302, Location=web.url("/file"))]
    with pytest.raises(DownloadError, match=r"a redirect to http:.* refused"):
        download(secure + "old", tmp_path / "a", what="a file", patience=QUICK)
    web.answers = [status(302, Location=secure + "file")]
    assert download(secure + "old", tmp_path / "b", what="a file", patience=QUICK).read_bytes() == CONTENT


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://example.org/file", "example.org/file", ""])
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(DownloadError, match="not an http or https address"):
        download(url, tmp_path / "file", what="a file")


def test_a_full_disk_is_seen_before_the_transfer(fetch, monkeypatch, tmp_path):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(UserError, match=r"it needs 0 MB, .*new has 0 MB left"):
        fetch()
    assert visible(tmp_path / "new") == []


def test_a_disk_that_fills_up_is_one_line(web, tmp_path):
    """Simulated by a limit on the size of files, which makes the same call fail."""
    web.files["/file"] = CONTENT
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    process = start_download(web.url("/file"), tmp_path / "file.bin", before=limit)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 1
    assert said.splitlines()[-1] == f"error: cannot write {tmp_path / 'file.bin'}: File too large"
    assert "Traceback" not in said
    assert visible(tmp_path) == []


def test_a_folder_that_cannot_be_made(web, tmp_path):
    (tmp_path / "file").write_text("")
    web.files["/file"] = CONTENT
    with pytest.raises(UserError, match=r"cannot write .*name a folder you may write to"):
        download(web.url("/file"), tmp_path / "file" / "a", what="a file")


def start_download(url: str, destination: Path, *, before: str = "") -> subprocess.Popen:
    code = f"""
import logging, sys
from runkit import UserError
from runkit.fetch.download import download
logging.basicConfig(level=logging.INFO)
{before}
try:
    download({url!r}, {str(destination)!r}, what="a file")
except UserError as error:
    sys.exit(f"error: {{error}}")
"""
    return subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, encoding="utf-8")


def test_of_two_processes_one_fetches(web, tmp_path):
    web.files["/file"] = CONTENT
    web.answers = [web.stall(50_000)]
    processes = [start_download(web.url("/file"), tmp_path / "file.bin") for _ in range(2)]
    wait_for(lambda: web.requests)
    time.sleep(0.3)  # time for the second to come to the lock
    assert len(web.requests) == 1
    web.release.set()
    said = [process.communicate(timeout=10)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum("waiting for another process that fetches file.bin" in text for text in said) == 1
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(web.requests) == 1


def test_a_killed_process_leaves_what_the_next_continues(web, tmp_path):
    web.files["/file"] = content = CONTENT * 10
    web.answers = [web.stall(600_000)]
    process = start_download(web.url("/file"), tmp_path / "file.bin")
    part = tmp_path / ".file.bin.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 0)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)
    kept = part.stat().st_size
    assert visible(tmp_path) == []
    assert download(web.url("/file"), tmp_path / "file.bin", what="a file", patience=QUICK).read_bytes() == content
    assert web.requests[1]["Range"] == f"bytes={kept}-"
    assert partial(tmp_path) == []


def wait_for(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def test_a_downloaded_file_that_changes_is_noticed(fetch):
    path = fetch()
    assert verify_file(path) == (SHA256, "none")
    assert verify_file(path, SHA256[:8]) == (SHA256, "prefix")
    assert verify_file(path, SHA256) == (SHA256, "full")
    path.write_bytes(OTHER)
    with pytest.raises(DamagedFileError, match=r"is not what was downloaded at first: .*file\.bin\.sha256 says"):
        verify_file(path)
    with pytest.raises(DamagedFileError, match="damaged or not the published file"):
        verify_file(path, SHA256)


def test_the_same_address_with_another_file_is_noticed(fetch, web):
    fetch().unlink()
    web.files["/file"] = OTHER
    with pytest.raises(DamagedFileError, match="delete both to fetch it anew"):
        fetch()


def test_a_memory_that_cannot_be_read_is_not_passed_over(fetch):
    path = fetch()
    path.with_name("file.bin.sha256").write_text("nonsense")
    with pytest.raises(DamagedFileError, match="says unreadable"):
        verify_file(path)


@pytest.mark.parametrize("section", ["packaged_weights", "stimuli", "people"])
def test_the_manifest_is_well_formed(section):
    for known in known_files(section).values():
        assert known.url.startswith("https://") != bool(known.path)
        assert known.source.startswith("https://")
        assert known.sha256 is None or (len(known.sha256) == 64 and int(known.sha256, 16))
        assert (known.size is None) == (known.sha256 is None)
