"""What clients send: bodies of several kinds, read within limits, and the samples in them."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.data.dataset import Converted, DecodeFailure, PixelForm, Pixels
from bench.data.images.channels import decode_bytes_as
from bench.data.images.decode import available_formats
from bench.errors import counted
from bench.prediction.samples import SMALLER
from bench.prediction.serve.limits import Limits
from bench.prediction.texts import as_text

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_NAME = 200


class RefusedError(Exception):
    """A request that is not answered: its HTTP status, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class Upload:
    """An image as it was sent; the name is the client's word and nothing more."""

    name: str
    content: bytes


class Room:
    """How many requests and bytes are inside at the moment, and whether more may come."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.requests = 0
        self.bytes = 0

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[None]:
        """The block of one request; raises `RefusedError` (429) where there are too many."""
        if self.requests >= self._limits.requests:
            raise RefusedError(429, "too many requests at once; try again in a moment")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1

    @asynccontextmanager
    async def holding(self, request: Request) -> AsyncIterator[bytes]:
        """The request's body, counted as long as the block goes on."""
        held = 0
        pieces = []
        try:
            async with asyncio.timeout(self._limits.upload_seconds):
                async for piece in request.stream():
                    held += len(piece)
                    self.bytes += len(piece)
                    self._check(held)
                    pieces.append(piece)
            yield b"".join(pieces)
        except TimeoutError:
            raise RefusedError(408, "the request took too long to arrive") from None
        finally:
            self.bytes -= held

    def _check(self, held: int) -> None:
        if held > self._limits.request_bytes:
            most = self._limits.request_bytes / 2**20
            raise RefusedError(413, f"a request may have at most {most:.0f} MiB, this one has more")
        if self.bytes > self._limits.bytes_at_once:
            raise RefusedError(429, "too much is being uploaded at once; try again in a moment")


@dataclass(frozen=True, kw_only=True)
class SentText:
    """A text as it was sent; the name is its number."""

    name: str
    content: str


def texts_of(request: Request, body: bytes, limits: Limits) -> list[SentText]:
    """The texts in a request: JSON, or a plain text as the whole of it.

    Raises `RefusedError`.
    """
    kind = _content_type(request)
    if kind == "application/json":
        found = _strings(body, "text", "TEXT")
    elif kind == "text/plain":
        found = [body.decode("utf-8", "replace")]
    else:
        raise RefusedError(
            415,
            'send JSON {"texts": ["TEXT"]} as application/json, or a text as text/plain; got '
            f"{kind[:MAX_NAME] or 'no type'}",
        )
    _check_count(len(found), limits.texts, "text")
    return [SentText(name=str(number), content=each) for number, each in enumerate(found)]


def read_text(sent: SentText, limits: Limits) -> str:
    """The text as data sets keep it; raises `RefusedError` (413, or 422 for what says nothing)."""
    if len(sent.content) > limits.characters:
        raise RefusedError(
            413,
            f"a text may have at most {limits.characters:,} characters, got {len(sent.content):,}",
        )
    found = as_text(sent.content)
    if isinstance(found, DecodeFailure):
        raise RefusedError(422, found.reason)
    return found


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def uploads_of(request: Request, body: bytes, limits: Limits) -> list[Upload]:
    """The images in a request: form files, JSON with base64, or the bytes of one image.

    Raises `RefusedError`.
    """
    kind = _content_type(request)
    if kind == "multipart/form-data":
        found = await _form(request, body, limits)
    elif kind == "application/json":
        found = _json(body)
    elif kind.startswith("image/") or kind == "application/octet-stream":
        found = [Upload(name="image", content=body)]
    else:
        raise RefusedError(
            415,
            'send files as multipart/form-data, JSON {"images": ["BASE64"]}, or the bytes of an '
            f"image as image/* or application/octet-stream; got {kind[:MAX_NAME] or 'no type'}",
        )
    _check_count(len(found), limits.images, "image")
    return found


def _check_count(count: int, most: int, what: str) -> None:
    """Raise `RefusedError` for a request without samples, or with too many."""
    if not count:
        raise RefusedError(422, f"the request contains no {what}")
    if count > most:
        raise RefusedError(413, f"a request may have at most {counted(most, what)}, got {count}")


async def _form(request: Request, body: bytes, limits: Limits) -> list[Upload]:
    from starlette.datastructures import UploadFile
    from starlette.formparsers import MultiPartException, MultiPartParser

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        parser = MultiPartParser(
            request.headers, whole(), max_files=limits.images + 1, max_fields=limits.images
        )
        parser.spool_max_size = limits.request_bytes  # nothing goes to a disk, which may be full
        form = await parser.parse()
    except MultiPartException as error:
        status = 413 if error.message.startswith("Too many") else 422
        raise RefusedError(status, f"the form cannot be read: {error.message}") from None
    except Exception as error:  # of character sets that it names, and of what they decode
        raise RefusedError(422, f"the form cannot be read: {type(error).__name__}") from None
    try:
        return [
            Upload(name=_name(value.filename), content=await value.read())
            for _, value in form.multi_items()
            if isinstance(value, UploadFile)
        ]
    finally:
        await form.close()


def _name(given: str | None) -> str:
    """What may be given back: a form can name a character set that makes no Unicode of it."""
    return (given or "image")[:MAX_NAME].encode("utf-8", "backslashreplace").decode()


def _json(body: bytes) -> list[Upload]:
    images = _strings(body, "image", "BASE64")
    return [Upload(name=str(number), content=_base64(text)) for number, text in enumerate(images)]


def _strings(body: bytes, one: str, each: str) -> list[str]:
    """Those in JSON, under the name of `one` or of several, or as a list."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        raise RefusedError(422, "the body is not valid JSON") from None
    found = content.get(f"{one}s", content.get(one)) if isinstance(content, dict) else content
    found = [found] if isinstance(found, str) else found
    if not isinstance(found, list) or not all(isinstance(own, str) for own in found):
        raise RefusedError(
            422, f'JSON must be {{"{one}s": ["{each}", …]}} or {{"{one}": "{each}"}}'
        )
    return found


def _base64(text: str) -> bytes:
    """Plain, or as a data URL."""
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise RefusedError(422, "an image is not valid base64") from None


def decoded(upload: Upload, limits: Limits, *, form: PixelForm) -> Pixels:
    """The pixels; raises `RefusedError` (413 for too many, 422 for what is no image)."""
    _check_pixels(upload.content, limits)
    found = decode_bytes_as(
        upload.content, upload.name, form, max_pixels=limits.pixels, mend=SMALLER
    )
    if isinstance(found, DecodeFailure):
        raise RefusedError(422, found.reason)
    return found.pixels if isinstance(found, Converted) else found


def _check_pixels(content: bytes, limits: Limits) -> None:
    """By the header alone, before anything is unpacked."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=available_formats()) as image:
                width, height = image.size
    except Image.DecompressionBombError:
        raise RefusedError(413, f"an image may have at most {limits.pixels:,} pixels") from None
    except Exception:  # what is no image is told when it is decoded
        return
    if width * height > limits.pixels:
        raise RefusedError(
            413, f"an image may have at most {limits.pixels:,} pixels, got {width} × {height}"
        )
