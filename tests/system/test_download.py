"""Downloads against a real server on this machine: resumed, verified, and clear when they fail."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest

from bench.system.download import ABANDONED_SECONDS, CHUNK_BYTES, DownloadError, fetch
from tests.damage import LOSSES, flip, lose
from tests.http_server import Site, answering, serving

CONTENT = np.random.default_rng(0).bytes(200_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site():
    with serving(Site(files={"/file": CONTENT})) as site:
        yield site


def part_of(destination: Path) -> Path:
    return destination.with_name(destination.name + ".part")


def test_a_file_arrives_once(site: Site, tmp_path: Path) -> None:
    destination = tmp_path / "deep" / "file"
    for _ in range(2):
        assert fetch(f"{site.address}/file", destination, sha256=SHA256) == destination
        assert destination.read_bytes() == CONTENT
    assert site.requests == [("/file", None)]
    assert not part_of(destination).exists()


def test_a_file_that_has_changed_arrives_again(site: Site, tmp_path: Path) -> None:
    destination = tmp_path / "file"
    fetch(f"{site.address}/file", destination, sha256=SHA256)
    flip(destination, 1000)
    fetch(f"{site.address}/file", destination, sha256_prefix=SHA256[:8])
    assert destination.read_bytes() == CONTENT
    assert len(site.requests) == 2


@pytest.mark.parametrize("how", LOSSES)
@pytest.mark.parametrize("suffix", ["", ".part", ".part.etag"])
def test_whatever_becomes_of_its_files_it_arrives(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str, how: str
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))  # elsewhere folders are kept
    destination = tmp_path / "file"
    for ending, content in {"": CONTENT, ".part": CONTENT[:5000], ".part.etag": b"x" * 600}.items():
        if ending or not suffix:
            destination.with_name(f"file{ending}").write_bytes(content)
    lose(destination.with_name(f"file{suffix}"), how)
    fetch(f"{site.address}/file", destination, sha256=SHA256)
    assert destination.read_bytes() == CONTENT


def test_the_beginning_of_a_file_that_nobody_wants_any_more_goes(
    site: Site, tmp_path: Path
) -> None:
    old, young = tmp_path / "old.part", tmp_path / "young.part"
    for path in (old, young):
        path.write_text("the beginning")
    long_ago = time.time() - ABANDONED_SECONDS - 60
    os.utime(old, (long_ago, long_ago))
    fetch(f"{site.address}/file", tmp_path / "file", sha256=SHA256)
    assert not old.exists()
    assert young.exists()


def test_progress_counts_to_the_total(site: Site, tmp_path: Path) -> None:
    calls: list[tuple[str, int, int | None]] = []
    fetch(f"{site.address}/file", tmp_path / "file", progress=lambda *call: calls.append(call))
    done = [call[1] for call in calls]
    assert done == sorted(done)
    assert calls[-1] == ("download file", len(CONTENT), len(CONTENT))


def test_a_server_that_tells_no_length(site: Site, tmp_path: Path) -> None:
    site.sends_length = False
    fetch(f"{site.address}/file", tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_dropped_connections_are_resumed_at_once(site: Site, tmp_path: Path) -> None:
    site.drops = [50_000, 70_000]
    fetch(f"{site.address}/file", tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    ranges = [wanted for _, wanted in site.requests]
    assert ranges == [None, "bytes=50000-", "bytes=120000-"]


def test_an_interrupted_download_goes_on_in_the_next_call(site: Site, tmp_path: Path) -> None:
    destination = tmp_path / "file"
    site.drops = [50_000, 0]
    with pytest.raises(DownloadError, match="closed before the end"):
        fetch(f"{site.address}/file", destination, sha256=SHA256)
    assert not destination.exists()
    assert part_of(destination).read_bytes() == CONTENT[:50_000]
    fetch(f"{site.address}/file", destination, sha256=SHA256)
    assert destination.read_bytes() == CONTENT
    assert site.requests[-1] == ("/file", "bytes=50000-")


def test_a_server_that_ignores_ranges_starts_over(site: Site, tmp_path: Path) -> None:
    site.resumes = False
    site.drops = [50_000]
    fetch(f"{site.address}/file", tmp_path / "file", sha256=SHA256)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert site.requests[-1] == ("/file", "bytes=50000-")


def test_a_file_that_changed_on_the_server_is_not_glued_to_the_old_part(
    site: Site, tmp_path: Path
) -> None:
    destination = tmp_path / "file"
    site.etag, site.drops = '"old"', [50_000, 0]
    with pytest.raises(DownloadError):
        fetch(f"{site.address}/file", destination)
    site.etag, site.files["/file"] = '"new"', CONTENT[::-1]
    fetch(f"{site.address}/file", destination)
    assert destination.read_bytes() == CONTENT[::-1]
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == ["file"]


def test_a_part_of_something_else_is_thrown_away(site: Site, tmp_path: Path) -> None:
    destination = tmp_path / "file"
    part_of(destination).write_bytes(b"something else")
    fetch(f"{site.address}/file", destination, sha256=SHA256)
    assert destination.read_bytes() == CONTENT
    assert [wanted for _, wanted in site.requests] == ["bytes=14-", None]


def test_a_part_that_is_complete_already(site: Site, tmp_path: Path) -> None:
    destination = tmp_path / "file"
    part_of(destination).write_bytes(CONTENT)
    fetch(f"{site.address}/file", destination, sha256=SHA256)
    assert destination.read_bytes() == CONTENT


def test_a_part_that_is_longer_than_the_file(site: Site, tmp_path: Path) -> None:
    destination = tmp_path / "file"
    part_of(destination).write_bytes(CONTENT + b"more")
    fetch(f"{site.address}/file", destination)
    assert destination.read_bytes() == CONTENT


def test_wrong_content_is_refused_and_removed(site: Site, tmp_path: Path) -> None:
    destination = tmp_path / "file"
    with pytest.raises(DownloadError) as caught:
        fetch(f"{site.address}/file", destination, sha256="0" * 64, mend="Ask for help.")
    message = str(caught.value)
    assert f"{site.address}/file" in message
    assert "0" * 64 in message
    assert SHA256 in message
    assert message.endswith("Ask for help.")
    assert not destination.exists()
    assert not part_of(destination).exists()


def test_a_hash_may_be_given_by_its_beginning(site: Site, tmp_path: Path) -> None:
    fetch(f"{site.address}/file", tmp_path / "good", sha256_prefix=SHA256[:8])
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch(f"{site.address}/file", tmp_path / "bad", sha256_prefix="12345678")


def test_a_missing_file_names_address_and_answer(site: Site, tmp_path: Path) -> None:
    with pytest.raises(
        DownloadError, match=re.escape(f"{site.address}/none: the server answers 404")
    ):
        fetch(f"{site.address}/none", tmp_path / "file")


def test_a_refused_connection_names_the_cause_and_the_mend(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(DownloadError, match=r"refused.*Use path instead\.$"):
        fetch(f"http://127.0.0.1:{port}/file", tmp_path / "file", mend="Use path instead.")


def test_an_unknown_host_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"http://no-such-host\.invalid/file"):
        fetch("http://no-such-host.invalid/file", tmp_path / "file")


@pytest.mark.parametrize("url", ["nonsense", "unknown://host/file"])
def test_a_malformed_address_is_one_clear_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="cannot download"):
        fetch(url, tmp_path / "file")


def test_a_silent_server_counts_as_dropped(site: Site, tmp_path: Path) -> None:
    site.drops, site.stalls = [50_000], 1.0
    fetch(f"{site.address}/file", tmp_path / "file", sha256=SHA256, timeout=0.2)
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert site.requests[-1] == ("/file", "bytes=50000-")


def test_several_callers_share_one_download(site: Site, tmp_path: Path) -> None:
    destination = tmp_path / "file"
    threads = [
        threading.Thread(target=fetch, args=(f"{site.address}/file", destination)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert destination.read_bytes() == CONTENT
    assert len(site.requests) == 1


class Endless(BaseHTTPRequestHandler):
    """Sends as long as somebody listens, whatever it has announced; or leads elsewhere."""

    announced: str | None = None
    location: str | None = None

    def do_GET(self) -> None:
        self.send_response(200 if self.location is None else 302)
        if self.location is not None:
            self.send_header("Location", self.location)
        if self.announced is not None:
            self.send_header("Content-Length", self.announced)
        self.end_headers()
        with suppress(OSError):
            while self.location is None:
                self.wfile.write(b"x" * 65_536)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def endless(**behaviour: str) -> Iterator[str]:
    with answering(type("Handler", (Endless,), behaviour)) as address:
        yield f"{address}/file"


@pytest.mark.parametrize("behaviour", [{}, {"announced": str(10**15)}, {"announced": "-5"}])
def test_a_server_that_never_ends_is_given_up(behaviour: dict[str, str], tmp_path: Path) -> None:
    received: list[int] = []
    with endless(**behaviour) as url, pytest.raises(DownloadError, match="more than 1,000,000"):
        fetch(
            url, tmp_path / "file", max_bytes=1_000_000,
            progress=lambda _, done, __: received.append(done),
        )  # fmt: skip
    assert max(received) < 1_000_000 + 2 * CHUNK_BYTES
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_what_comes_after_the_announced_length_is_not_read(tmp_path: Path) -> None:
    with endless(announced="1000") as url:
        assert fetch(url, tmp_path / "file").read_bytes() == b"x" * 1000


@pytest.mark.parametrize("announced", ["many", "9" * 5000])
def test_a_length_that_is_no_number(announced: str, tmp_path: Path) -> None:
    with endless(announced=announced) as url, pytest.raises(DownloadError):
        fetch(url, tmp_path / "file", max_bytes=1_000_000)


@pytest.mark.parametrize("scheme", ["file", "ftp", "data", "javascript"])
def test_a_server_cannot_lead_to_files_of_this_machine(scheme: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    target = {"file": secret.as_uri(), "ftp": "ftp://127.0.0.1:1/x"}.get(scheme, f"{scheme}:x")
    with endless(location=target) as url, pytest.raises(DownloadError):
        fetch(url, tmp_path / "file")
    assert not (tmp_path / "file").exists()
