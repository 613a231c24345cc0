"""Downloads that resume where they stopped and are verified before they count."""

from __future__ import annotations

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError, MachineError, is_full_disk, path_named
from bench.keys import file_digest
from bench.system.cache import cache_lock, flush_to_disk, set_aside
from bench.system.lru_folder import make_room

OnProgress = Callable[[str, int, int | None], None]
"""Called with (what is being done, how much is done, how much there is if known)."""

CHUNK_BYTES = 1 << 20
MAX_BYTES = 1 << 33
"""No file that is fetched comes near it; a server that never stops must not fill the disk."""
ABANDONED_SECONDS = 30 * 24 * 3600.0
TIMEOUT_SECONDS = 30.0
"""A connection that is silent for so long counts as dropped."""


class DownloadError(BenchError):
    """A file could not be downloaded, or what arrived is not what was expected."""


def fetch(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    sha256_prefix: str | None = None,
    max_bytes: int = MAX_BYTES,
    progress: OnProgress | None = None,
    mend: str = "",
    timeout: float = TIMEOUT_SECONDS,
) -> Path:
    """Download `url` to `destination` unless it is there, undamaged, and return `destination`.

    The bytes are gathered in `destination.part`, which a dropped connection leaves in place: the
    same call goes on from there (HTTP Range, RFC 9110 section 14), and so does this one at once as
    long as every new connection brings something. The file gets its name when it is complete and
    its SHA-256 equals `sha256` or begins with `sha256_prefix`. Of several processes that ask for
    the same file, one downloads and the others wait for it. `timeout` is in seconds. A file of more
    than `max_bytes` is given up, whatever length the server announces.

    Raises `DownloadError` naming the address and the cause, with the sentence `mend` at its end.
    """
    expected = sha256 or sha256_prefix or ""
    if _is_there(destination, expected):
        return destination
    with cache_lock(destination.with_name(f"{destination.name}.lock")):
        if not _is_there(destination, expected):
            download = _Download(
                url=url,
                destination=destination,
                max_bytes=max_bytes,
                progress=progress,
                mend=mend,
                timeout=timeout,
            )
            download.make_room()
            _sweep(destination.parent)
            _download_verified(download, expected=expected)
    return destination


def _is_there(destination: Path, expected: str) -> bool:
    """Whether the file is there and still what was downloaded."""
    if not expected or not destination.is_file():
        return destination.is_file()
    return file_digest(destination).startswith(expected.lower())


def _sweep(folder: Path) -> None:
    """Remove the beginnings of files that nobody has gone on with for a month."""
    for part in (*folder.glob("*.part"), *folder.glob("*.part.etag")):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_SECONDS:
                part.unlink()


@dataclass(frozen=True, kw_only=True)
class _Download:
    url: str
    destination: Path
    max_bytes: int
    progress: OnProgress | None
    mend: str
    timeout: float

    @property
    def part(self) -> Path:
        return self.destination.with_name(self.destination.name + ".part")

    @property
    def validator_file(self) -> Path:
        """Holds the ETag or date of the file that `part` is the beginning of."""
        return self.destination.with_name(self.destination.name + ".part.etag")

    @property
    def received(self) -> int:
        return self.part.stat().st_size if self.part.is_file() else 0

    def report(self, total: int | None) -> None:
        if self.progress is not None:
            self.progress(f"download {self.destination.name}", self.received, total)

    def make_room(self) -> None:
        """Folders in the place of its files go; whatever put them there."""
        for path in (self.destination, self.part, self.validator_file):
            if path.is_dir():
                set_aside(path)

    def discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self.validator_file.unlink(missing_ok=True)

    def error(self, cause: str) -> DownloadError:
        return DownloadError(f"cannot download {self.url}: {cause}. {self.mend}".rstrip())


def _download_verified(download: _Download, *, expected: str) -> None:
    if _validator(download) is None:
        download.discard()
    resumed = download.received > 0
    _receive_all(download)
    actual = file_digest(download.part)
    if not actual.startswith(expected.lower()):
        download.discard()
        if resumed:  # the part may have been of another version of the file: once more from 0
            _download_verified(download, expected=expected)
            return
        raise download.error(f"SHA-256 should begin with {expected}, got {actual}")
    flush_to_disk(download.part)
    download.part.replace(download.destination)
    download.validator_file.unlink(missing_ok=True)


def _receive_all(download: _Download) -> None:
    while True:
        before = download.received
        try:
            if _receive(download):
                return
            cause = "the connection was closed before the end of the file"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and before:
                if _total_of(error.headers.get("Content-Range")) == before:
                    return
                download.discard()
                continue
            raise download.error(f"the server answers {error.code} {error.reason}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, OSError) and is_full_disk(error):
                if make_room(download.part):
                    continue
                raise MachineError(error) from error
            cause = str(getattr(error, "reason", None) or error or type(error).__name__)
        if download.received <= before:
            raise download.error(cause)


def _receive(download: _Download) -> bool:
    """Append what one connection brings; whether the file is complete now."""
    start = download.received
    with urllib.request.urlopen(_request(download, start), timeout=download.timeout) as response:
        resumes = response.status == http.HTTPStatus.PARTIAL_CONTENT
        if resumes and not _starts_at(response.headers.get("Content-Range"), start):
            raise ValueError(f"the server sent another part of the file than byte {start} onwards")
        if not resumes:
            download.discard()
            _remember_validator(download, response.headers)
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length is not None else None
        with path_named(download.part), download.part.open("ab") as file:
            download.report(total)
            while chunk := response.read1(CHUNK_BYTES):
                file.write(chunk)
                file.flush()
                download.report(total)
                if file.tell() > download.max_bytes:
                    break
    if download.received > download.max_bytes:
        download.discard()
        raise download.error(f"the server sends more than {download.max_bytes:,} bytes")
    return total is None or download.received == total


def _request(download: _Download, start: int) -> urllib.request.Request:
    request = urllib.request.Request(download.url, headers={"User-Agent": "bench"})
    if start:
        request.add_header("Range", f"bytes={start}-")
        if validator := _validator(download):
            request.add_header("If-Range", validator)
    return request


def _validator(download: _Download) -> str | None:
    """What the server said of the file that `part` begins; None if the note of it is damaged."""
    try:
        text = download.validator_file.read_text(encoding="ascii")
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return None
    return text if text and text.isprintable() else None


def _remember_validator(download: _Download, headers: http.client.HTTPMessage) -> None:
    etag = headers.get("ETag", "")
    validator = headers.get("Last-Modified", "") if etag.startswith("W/") else etag
    validator = validator or headers.get("Last-Modified", "")
    if validator:
        download.validator_file.write_text(validator, encoding="ascii")


def _starts_at(content_range: str | None, start: int) -> bool:
    return re.match(rf"bytes {start}-", content_range or "") is not None


def _total_of(content_range: str | None) -> int | None:
    match = re.search(r"/([0-9]{1,18})$", content_range or "")
    return int(match[1]) if match else None
