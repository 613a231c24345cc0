"""The data set `hf`: images of a Hugging Face data set, from a folder or by its name on the hub.

A folder is what `save_to_disk` of the package `datasets` writes. Images lie in it as bytes, or as
paths of files.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from bench.data.dataset import (
    DATASETS,
    NO_GROUPS,
    NO_TIMES,
    SPLIT_NAMES,
    SPLIT_NOTE,
    UNASSIGNED,
    DataIssue,
    Decoded,
    ImageDataset,
    fingerprint_of,
    naming,
    val_as_test_issue,
)
from bench.data.files import existing_folder, name_text
from bench.data.images.decode import decode_bytes, decode_file, with_image
from bench.data.images.file_hashes import file_hashes
from bench.data.images.sizes import square_sides
from bench.data.label_tables import Role, by_name, cell_texts, check_no_lists
from bench.data.layout import split_of_name
from bench.data.times import as_moment, microseconds
from bench.errors import BenchError, DataError, MissingExtraError, counted, nearest
from bench.system.cache import cache_root
from bench.system.download import OnProgress
from bench.system.visible_text import visible

if TYPE_CHECKING:
    from bench.data.dataset import Groups

Column = Literal["image", "label", "group", "time"]
NO_LABEL = -1
"""What `ClassLabel` says of a sample without a label."""
MAX_NAME = 100


@DATASETS.register("hf")
def hugging_face(
    progress: OnProgress | None,
    /,
    *,
    path: Annotated[
        str | None,
        Field(
            description="A folder that `save_to_disk` of the package `datasets` wrote; a relative "
            "path starts at the suite's folder.",
            examples=["beans"],
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        Field(
            description="The name of a data set on the hub, downloaded once into the cache; "
            "`hf:NAME` says the same.",
            examples=["AI-Lab-Makerere/beans"],
        ),
    ] = None,
    config: Annotated[
        str | None,
        Field(
            description="Which configuration of a data set on the hub. null: its only one, or the "
            "default.",
            examples=["full"],
        ),
    ] = None,
    revision: Annotated[
        str | None,
        Field(
            description="Which version of a data set on the hub: a commit, a branch or a tag. "
            "null: the newest.",
            examples=["main"],
        ),
    ] = None,
    splits: Annotated[
        dict[Literal["train", "val", "test"], str] | None,
        Field(
            description="Which split of the data set is which. null: by their names.",
            examples=[{"train": "train", "test": "validation"}],
        ),
    ] = None,
    columns: Annotated[
        dict[Column, str | None] | None,
        Field(
            description="Which column says what. What is not given is the only column of images, "
            "the only one of class labels, and recognised by names as those of a table are.",
            examples=[{"image": "img", "label": "fine_label"}],
        ),
    ] = None,
) -> ImageDataset:
    """A Hugging Face data set: a folder that `save_to_disk` wrote, or a name on the hub.

    Raises `DataError` where it cannot be read or downloaded, has no column of images or labels, or
    has other splits than named; `MissingExtraError` without the package `datasets`.
    """
    if (path is None) == (dataset is None):
        raise DataError("hf needs the path of a folder, or the name of a data set on the hub")
    if path is not None:
        root = existing_folder(path)
        opened, name = _from_disk(root), root.name
    else:
        assert dataset is not None
        root = cache_root() / "huggingface"
        opened, name = _from_hub(dataset, config, revision, root), dataset.rpartition("/")[2]
    with _told(name):
        return _open(name_text(name), root, opened, splits, columns or {}, progress)


def _library() -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(
            needed_for="the data set hf", package="datasets", extra="hf"
        ) from None
    return datasets


def _from_disk(root: Path) -> Mapping[str, Any]:
    library = _library()
    with _told(str(root)), _quiet(library):
        return _by_split(library.load_from_disk(str(root)))


def _from_hub(name: str, config: str | None, revision: str | None, root: Path) -> Mapping[str, Any]:
    library = _library()
    with _told(f"{name} (from the Hugging Face hub)"), _quiet(library):
        return _by_split(library.load_dataset(name, config, revision=revision, cache_dir=str(root)))


def _by_split(opened: Any) -> Mapping[str, Any]:
    """The parts by their names; without splits one whose name is empty."""
    return dict(opened) if isinstance(opened, dict) else {"": opened}


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Whatever goes wrong is one message: the package and Arrow raise almost anything."""
    try:
        yield
    except (BenchError, MemoryError):
        raise
    except Exception as error:
        reason = visible(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise DataError(f"cannot read the data set {what}: {reason}") from error


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without the package's own bars of progress."""
    shown = library.are_progress_bars_disabled()
    library.disable_progress_bars()
    try:
        yield
    finally:
        if not shown:
            library.enable_progress_bars()


# Parts ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """A row of a part that has a label."""

    part: str
    row: int
    split: int
    label: str
    group: str
    time: str


def _open(
    name: str,
    root: Path,
    opened: Mapping[str, Any],
    splits: Mapping[Any, str] | None,
    given: Mapping[Column, str | None],
    progress: OnProgress | None,
) -> ImageDataset:
    codes, issues = _splits(name, opened, splits)
    first = opened[next(iter(codes))]
    chosen = _columns(name, first, given)
    issues += _taken(name, first, chosen)
    parts = {part: _Part.of(opened[part], chosen["image"]) for part in codes}
    samples: list[_Sample] = []
    left: list[str] = []
    for part, code in codes.items():
        found, without = _samples(name, part, code, opened[part], chosen)
        samples += found
        left += without
    if left:
        message = f"{counted(len(left), 'row')} left out (no label): {naming(left)}."
        issues.append(DataIssue(kind="unlabelled", message=message, count=len(left)))
    classes = _classes(name, first.features[chosen["label"]], samples)
    numbers = {label: number for number, label in enumerate(classes)}
    labels = np.array([numbers[sample.label] for sample in samples], np.int64)
    split_codes = np.array([sample.split for sample in samples], np.int8)
    images = _Images(root=root, parts=parts, samples=tuple(samples))
    names = tuple(images.name(index) for index in range(len(samples)))
    contents = partial(_contents, root, opened, images)
    fingerprint = partial(
        fingerprint_of, classes=classes, sample_ids=names, labels=labels, splits=split_codes
    )
    groups, times, more = _grouping(samples)
    sides = square_sides(range(len(samples)), images.size)
    return ImageDataset(
        name=name,
        classes=classes,
        sample_ids=names,
        labels=labels,
        splits=split_codes,
        fingerprint=fingerprint(contents=contents(progress)),
        native_size=min(sides) if len(sides) == 1 else None,
        squares=bool(sides),
        read=images.read,
        issues=(*issues, *more, *val_as_test_issue(split_codes)),
        size_of=images.size,
        source_of=images.source,
        groups=groups,
        times=times,
        current=lambda: fingerprint(contents=contents(None)),
    )


def _splits(
    name: str, opened: Mapping[str, Any], given: Mapping[Any, str] | None
) -> tuple[dict[str, int], list[DataIssue]]:
    """The parts that are used, each with its split."""
    if given is not None:
        codes = {part: code for code, part in SPLIT_NAMES.items()}
        strange = [part for part in given.values() if part not in opened]
        if strange:
            raise DataError(
                f"splits must name splits of {name}, got {strange[0]!r}"
                f"{nearest(strange[0], opened)}"
            )
        found = {part: codes[split] for split, part in given.items()}
        if len(found) < len(given):
            raise DataError(f"splits must name different splits of {name}, got {dict(given)}")
    elif len(opened) == 1:
        return dict.fromkeys(opened, UNASSIGNED), []
    else:
        named = {part: split_of_name(part) for part in opened}
        found = {part: code for part, code in named.items() if code in SPLIT_NAMES}
        twice = [part for part, code in found.items() if [*found.values()].count(code) > 1]
        if twice or not found:
            raise DataError(
                f"the splits of {name} ({naming(list(opened))}) can be taken in several ways; say "
                "which is which, as an option of the data set: `splits: {train: …, test: …}`"
            )
    unused = [part for part in opened if part not in found]
    issues = []
    if unused:
        message = f"{counted(len(unused), 'split')} of {name} not used: {naming(unused)}."
        issues.append(DataIssue(kind=SPLIT_NOTE, message=message, count=len(unused)))
    return found, issues


def _columns(name: str, part: Any, given: Mapping[Column, str | None]) -> dict[Column, str]:
    """Which column says what; raises `DataError` where image or label cannot be known."""
    library = _library()
    there: Sequence[str] = part.column_names
    chosen: dict[Column, str] = {}
    for role, column in given.items():
        if column is not None and column not in there:
            raise DataError(
                f"columns: {role} must name a column of {name}, got {column!r}"
                f"{nearest(column, there)}"
            )
        if column is not None:
            chosen[role] = column
    kinds: Mapping[Column, Any] = {"image": library.Image, "label": library.ClassLabel}
    for role, kind in kinds.items():
        if role in chosen:
            continue
        found = [column for column in there if isinstance(part.features[column], kind)]
        if role == "label" and not found:
            found = by_name("label", there)
        if len(found) != 1:
            what = "no column" if not found else f"{len(found)} columns ({naming(found)})"
            raise DataError(
                f"{name} has {what} that may be the {role}; its columns are "
                f"{naming(list(there), at_most=20)}. Say which one it is, as an option of the data "
                f"set: `columns: {{{role}: COLUMN}}`"
            )
        chosen[role] = found[0]
    if not isinstance(part.features[chosen["image"]], library.Image):
        raise DataError(f"column {chosen['image']!r} of {name} has no images")
    optional: Sequence[tuple[Column, Role]] = (("group", "group"), ("time", "time"))
    for role, known in optional:
        rest = [column for column in there if column not in chosen.values()]
        if role not in given and len(fitting := by_name(known, rest)) == 1:
            chosen[role] = fitting[0]
    return chosen


def _taken(name: str, part: Any, chosen: Mapping[Column, str]) -> list[DataIssue]:
    """Which column was taken for what, unless each has the name of its role and none is left."""
    unused = [column for column in part.column_names if column not in chosen.values()]
    told = [f"{role} from {visible(column)!r}" for role, column in chosen.items() if role != column]
    parts = [f"{name} has {', '.join(told)}"] if told else []
    if unused:
        parts.append(f"{counted(len(unused), 'column')} not used: {naming(unused, at_most=10)}")
    return [DataIssue(kind="table", message=f"{'; '.join(parts)}.", count=1)] if parts else []


def _samples(
    name: str, part: str, split: int, rows: Any, chosen: Mapping[Column, str]
) -> tuple[list[_Sample], list[str]]:
    """The rows that have a label, and the others by their numbers."""

    def cells(role: Column) -> list[str]:
        column = chosen.get(role)
        return [""] * len(rows) if column is None else cell_texts(Path(name), column, rows[column])

    column = chosen["label"]
    feature = rows.features[column]
    names = getattr(feature, "names", None)
    if names is None:
        labels = cells("label")
        mend = "`columns: {label: COLUMN}`, as an option of the data set, names another column"
        check_no_lists(Path(name), column, labels, mend=mend)
    else:
        labels = [
            "" if label is None or label == NO_LABEL else names[label] for label in rows[column]
        ]
    samples, without = [], []
    for row, (label, group, time) in enumerate(
        zip(labels, cells("group"), cells("time"), strict=True)
    ):
        if label:
            samples.append(
                _Sample(part=part, row=row, split=split, label=label, group=group, time=time)
            )
        else:
            without.append(f"{part or 'row'} {row}")
    return samples, without


def _classes(name: str, feature: Any, samples: Sequence[_Sample]) -> tuple[str, ...]:
    """Those that are used: in their order, numbers by size, else by name."""
    used = {sample.label for sample in samples}
    names = getattr(feature, "names", None)
    if names is not None:
        classes = [label for label in names if label in used]
    else:
        whole = all(label.lstrip("-").isdigit() for label in used)
        classes = sorted(used, key=int) if whole else sorted(used)
    if len(classes) < 2:
        raise DataError(f"a classification task needs at least two classes, {name} has "
                        f"{naming(classes) or 'none'}")  # fmt: skip
    if 2 * len(classes) > len(samples):
        raise DataError(
            f"{counted(len(classes), 'different label')} of {counted(len(samples), 'row')} of "
            f"{name} are no classes; `columns: {{label: COLUMN}}`, as an option of the data set, "
            "names another column"
        )
    return tuple(classes)


def _grouping(
    samples: Sequence[_Sample],
) -> tuple[Groups | None, np.ndarray[Any, np.dtype[np.int64]] | None, list[DataIssue]]:
    """Groups and times where every sample has them."""
    issues = []
    groups: Groups | None = tuple(sample.group for sample in samples)
    moments = [as_moment(sample.time) for sample in samples]
    without = sum(not sample.group for sample in samples)
    untimed = sum(moment is None for moment in moments)
    if without:
        groups = None
        if without < len(samples):
            message = f"The groups are not taken, {counted(without, 'row')} without one."
            issues.append(DataIssue(kind=NO_GROUPS, message=message, count=without))
    if untimed:
        if any(sample.time for sample in samples):
            message = f"The times are not taken, {counted(untimed, 'row')} without a date."
            issues.append(DataIssue(kind=NO_TIMES, message=message, count=untimed))
        return groups, None, issues
    times = [microseconds(moment) for moment in moments if moment is not None]
    return groups, np.array(times, np.int64), issues


# Images ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The images of a part: `rows` have them as bytes, or name a file (`paths`)."""

    rows: Any
    column: str
    paths: Sequence[str | None]
    inside: Sequence[bool]

    @classmethod
    def of(cls, rows: Any, column: str) -> _Part:
        """What of the images can be known without reading them."""
        import pyarrow.compute as pc

        undecoded = rows.select_columns([column]).cast_column(
            column, _library().Image(decode=False)
        )
        values = undecoded.with_format("arrow")[:].column(column)
        return cls(
            rows=undecoded,
            column=column,
            paths=pc.struct_field(values, "path").to_pylist(),
            inside=pc.is_valid(pc.struct_field(values, "bytes")).to_pylist(),
        )

    def content(self, row: int) -> bytes:
        """The bytes of an image that is inside."""
        found: bytes = self.rows[row][self.column]["bytes"]
        return found


@dataclass(frozen=True, kw_only=True)
class _Images:
    """The images of samples."""

    root: Path
    parts: Mapping[str, _Part]
    samples: tuple[_Sample, ...]

    def name(self, index: int) -> str:
        """A name that says split and row, and that of the file if it has one."""
        sample = self.samples[index]
        path = self.parts[sample.part].paths[sample.row]
        file = f" {name_text(os.path.basename(path))[:MAX_NAME]}" if path else ""
        return f"{sample.part or 'all'}/{sample.row:06}{file}"

    def read(self, indices: Sequence[int]) -> list[Decoded]:
        """Decoded images."""
        return [self._decoded(index) for index in indices]

    def _decoded(self, index: int) -> Decoded:
        source = self.source(index)
        if isinstance(source, Path):
            return decode_file(source)
        name = self.parts[self.samples[index].part].paths[self.samples[index].row]
        return decode_bytes(source.getvalue(), os.path.basename(name or ""))

    def source(self, index: int) -> Path | io.BytesIO:
        """The content of an image, empty where there is none, or the file that has it."""
        sample = self.samples[index]
        part = self.parts[sample.part]
        path = part.paths[sample.row]
        if part.inside[sample.row]:
            return io.BytesIO(part.content(sample.row))
        return self.root / path if path else io.BytesIO()

    def size(self, index: int) -> tuple[int, int] | None:
        """Width and height in pixels, by the header."""
        try:
            return with_image(self.source(index), lambda image: image.size)
        except Exception:  # decoding tells of it
            return None

    def files(self) -> Iterator[Path]:
        """The files that lie outside of the data set."""
        for sample in self.samples:
            part = self.parts[sample.part]
            path = part.paths[sample.row]
            if path and not part.inside[sample.row]:
                yield self.root / path


def _contents(
    root: Path, opened: Mapping[str, Any], images: _Images, progress: OnProgress | None
) -> list[str]:
    """What tells the contents of all samples: hashes of the files that hold them."""
    tables = [Path(each["filename"]) for part in images.parts for each in opened[part].cache_files]
    files = [*tables, *images.files()]
    return file_hashes(root, files, progress=progress)
