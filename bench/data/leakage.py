"""Leakage: the same picture on both sides of a split, which makes a test score too good.

Exact copies have the same SHA-256 of the prepared pixels. Near copies (recompressed, scaled,
slightly cropped, brightened) have 64-bit perceptual hashes (`imagehash.phash`: the signs of the low
frequencies of a 32 × 32 DCT) that differ in few bits, and small grey versions that correlate.

The two limits were set on 397 photographs of insects: of all 78,606 unrelated pairs the nearest
hashes differ in 14 bits and the highest correlation is 0.79, while every recompressed, halved,
blurred or brightened copy and six in seven of those with 2 % cropped off each side are found.
Drawings with little detail (digits) may lie closer to each other than that.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from bench.data.copies import Copies, Pairs, copies_told, keep_copies, kept_copies
from bench.data.dataset import DataIssue, Pixels
from bench.data.images.channels import compared
from bench.data.images.prepared import ImageData
from bench.data.splits import Samples, Splits
from bench.system.download import OnProgress

FORMAT_VERSION = 1
"""Raise it with every change that alters what counts as a copy."""
NEAR_BITS = 8
NEAR_CORRELATION = 0.9
THUMBNAIL_SIDE = 32
MAX_NEAR_PAIRS = 100_000
ROWS, COLUMNS, CORRELATED_AT_ONCE = 256, 4096, 4096


def leakage(
    data: ImageData, splits: Sequence[Splits], *, progress: OnProgress | None = None
) -> list[DataIssue]:
    """Pairs of equal or nearly equal images that some of the `splits` put on different sides.

    Also what else `copies_told` tells. The search is made once per prepared data set and remembered
    beside its images; generated data is not searched.
    """
    if data.generated or not splits:
        return []
    original, near = _copies(data, progress)
    copies = Copies(
        original=original, near=near, noun="image", all_found=len(near) < MAX_NEAR_PAIRS
    )
    return copies_told(data, copies, splits)


def alike_pairs(data: ImageData, *, progress: OnProgress | None = None) -> Pairs:
    """Pairs of equal or nearly equal images, wherever they lie; of equal ones with the first."""
    if data.generated:
        return np.empty((0, 2), np.int64)
    original, near = _copies(data, progress)
    copies = np.flatnonzero(original != np.arange(len(original)))
    return np.concatenate([near, np.stack([original[copies], copies], axis=1)])


def _copies(data: ImageData, progress: OnProgress | None) -> tuple[Samples, Pairs]:
    """For each image the first one that equals it; and pairs of such first ones that are near."""
    path = data.folder / f"copies-{FORMAT_VERSION}.npz"
    known = kept_copies(path, len(data))
    if known is not None:
        return known
    original, hashes, thumbnails = _describe(data, progress)
    firsts = np.unique(original)
    near = firsts[near_pairs(hashes[firsts], thumbnails[firsts])]
    keep_copies(path, original, near)
    return original, near


def _describe(
    data: ImageData, progress: OnProgress | None
) -> tuple[Samples, npt.NDArray[np.uint64], Pixels]:
    """Per image: the first one with the same content, the perceptual hash, the small grey one."""
    hashes = np.empty(len(data), np.uint64)
    thumbnails = np.empty((len(data), THUMBNAIL_SIDE, THUMBNAIL_SIDE), np.uint8)
    original = np.empty(len(data), np.int64)
    first_with: dict[bytes, int] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for index, digest in enumerate(pool.map(_digest, data.images)):
            original[index] = first_with.setdefault(digest, index)
        hashed = pool.map(lambda image: perceptual_hash(compared(image, data.form)), data.images)
        for index, (value, thumbnail) in enumerate(hashed):
            hashes[index], thumbnails[index] = value, thumbnail
            if progress is not None:
                progress(f"compare {data.name}", index + 1, len(data))
    return original, hashes, thumbnails


def _digest(pixels: Pixels) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(pixels).data).digest()


def perceptual_hash(pixels: Pixels) -> tuple[np.uint64, Pixels]:
    """The 64-bit `imagehash.phash` of an RGB image, and the 32 × 32 grey image it is made of."""
    import imagehash
    from PIL import Image

    side = (THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    grey = Image.fromarray(pixels).convert("L").resize(side, Image.Resampling.LANCZOS)
    bits = imagehash.phash(grey).hash
    return np.packbits(bits).view(np.uint64)[0], np.asarray(grey)


def near_pairs(hashes: npt.NDArray[np.uint64], thumbnails: Pixels) -> Pairs:
    """All pairs of near copies, at most `MAX_NEAR_PAIRS`; compares block by block."""
    starts = range(0, len(hashes), ROWS)
    found: list[Pairs] = [np.empty((0, 2), np.int64)]
    total = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for pairs in pool.map(lambda start: _near_pairs_of_rows(hashes, thumbnails, start), starts):
            found.append(pairs)
            total += len(pairs)
            if total >= MAX_NEAR_PAIRS:
                pool.shutdown(cancel_futures=True)
                break
    return np.concatenate(found)[:MAX_NEAR_PAIRS]


def _near_pairs_of_rows(hashes: npt.NDArray[np.uint64], thumbnails: Pixels, start: int) -> Pairs:
    rows = hashes[start : start + ROWS, None]
    found = [np.empty((0, 2), np.int64)]
    for column in range(start, len(hashes), COLUMNS):
        bits = np.bitwise_count(rows ^ hashes[None, column : column + COLUMNS])
        pairs = np.argwhere(bits <= NEAR_BITS) + np.array([start, column])
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
        for some in range(0, len(pairs), CORRELATED_AT_ONCE):
            chunk = pairs[some : some + CORRELATED_AT_ONCE]
            alike = _correlation(thumbnails[chunk[:, 0]], thumbnails[chunk[:, 1]])
            found.append(chunk[alike >= NEAR_CORRELATION])
    return np.concatenate(found)


def _correlation(left: Pixels, right: Pixels) -> npt.NDArray[np.float32]:
    """Pearson's correlation of each left image with its right one; 0 where one is uniform."""
    a, b = (images.reshape(len(images), -1).astype(np.float32) for images in (left, right))
    a -= a.mean(1, keepdims=True)
    b -= b.mean(1, keepdims=True)
    norm = np.sqrt((a * a).sum(1) * (b * b).sum(1))
    alike: npt.NDArray[np.float32] = (a * b).sum(1) / np.maximum(norm, 1)
    return alike
