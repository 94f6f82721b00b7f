"""A local HTTP server that answers correctly, or in any wrong way that a test chooses."""

import contextlib
import hashlib
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


class Web:
    """Serves `files` by path. Each GET uses the next of `answers`; when these are used up, answers are correct.

    `requests` records the headers of every GET.
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.answers: list[Answer] = []
        self.requests: list[dict[str, str]] = []
        self.release = threading.Event()  # lets go of the answers that stall
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.send_response(200)
                self.end_headers()

            def do_GET(self) -> None:
                web.requests.append(dict(self.headers))
                content = web.files.get(self.path)
                if content is None:
                    self.send_error(404)
                else:
                    (web.answers.pop(0) if web.answers else serve)(self, content)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    def __enter__(self) -> "Web":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}{path}"

    def stall(self, sent: int) -> Answer:
        """Send the first bytes, then nothing until `release`, then the rest."""

        def answer(handler: BaseHTTPRequestHandler, content: bytes) -> None:
            start_of_answer(handler, content)
            handler.wfile.write(content[:sent])
            handler.wfile.flush()
            self.release.wait(10)
            with contextlib.suppress(OSError):  # nobody is there any more
                handler.wfile.write(content[sent:])

        return answer


def start_of_answer(handler: BaseHTTPRequestHandler, content: bytes, *, etag: bool = True) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    if etag:
        handler.send_header("ETag", etag_of(content))
    handler.end_headers()


def etag_of(content: bytes) -> str:
    return f'"{hashlib.md5(content).hexdigest()}"'


def serve(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    """Answer as a correct server does, with ranges according to RFC 9110."""
    span, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    if span is None or condition not in (None, etag_of(content)):
        start_of_answer(handler, content)
        handler.wfile.write(content)
        return
    start = int(span.removeprefix("bytes=").rstrip("-"))
    if start >= len(content):
        handler.send_error(416)
        return
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.send_header("Content-Length", str(len(content) - start))
    handler.send_header("ETag", etag_of(content))
    handler.end_headers()
    handler.wfile.write(content[start:])


def without_ranges(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    start_of_answer(handler, content)
    handler.wfile.write(content)


def without_length(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content)


def truncated(sent: int, *, etag: bool = True) -> Answer:
    """Promise the whole file, send its first bytes, and close the connection."""

    def answer(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        start_of_answer(handler, content, etag=etag)
        handler.wfile.write(content[:sent])

    return answer


def corrupted(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    serve(handler, content[:-1] + bytes([content[-1] ^ 1]))


def status(code: int, **headers: str) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, content: bytes) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer
