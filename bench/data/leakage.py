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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.data.dataset import MAX_KEPT, DataIssue, Pixels, label_text, target_task_of
from bench.data.images.channels import compared
from bench.data.images.prepared import ImageData
from bench.data.splits import Samples, Splits
from bench.errors import counted
from bench.system.cache import atomic_file
from bench.system.download import OnProgress

FORMAT_VERSION = 1
"""Raise it with every change that alters what counts as a copy."""
NEAR_BITS = 8
NEAR_CORRELATION = 0.9
THUMBNAIL_SIDE = 32
MAX_NEAR_PAIRS = 100_000
MAX_COPIES = 50
"""Near copies of a picture are paired with so many of its exact copies at most."""
ROWS, COLUMNS, CORRELATED_AT_ONCE = 256, 4096, 4096
NAMED_PAIRS = 5

Pairs = npt.NDArray[np.int64]
"""[m, 2]: indices of two images, the smaller one first."""


def leakage(
    data: ImageData, splits: Sequence[Splits], *, progress: OnProgress | None = None
) -> list[DataIssue]:
    """Pairs of equal or nearly equal images that some of the `splits` put on different sides.

    Where there are several test sets, it says of each how many of its pairs there are. Also tells
    of equal images with different labels (kind "label-conflict"), and of nearly equal ones
    ("label-conflict-near"), wherever they lie.
    The search is made once per prepared data set and remembered beside its images; generated data
    is not searched.
    """
    if data.generated or not splits:
        return []
    original, near = _copies(data, progress)
    pairs = _with_copies(original, near)
    assigned = np.stack([_assignment(each, len(data)) for each in splits])
    return [
        *_by_set(data, original, pairs, assigned, all_found=len(near) < MAX_NEAR_PAIRS),
        *_conflict_issue(data, original),
        *_near_conflict_issue(data, pairs),
    ]


def _by_set(
    data: ImageData,
    original: Samples,
    pairs: Pairs,
    assigned: npt.NDArray[np.int8],
    *,
    all_found: bool,
) -> Iterator[DataIssue]:
    """What crosses a split; of several test sets with how much of it each has beside training."""

    def crossing(assigned: npt.NDArray[np.int8]) -> Iterator[DataIssue]:
        yield from _exact_issue(data, original, assigned)
        yield from _near_issue(data, pairs, assigned, all_found=all_found)

    issues = list(crossing(assigned))
    counts: dict[str, dict[str, int]] = {}
    if issues and data.test_sets is not None:
        sets = np.array(data.test_sets, dtype=object)
        for name in sorted({each for each in data.test_sets if each}):
            train, own = (assigned >= 0) & (assigned < 2), (assigned == 2) & (sets == name)
            for issue in crossing(np.where(own, 2, np.where(train, 0, -1)).astype(np.int8)):
                counts.setdefault(issue.kind, {})[name] = issue.count
    for issue in issues:
        own_counts = counts.get(issue.kind, {})
        told = ", ".join(f"{name} {count:,}" for name, count in own_counts.items())
        more = (
            f" Of these between test sets and what is trained or chosen by: {told}." if told else ""
        )
        yield replace(issue, message=f"{issue.message}{more}")


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
    known = _load(path, len(data))
    if known is not None:
        return known
    original, hashes, thumbnails = _describe(data, progress)
    firsts = np.unique(original)
    near = firsts[near_pairs(hashes[firsts], thumbnails[firsts])]
    # Where it cannot be kept, the next run looks again.
    with suppress(OSError), atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, original=original, near=near)
    return original, near


def _load(path: Path, count: int) -> tuple[Samples, Pairs] | None:
    try:
        with path.open("rb") as file, np.load(file) as stored:
            original, near = stored["original"], stored["near"]
    except Exception:  # absent or damaged: of such files NumPy raises almost anything
        return None
    fits = original.shape == (count,) and near.ndim == 2 and near.shape[1] == 2
    return (original, near) if fits else None


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


def _assignment(splits: Splits, count: int) -> npt.NDArray[np.int8]:
    """Which split each image is in (0, 1, 2 for train, val, test), -1 for none."""
    assigned = np.full(count, -1, np.int8)
    for code, indices in enumerate(splits.named().values()):
        assigned[indices] = code
    return assigned


def _crosses(a: npt.NDArray[np.int8], b: npt.NDArray[np.int8]) -> npt.NDArray[np.bool_]:
    """Whether any trial (first axis) has both in use and on different sides."""
    crosses: npt.NDArray[np.bool_] = ((a != b) & (a >= 0) & (b >= 0)).any(axis=0)
    return crosses


def _groups(original: Samples) -> list[Samples]:
    """The indices of each set of equal images, of two at least."""
    order = np.argsort(original, kind="stable")
    bounds = np.flatnonzero(np.diff(original[order])) + 1
    return [group for group in np.split(order, bounds) if len(group) > 1]


def _exact_issue(
    data: ImageData, original: Samples, assigned: npt.NDArray[np.int8]
) -> Iterator[DataIssue]:
    count, examples = 0, []
    for group in _groups(original):
        kinds, kind_of, sizes = np.unique(
            assigned[:, group], axis=1, return_inverse=True, return_counts=True
        )
        crosses = _crosses(kinds[:, :, None], kinds[:, None, :])
        count += int(sizes @ crosses @ sizes) // 2
        some = np.concatenate(
            [group[kind_of.reshape(-1) == k][:NAMED_PAIRS] for k in range(len(sizes))]
        )
        among = assigned[:, np.sort(some)]
        pairs = np.argwhere(np.triu(_crosses(among[:, :, None], among[:, None, :])))
        examples += list(np.sort(some)[pairs])
    if count:
        what = f"{counted(count, 'pair')} of identical images"
        yield _pair_issue(data, "leakage-exact", what, count, examples, assigned)


def _with_copies(original: Samples, near: Pairs) -> Pairs:
    """The near pairs of all images, where `near` has those of the first of equal ones."""
    copies = {int(group[0]): group[:MAX_COPIES] for group in _groups(original)}
    return np.array(
        [
            (i, j)
            for left, right in near.tolist()
            for i in copies.get(left, (left,))
            for j in copies.get(right, (right,))
        ],
        np.int64,
    ).reshape(-1, 2)


def _near_issue(
    data: ImageData, pairs: Pairs, assigned: npt.NDArray[np.int8], *, all_found: bool
) -> Iterator[DataIssue]:
    pairs = pairs[_crosses(assigned[:, pairs[:, 0]], assigned[:, pairs[:, 1]])]
    if len(pairs):
        at_least = "" if all_found else "At least "
        what = f"{at_least}{counted(len(pairs), 'pair')} of nearly identical images"
        yield _pair_issue(data, "leakage-near", what, len(pairs), list(pairs), assigned)


def _pair_issue(
    data: ImageData,
    kind: str,
    what: str,
    count: int,
    examples: Sequence[Samples],
    assigned: npt.NDArray[np.int8],
) -> DataIssue:
    named = examples[:NAMED_PAIRS]
    shown = ", ".join(_shown_pair(data, pair, assigned) for pair in named)
    return DataIssue(
        kind=kind,
        message=f"{what} on different sides of a split, for example {shown}.",
        count=count,
        samples=tuple(data.sample_ids[index] for pair in named for index in pair),
    )


def _shown_pair(data: ImageData, pair: Samples, assigned: npt.NDArray[np.int8]) -> str:
    trial = int(np.argmax([_crosses(*row[pair][:, None, None]) for row in assigned]))
    names = ("train", "val", "test")
    left, right = (f"{data.sample_ids[index]} ({names[assigned[trial, index]]})" for index in pair)
    return f"{left} and {right}"


def _conflict_issue(data: ImageData, original: Samples) -> Iterator[DataIssue]:
    labels = _labels(data)
    conflicts = [group for group in _groups(original) if len(np.unique(labels[group])) > 1]
    if not conflicts:
        return
    pairs = []
    for group in conflicts[:MAX_KEPT]:
        _, first = np.unique(labels[group], return_index=True)
        pairs.append(group[first[:2]])
    what = f"{counted(len(conflicts), 'image')} under different labels"
    yield _labelled_pairs(data, "label-conflict", what, len(conflicts), pairs)


def _labels(data: ImageData) -> npt.NDArray[np.int64]:
    """Equal numbers where the same is said of samples."""
    if data.targets is None:
        return data.labels
    _, found = np.unique(data.targets.values, axis=0, return_inverse=True)
    return found.reshape(-1).astype(np.int64)


def _near_conflict_issue(data: ImageData, pairs: Pairs) -> Iterator[DataIssue]:
    labels = _labels(data)
    conflicts = pairs[labels[pairs[:, 0]] != labels[pairs[:, 1]]]
    if len(conflicts) and target_task_of(data) != "regression":  # where near may differ a little
        pairs_of = f"{counted(len(conflicts), 'pair')} of nearly identical images"
        kept = list(conflicts[:MAX_KEPT])
        what = f"{pairs_of} under different labels"
        yield _labelled_pairs(data, "label-conflict-near", what, len(conflicts), kept)


def _labelled_pairs(
    data: ImageData, kind: str, what: str, count: int, pairs: Sequence[Samples]
) -> DataIssue:
    shown = ", ".join(
        " and ".join(f"{data.sample_ids[i]} ({label_text(data, int(i))})" for i in pair)
        for pair in pairs[:NAMED_PAIRS]
    )
    return DataIssue(
        kind=kind,
        message=f"{what}, for example {shown}.",
        count=count,
        samples=tuple(data.sample_ids[index] for pair in pairs for index in pair),
    )
