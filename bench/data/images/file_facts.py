"""What decides how image files are read as one set, remembered so that it is looked up once.

One file alone does not show how its values are meant: 12-bit values in a 16-bit file are black
where all of 16 bits count. The largest value of all files does.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bench.data.archives import StoredFile, opened
from bench.data.dataset import DataIssue, naming
from bench.data.images.channels import look_as
from bench.data.images.decode import DEEP, MAX_PIXELS, is_deep, is_deep_colour, with_image
from bench.data.images.file_hashes import UNREADABLE, file_hashes
from bench.data.images.png_metadata import has_oversized_metadata, without_metadata
from bench.errors import counted
from bench.system.cache import atomic_file, cache_root
from bench.system.download import OnProgress

if TYPE_CHECKING:
    from PIL import Image

USUAL_BITS = (8, 10, 12, 14, DEEP)
"""Of sensors and of medical and scientific instruments."""
EVERY_PIXEL = 1 << 40
"""A limit that no header is refused by: nothing but 16-bit images is decoded here."""


NAMED = 5


class FileFacts(NamedTuple):
    """What is seen of a file: `pixels` by its header, and the `largest` value of 16-bit ones.

    That of colour is known by its high byte, which decides the bits. `stripped`: read without its
    texts and profile, which are too large for Pillow. All of it is 0 where the file is no image.
    """

    pixels: int
    largest: int
    stripped: bool


NOTHING = FileFacts(0, 0, False)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the files of a set are read: so many `bits` of 16-bit values are used, and where these
    stay what they are the set is `deep`.

    `contents` are hashes of what becomes of each file: of its content alone, unless limits, bits or
    cut metadata make something else of it than usual. `issues` tell of a choice that was made.
    """

    bits: int
    deep: bool
    contents: tuple[str, ...]
    issues: tuple[DataIssue, ...]


def find_reading(
    root: Path,
    paths: Sequence[StoredFile],
    sample_ids: Sequence[str],
    *,
    bits: int | None,
    max_pixels: int,
    channels: int | None = None,
    progress: OnProgress | None = None,
) -> Reading:
    """How these files are read; `bits` None: as many as the largest value of them all needs.

    With `channels` files have as many, and what has 16 bits makes all of the set deep.
    """
    hashes = file_hashes(root, paths, progress=progress)
    facts = file_facts(root, paths, hashes, channels=channels, progress=progress)
    deep = [index for index, fact in enumerate(facts) if 0 < fact.pixels <= max_pixels
            and fact.largest]  # fmt: skip
    largest = max((facts[index].largest for index in deep), default=(1 << DEEP) - 1)
    used = bits or usual_bits(largest)
    is_deep_set = channels is not None and bool(deep)
    kept = "" if channels is None else f" {counted(channels, 'channel')}"
    kept += f" of {used} bits" if is_deep_set else ""
    return Reading(
        bits=used,
        deep=is_deep_set,
        contents=tuple(
            digest + _unusual(fact, used, max_pixels) + kept
            for digest, fact in zip(hashes, facts, strict=True)
        ),
        issues=tuple(_issues(used, bits, largest, [sample_ids[index] for index in deep])),
    )


def _unusual(facts: FileFacts, bits: int, max_pixels: int) -> str:
    told = [
        " without metadata" if facts.stripped else "",
        f" {bits} bits" if facts.largest and bits != DEEP else "",
        " large" if MAX_PIXELS < facts.pixels <= max_pixels else "",
        " too large" if max_pixels < facts.pixels <= MAX_PIXELS else "",
    ]
    return "".join(told)


def _issues(
    used: int, given: int | None, largest: int, samples: Sequence[str]
) -> Iterator[DataIssue]:
    white = (1 << used) - 1
    images = counted(len(samples), "image")
    if given is not None and not samples:
        message = f"bits: {given} has no effect, no image has 16-bit values."
    elif given is not None and largest > white:
        message = (
            f"bits: {given} makes {white:,} and all values above it white; the largest value of "
            f"{images} with 16 bits is {largest:,}."
        )
    elif given is None and used != DEEP:
        message = (
            f"{images} with 16-bit values have no value above {largest:,}: they are read as "
            f"{used}-bit, so {white:,} is white ({naming(samples)}). If that is wrong, set bits: "
            "16 of the data set."
        )
    else:
        return
    yield DataIssue(
        kind="16-bit", message=message, count=len(samples), samples=tuple(samples[:NAMED])
    )


def file_facts(
    root: Path,
    paths: Sequence[StoredFile],
    hashes: Sequence[str],
    *,
    channels: int | None = None,
    progress: OnProgress | None = None,
) -> list[FileFacts]:
    """The facts of each file; `hashes` are those of the contents, by which they are remembered."""
    look = _look if channels is None else partial(_look_as, channels=channels)
    own = "" if channels is None else f"-{channels}"
    memory = cache_root() / "file-facts" / f"{_key(root)}{own}.json"
    known = _load(memory)
    unknown = {
        digest: path
        for path, digest in zip(paths, hashes, strict=True)
        if digest not in known and digest != UNREADABLE
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, on files that decode nevertheless
        facts = pool.map(look, unknown.values())
        for done, (digest, each) in enumerate(zip(unknown, facts, strict=True), start=1):
            known[digest] = each
            if progress is not None:
                progress(f"look at {root.name}", done, len(unknown))
    if unknown:
        # Where it cannot be kept, the files are looked at again.
        with suppress(OSError), atomic_file(memory) as temporary:
            temporary.write_text(json.dumps(known), encoding="ascii")
    return [known.get(digest, NOTHING) for digest in hashes]


def usual_bits(largest: int) -> int:
    """The fewest bits of `USUAL_BITS` that hold the value."""
    return next(bits for bits in USUAL_BITS if largest < 1 << bits)


def _look(path: StoredFile) -> FileFacts:
    def look(image: Image.Image) -> tuple[int, int]:
        pixels = image.width * image.height
        in_colour = is_deep_colour(image)
        if not in_colour and not is_deep(image):
            return pixels, 0
        if pixels > MAX_PIXELS:  # what claims to be so large is not decoded for a look
            return pixels, (1 << DEEP) - 1
        largest = int(np.asarray(image).max())
        return pixels, 256 * largest + 255 if in_colour else largest

    try:
        source = opened(path)
        stripped = has_oversized_metadata(source)
        source = without_metadata(source) if stripped else source
        pixels, largest = with_image(source, look, max_pixels=EVERY_PIXEL)
        return FileFacts(pixels, largest, stripped)
    except MemoryError:
        raise
    except Exception:  # Pillow's plugins raise almost anything; decoding tells of it
        return NOTHING


def _look_as(path: StoredFile, *, channels: int) -> FileFacts:
    return FileFacts(*look_as(path, channels), stripped=False)


def _key(root: Path) -> str:
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:16]


def _load(memory: Path) -> dict[str, FileFacts]:
    try:
        entries = json.loads(memory.read_text(encoding="ascii"))
        return {
            str(digest): FileFacts(int(pixels), int(largest), bool(stripped))
            for digest, (pixels, largest, stripped) in entries.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):  # absent or damaged: look again
        return {}
