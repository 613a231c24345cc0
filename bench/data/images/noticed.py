"""What decoded pixels say of a data set: images of one colour, of little range, without colours.

Decoding succeeds on files that came out black, on blank pages and on channels that a camera or a
conversion lost.
Nobody looks at thousands of images, so each is looked at once, when it is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import isqrt
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from bench.data.dataset import MAX_KEPT, DataIssue, Pixels, naming
from bench.errors import counted

VERSION = 2
"""Raise it with every change that alters what is noticed: prepared images are looked at again."""

UNIFORM = 2.0
"""Standard deviation of a channel, of 255 levels, below which it hardly varies."""
FAINT = 5.0
"""The same where most images of a set have it so: what lossy files leave of a channel without
content. Of 396 photographs of insects one has a channel below it, a red flower."""
VARIES = 4.0
"""How many times as much another channel must vary for one that hardly does to be strange."""
NARROW = 64
"""Levels of 255: an image whose values span fewer is dull, or dark throughout."""
EQUAL = 2
"""Levels by which equal channels may differ: lossy files round them apart."""
OUTLIERS = 10_000
"""One in so many values at each end says nothing of the range: hot pixels, specks."""
LOOKED_AT = 1 << 14
"""Pixels of an image, about, that are looked at, evenly spread."""
NAMED = 5
MOST, FEW = 0.9, 0.1
"""Shares of grey images in two classes that a network can tell apart by that alone."""

COLOURS = ("red", "green", "blue")


class Look(NamedTuple):
    """What is seen of an image; `deviations` are standard deviations of its channels."""

    deviations: tuple[float, ...]
    lowest: int
    highest: int
    grey: bool

    @property
    def uniform(self) -> bool:
        """Whether it shows nothing."""
        return max(self.deviations) < UNIFORM

    def lacks(self, channel: int, at_most: float) -> bool:
        """Whether a channel varies by less than `at_most` while others do by much more."""
        own = self.deviations[channel]
        return own < at_most and max(self.deviations) >= VARIES * max(own, UNIFORM)

    @property
    def narrow(self) -> bool:
        """Whether it spans few levels, and still shows something."""
        return not self.uniform and self.highest - self.lowest < NARROW


def look_at(pixels: Pixels) -> Look:
    """Look at one decoded image, uint8 [height, width, channels]."""
    step = max(1, isqrt(pixels.shape[0] * pixels.shape[1] // LOOKED_AT))
    channels = pixels[::step, ::step].reshape(-1, pixels.shape[2]).T
    counts = np.stack([np.bincount(channel, minlength=256) for channel in channels])
    lowest, highest = _range(counts.sum(axis=0))
    apart = np.abs(channels[1:].astype(np.int16) - channels[:-1]).max(initial=0)
    deviations = tuple(_deviations(counts).tolist())
    grey = len(channels) == len(COLOURS) and bool(apart <= EQUAL)
    return Look(deviations, lowest, highest, grey)


def _deviations(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The standard deviation of each channel, from its histogram."""
    levels, total = np.arange(256), counts.sum(axis=1)
    mean = counts @ levels / total
    variances: npt.NDArray[np.float64] = np.maximum(counts @ levels**2 / total - mean**2, 0)
    return np.sqrt(variances)


def _range(counts: npt.NDArray[np.int64]) -> tuple[int, int]:
    """Lowest and highest value, but for outliers."""
    below, total = np.cumsum(counts), counts.sum()
    allowed = total // OUTLIERS
    lowest = int(np.searchsorted(below, allowed, side="right"))
    return lowest, int(np.searchsorted(below, total - allowed, side="left"))


def noticed(
    looks: Sequence[Look],
    sample_ids: Sequence[str],
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
) -> Iterator[DataIssue]:
    """What is to be told of these images; all sequences are in their order."""

    def found(holds: Callable[[Look], object]) -> list[int]:
        return [index for index, look in enumerate(looks) if holds(look)]

    def issue(kind: str, what: str, indices: Sequence[int], shown: Sequence[str]) -> DataIssue:
        samples = tuple(sample_ids[index] for index in indices[:MAX_KEPT])
        message = f"{what}: {naming(shown)}."
        return DataIssue(kind=kind, message=message, count=len(indices), samples=samples)

    if uniform := found(lambda look: look.uniform):
        what = f"{_are(uniform)} nearly of one colour, with values that hardly vary"
        yield issue("uniform", what, uniform, [sample_ids[index] for index in uniform])
    if narrow := found(lambda look: look.narrow):
        shown = [
            f"{sample_ids[index]} ({looks[index].lowest} to {looks[index].highest})"
            for index in narrow
        ]
        what = f"{_are(narrow)} low in contrast: the values span less than a quarter of 0 to 255"
        yield issue("narrow-range", what, narrow, shown)
    count = len(looks[0].deviations) if looks else 0
    names = [f"channel {number}" for number in range(1, count + 1)]
    if count == len(COLOURS):
        names = [f"a {colour} channel" for colour in COLOURS]
    for channel, name in enumerate(names):
        if dead := _without(channel, looks):
            what = f"{_are(dead)} without {name}: its values are nearly constant"
            yield issue("dead-channel", what, dead, [sample_ids[index] for index in dead])
    grey = found(lambda look: look.grey and not look.uniform)
    if grey:
        yield _grey_issue(grey, len(looks), sample_ids, labels, classes)


def _without(channel: int, looks: Sequence[Look]) -> list[int]:
    """The images that lack a channel."""
    faint = [index for index, look in enumerate(looks) if look.lacks(channel, FAINT)]
    if 2 * len(faint) > len(looks):
        return faint
    return [index for index in faint if looks[index].lacks(channel, UNIFORM)]


def _grey_issue(
    grey: Sequence[int],
    count: int,
    sample_ids: Sequence[str],
    labels: npt.NDArray[np.int64],
    classes: Sequence[str],
) -> DataIssue:
    if len(grey) == count:
        message = f"All {counted(count, 'image')} are grey: their three channels are equal."
    else:
        named = naming([sample_ids[index] for index in grey])
        message = (
            f"{_are(grey)} grey, the other {count - len(grey)} in colour: {named}."
            f"{_telling(grey, labels, classes)}"
        )
    samples = tuple(sample_ids[index] for index in grey[:NAMED])
    return DataIssue(kind="grey", message=message, count=len(grey), samples=samples)


def _telling(grey: Sequence[int], labels: npt.NDArray[np.int64], classes: Sequence[str]) -> str:
    """A sentence if being grey gives classes away."""
    total = np.bincount(labels, minlength=len(classes))
    own = np.bincount(labels[list(grey)], minlength=len(classes))
    share = own / np.maximum(total, 1)
    most, least = int(share.argmax()), int(np.where(total > 0, share, 2).argmin())
    if share[most] < MOST or share[least] > FEW:
        return ""
    first, second = (
        f"{own[label]} of {total[label]} images of {classes[label]}" for label in (most, least)
    )
    return f" They are {first} and {second}: a network can tell these classes by that alone."


def _are(indices: Sequence[int]) -> str:
    return f"{counted(len(indices), 'image')} {'is' if len(indices) == 1 else 'are'}"
