"""Groups that a data set does not name: in the names of files, in what cameras write, in copies.

Images of one patient or one scene on both sides of a split make an accuracy too good. Names can say
which belong together, and can mislead: what is only a suspicion is proposed in a comment.
"""

from __future__ import annotations

import io
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.data.dataset import Groups, naming
from bench.data.images.decode import with_image
from bench.errors import counted
from bench.runs.init.comments import short_name

if TYPE_CHECKING:
    from PIL import Image

WORDS = (
    "patient", "subject", "person", "individual", "animal", "participant", "case", "pat", "subj",
    "sub", "site", "hospital", "clinic", "camera", "cam", "location", "scene", "session", "lesion",
    "plate", "scanner", "video", "vid", "clip", "sequence", "seq", "slide", "specimen",
)  # fmt: skip
"""What is counted by a number behind it, as `patient_012`, and is no single image."""

LEAST_GROUPS = 5
"""Where nothing but equal parts of names speaks for groups; words speak for two already."""
LEAST_SHARED, MOST_OF_ONE = 0.5, 1 / 3
"""So large a part of the images shares its group with another; so large a part is in one group."""
LEAST_PAIRS, IN_GROUPS, BY_CHANCE = 5, 0.9, 0.2
"""Nearly equal images speak for groups where so many pairs are in them to such a part, and of
pairs of any images fewer than that are."""
LEAST_SETS = 3
SHOWN = 3

_SEPARATOR, _TOKEN = r"[_\-. ]", r"[^/_\-. ]+"

Pairs = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64]
SourceOf = Callable[[int], Path | io.BytesIO]
"""What Pillow opens of a sample."""


@dataclass(frozen=True, kw_only=True)
class Suspicion:
    """What may be groups: `pattern` finds them in the names of samples, `why` tells the evidence.

    What is `sure` is proposed for use, all else in a comment.
    """

    pattern: str
    why: str
    sure: bool

    def groups(self, sample_ids: Sequence[str]) -> Groups:
        """The group of each sample."""
        found = (re.search(self.pattern, sample) for sample in sample_ids)
        return tuple(match[1] for match in found if match is not None)


def in_names(sample_ids: Sequence[str], labels: Labels) -> Suspicion | None:
    """Groups that the names of samples speak of: a word with a number first, then equal parts."""
    for pattern, named in _patterns(sample_ids):
        found = [re.search(pattern, sample) for sample in sample_ids]
        groups = [match[1] for match in found if match is not None]
        if len(groups) == len(sample_ids) and _plausible(groups, labels, named=named):
            return Suspicion(pattern=pattern, why=_evidence(pattern, groups), sure=named)
    return None


def with_pairs(suspicion: Suspicion, sample_ids: Sequence[str], alike: Pairs) -> Suspicion:
    """The suspicion, surer where images that are nearly equal are in one group throughout."""
    if suspicion.sure or len(alike) < LEAST_PAIRS:
        return suspicion
    groups = suspicion.groups(sample_ids)
    inside = sum(groups[one] == groups[other] for one, other in alike.tolist())
    sizes = np.array([*Counter(groups).values()])
    by_chance = float((sizes**2).sum() / sizes.sum() ** 2)
    if inside < IN_GROUPS * len(alike) or by_chance > BY_CHANCE:
        return suspicion
    why = (
        f"{suspicion.why}; {inside:,} of {counted(len(alike), 'pair')} of nearly identical images "
        "are in one group"
    )
    return replace(suspicion, why=why, sure=True)


def _patterns(sample_ids: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Expressions that may find groups, and whether a word speaks for them."""
    for word in WORDS:
        word_number = rf"(?i)(?<![a-z])({word}s?(?:[_\-. ]?id)?)([_\-. ]*)\d+"
        spelt = {(m[1], m[2]) for s in sample_ids if (m := re.search(word_number, s)) is not None}
        if len(spelt) == 1:
            ((name, between),) = spelt
            yield rf"({re.escape(name)}{re.escape(between)}\d+)", True
    if any("/" in sample.partition("/")[2] for sample in sample_ids):
        yield r"([^/]+)/[^/]+$", False
    stems = (sample.rpartition("/")[2].rpartition(".")[0] for sample in sample_ids)
    least = min((len(re.findall(_TOKEN, stem)) for stem in stems), default=0)
    for number in range(1, least):
        more = rf"(?:{_SEPARATOR}+{_TOKEN}){{{number - 1}}}" if number > 1 else ""
        yield rf"(?:^|/)({_TOKEN}{more}){_SEPARATOR}+[^/]+\.\w+$", False


def _plausible(groups: Sequence[str], labels: Labels, *, named: bool) -> bool:
    """Whether these are groups of several images each, and not classes or one for each image."""
    sizes = Counter(groups)
    shared = sum(size for size in sizes.values() if size > 1)
    if len(sizes) < (2 if named else LEAST_GROUPS) or shared < LEAST_SHARED * len(groups):
        return False
    if not named and max(sizes.values()) > MOST_OF_ONE * len(groups):
        return False
    classes: dict[str, set[int]] = {}
    for group, label in zip(groups, labels.tolist(), strict=True):
        classes.setdefault(group, set()).add(label)
    one_each = all(len(own) == 1 for own in classes.values())
    return not (one_each and len(sizes) <= len(set(labels.tolist())))


def _evidence(pattern: str, groups: Sequence[str]) -> str:
    sizes = Counter(groups)
    smallest, largest = min(sizes.values()), max(sizes.values())
    span = f"{smallest:,}" if smallest == largest else f"{smallest:,} to {largest:,}"
    shown = naming([short_name(name) for name in sizes], at_most=SHOWN)
    return f"{counted(len(sizes), 'group')} of {span} images share a part of their names ({shown})"


# Cameras and days -----------------------------------------------------------------------------


def in_exif(
    source_of: SourceOf,
    places: Sequence[int],
    labels: Labels,
    classes: Sequence[str],
) -> str | None:
    """What the EXIF entries of some samples say of cameras and days; None where that is nothing."""
    taken = [_camera_and_day(source_of, place) for place in places]
    cameras = Counter(camera for camera, _ in taken if camera)
    days = Counter(day for _, day in taken if day)
    parts = []
    if len(cameras) > 1 and 2 * cameras.total() >= len(places) and min(cameras.values()) > 1:
        named = naming([f"{short_name(name)}: {count:,}" for name, count in cameras.most_common()])
        parts.append(f"{len(cameras)} cameras ({named})")
    if len(days) > 1 and 2 * days.total() >= len(places) and 2 * len(days) <= days.total():
        parts.append(counted(len(days), "day"))
    if not parts:
        return None
    told = "".join(_one_class(taken, places, labels, classes)) if len(cameras) > 1 else ""
    return (
        f"EXIF entries of {counted(len(places), 'image')} speak of {' and '.join(parts)}{told}. If "
        "images of one camera or one day belong together, a table of labels with a column `group` "
        "can say so."
    )


def _one_class(
    taken: Sequence[tuple[str, str]],
    places: Sequence[int],
    labels: Labels,
    classes: Sequence[str],
) -> Iterator[str]:
    """What is told where all images of a class are from a camera that took no others."""
    of_class: dict[int, set[str]] = {}
    of_camera: dict[str, set[int]] = {}
    for (camera, _), place in zip(taken, places, strict=True):
        of_class.setdefault(int(labels[place]), set()).add(camera)
        of_camera.setdefault(camera, set()).add(int(labels[place]))
    for label, cameras in of_class.items():
        (camera, *more) = cameras
        if not more and camera and of_camera[camera] == {label}:
            yield f"; {short_name(camera)} took all of {short_name(classes[label])} and no other"


def _camera_and_day(source_of: SourceOf, place: int) -> tuple[str, str]:
    """What the camera calls itself, with its number, and the day; empty where it does not say."""
    from PIL import ExifTags

    def read(image: Image.Image) -> tuple[str, str]:
        exif = image.getexif()
        details: Mapping[int, object] = exif.get_ifd(ExifTags.IFD.Exif)
        base = ExifTags.Base
        names = (exif.get(base.Make), exif.get(base.Model), details.get(base.BodySerialNumber))
        camera = " ".join(str(name).strip("\0 ") for name in names if name)
        day = str(details.get(base.DateTimeOriginal) or exif.get(base.DateTime) or "")[:10]
        return camera, day if re.fullmatch(r"\d{4}[:\-]\d\d[:\-]\d\d", day) else ""

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return with_image(source_of(place), read)
    except Exception:  # a damaged block says nothing, nor does what is no image
        return "", ""


# Copies ---------------------------------------------------------------------------------------


def in_copies(sample_ids: Sequence[str], alike: Pairs) -> str | None:
    """What sets of nearly identical images say; None for few of them."""
    first = list(range(len(sample_ids)))

    def root(index: int) -> int:
        while first[index] != index:
            first[index] = index = first[first[index]]
        return index

    for one, other in alike.tolist():
        first[root(other)] = root(one)
    sets: dict[int, list[str]] = {}
    for index, name in enumerate(sample_ids):
        sets.setdefault(root(index), []).append(name)
    several = [names for names in sets.values() if len(names) > 1]
    if len(several) < LEAST_SETS:
        return None
    one, other, *_ = map(short_name, several[0])
    return (
        f"{counted(len(several), 'set')} of nearly identical images ({sum(map(len, several)):,} "
        f"images; one has {one} and {other}). If they show one thing each, a table of labels with "
        "a column `group` can keep them together."
    )
