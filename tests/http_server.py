"""A small real HTTP server for tests of downloads: it can resume, ignore ranges, and drop out."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What the server serves and how it behaves; `requests` records (path, Range header)."""

    files: dict[str, bytes]
    resumes: bool = True
    etag: str | None = None
    sends_length: bool = True
    drops: list[int] = field(default_factory=list)
    """For each of the coming requests, after how many bytes the connection is closed."""
    stalls: float = 0.0
    """Seconds of silence before a connection is closed early."""
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    address: str = ""


@contextmanager
def answering(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address where the handler answers while the block runs."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Whole(BaseHTTPRequestHandler):
    """Answers with whole bodies; HEAD as GET, but for the body."""

    def do_GET(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()

    def answer(self) -> None:
        """Send what is asked for."""
        raise NotImplementedError

    def send(self, body: bytes, headers: dict[str, str], status: int = 200) -> None:
        """Send all of it."""
        self.send_response(status)
        for header, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(header, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve `site` at `site.address` while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, site)

        def do_HEAD(self) -> None:
            self.send_response(200 if self.path in site.files else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with answering(Handler) as site.address:
        yield site


def _answer(handler: BaseHTTPRequestHandler, site: Site) -> None:
    wanted = handler.headers.get("Range")
    site.requests.append((handler.path, wanted))
    body = site.files.get(handler.path)
    if body is None:
        handler.send_error(404)
        return
    start = _start(handler, site, wanted)
    if start and start >= len(body):
        handler.send_response(416)
        handler.send_header("Content-Range", f"bytes */{len(body)}")
        handler.end_headers()
        return
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    if site.sends_length:
        handler.send_header("Content-Length", str(len(body) - start))
    if site.etag:
        handler.send_header("ETag", site.etag)
    handler.end_headers()
    end = start + site.drops.pop(0) if site.drops else len(body)
    handler.wfile.write(body[start:end])
    if end < len(body):
        time.sleep(site.stalls)


def _start(handler: BaseHTTPRequestHandler, site: Site, wanted: str | None) -> int:
    condition = handler.headers.get("If-Range")
    match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
    if match is None or not site.resumes or (condition is not None and condition != site.etag):
        return 0
    return int(match[1])
