"""The data set `table`: image files that a table names, with a label in every row.

A path in a table that begins with `~` starts at the home folder, a relative one at the folder of
the table, or at `root`, which may be an archive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import Field

from bench.data.archives import StoredFile
from bench.data.dataset import (
    DATASETS,
    SPLIT_NAMES,
    UNASSIGNED,
    DataIssue,
    ImageDataset,
    naming,
    val_as_test_issue,
)
from bench.data.files import existing_file, name_text, reading_errors_told
from bench.data.images.channels import ChannelNumber, suffixes_of
from bench.data.images.files import dataset_from_files
from bench.data.images.table_files import Files, files_from
from bench.data.label_tables import Role, open_table
from bench.data.samples import LabelledFile
from bench.data.table_rows import (
    Row,
    RowKind,
    check_splits,
    classified,
    left_out,
    of_target,
    rows_of,
    samples_of,
)
from bench.data.table_targets import Outputs, outputs_of
from bench.errors import DataError, counted
from bench.system.download import OnProgress
from bench.system.visible_text import visible

ROWS = RowKind(content="path", noun="image")

Column = Literal["path", "label", "split", "group", "time", "weight"]
"""What a column says of an image."""

Located = tuple[Row, StoredFile]
"""A row and the file that it names."""


@DATASETS.register("table")
def table(
    progress: OnProgress | None,
    /,
    *,
    path: Annotated[
        str | dict[Literal["train", "val", "test"], str],
        Field(
            description="A table of labels (.csv, .tsv, .jsonl, .parquet), or one for each split; "
            "a relative path starts at the suite's folder.",
            examples=["labels.csv", {"train": "train.csv", "test": "test.csv"}],
        ),
    ],
    columns: Annotated[
        dict[Column, str | None] | None,
        Field(
            description="Which column says what; `split: null` takes no column for it. What is "
            "not given is recognised by the names of the columns, and told.",
            examples=[{"path": "file", "label": "dx", "group": "patient"}],
        ),
    ] = None,
    root: Annotated[
        str | None,
        Field(
            description="The folder, or zip or tar archive, where relative paths in the table "
            "start; itself relative to the suite's folder. null: the table's folder.",
            examples=["photos", "photos.zip"],
        ),
    ] = None,
    bits: Annotated[
        Annotated[int, Field(ge=8, le=16)] | None,
        Field(
            description="How many bits the values of 16-bit files really have, as of `folder`.",
            examples=[12],
        ),
    ] = None,
    channels: ChannelNumber = None,
    target: Annotated[
        str | list[str] | None,
        Field(
            description="For `task: regression`: the column with the number to predict, or "
            "several. Rows without one are left out, and told.",
            examples=["age", ["x", "y"]],
        ),
    ] = None,
    labels: Annotated[
        str | list[str] | None,
        Field(
            description="For `task: multi_label`: the column with the labels of an image, as names "
            'with | or ; between them or a JSON list such as `["cat","dog"]`, or a list of '
            "columns, one for each label, of 1 and 0.",
            examples=["tags", ["cat", "dog"]],
        ),
    ] = None,
) -> ImageDataset:
    """Image files named by a table of labels, with splits, groups and times if it has them.

    Raises `DataError` where a table or all of its files are missing, where a column cannot be
    known, where rows contradict each other, if a class has no image in one of the splits, and for
    what is no number, or no label, where that is what the table is to say.
    """
    return _opened(
        progress, path=path, columns=columns, root=root, bits=bits, channels=channels,
        target=target, labels=labels,
    )  # fmt: skip


def target_table(
    progress: OnProgress | None, classes: Sequence[str], /, **options: Any
) -> ImageDataset:
    """A table of target data, whose images need labels in the test split alone.

    `options` are those of `table`, which raises as this does; `classes` are those of the data set
    that trains.
    """
    return _opened(progress, **options, target_classes=classes)


def _opened(
    progress: OnProgress | None,
    *,
    path: str | Mapping[Any, str],
    columns: Mapping[Any, str | None] | None,
    root: str | None,
    bits: int | None,
    channels: int | None,
    target: str | list[str] | None,
    labels: str | list[str] | None,
    target_classes: Sequence[str] | None = None,
) -> ImageDataset:
    outputs = outputs_of(target, labels)
    if outputs is not None and (columns or {}).get("label") is not None:
        raise DataError(
            "columns: label names the class of an image, and target or labels what else is "
            "predicted: give one of them"
        )
    given = cast(Mapping[Role, str | None], columns or {})
    if isinstance(path, str):
        paths: Mapping[int, Path] = {UNASSIGNED: existing_file(path)}
    else:
        codes = {name: code for code, name in SPLIT_NAMES.items()}
        if "train" not in path or len(path) < 2:
            raise DataError(f"path must name a table, or those of train and test, got {path}")
        paths = {codes[name]: existing_file(own) for name, own in path.items()}
    with reading_errors_told("the table"):
        places = files_from(paths.values(), root, suffixes_of(channels))
        return _open_tables(paths, given, outputs, places, bits, channels, progress, target_classes)


def _open_tables(
    paths: Mapping[int, Path],
    given: Mapping[Role, str | None],
    outputs: Outputs | None,
    places: Mapping[Path, Files],
    bits: int | None,
    channels: int | None,
    progress: OnProgress | None,
    target_classes: Sequence[str] | None,
) -> ImageDataset:
    rows: list[Row] = []
    issues: list[DataIssue] = []
    for split, path in paths.items():
        found, told = rows_of(
            open_table(path), ROWS, split, given, outputs, labelled=target_classes is None
        )
        rows += found
        issues += told
    located, more = _located(rows, places)
    issues += more
    located, same = _distinct(located)
    issues += same
    first = next(iter(paths.values()))
    rows = [row for row, _ in located]
    if target_classes is None:
        rows, classes, spelt = classified(rows, outputs)
        issues += spelt
    else:
        rows, classes = of_target(rows, target_classes), tuple(target_classes)
    samples, left = samples_of(rows)
    if target_classes is None:
        check_splits(samples, classes if outputs is None else None, ROWS, first)
    files = [
        LabelledFile(path=file, **vars(sample))
        for (_, file), sample in zip(located, samples, strict=True)
    ]
    splits = np.array([file.split for file in files], np.int8)
    return dataset_from_files(
        name=name_text(first.stem if len(paths) == 1 else first.parent.name),
        root=places[first].root(file.path for file in files),
        files=files,
        classes=classes,
        task="classification" if outputs is None else outputs.task,
        bits=bits,
        channels=channels,
        progress=progress,
        issues=(*issues, *left, *val_as_test_issue(splits)),
    )


# Files --------------------------------------------------------------------------------------


def _located(
    rows: Sequence[Row], places: Mapping[Path, Files]
) -> tuple[list[Located], list[DataIssue]]:
    """The rows whose files are there, and what is to be told of the paths."""
    found, missing, completed = [], [], []
    for row in rows:
        if "://" in row.content:
            raise DataError(
                f"paths must name files on this machine, got {visible(row.content)} ({row.place}); "
                "download the files first"
            )
        file, as_written = places[row.table].find(row.content, row.place)
        if file is None:
            missing.append(row)
        else:
            found.append((row, file))
            if not as_written:
                completed.append(row.content)
    if not found:
        place = places[missing[0].table]
        raise DataError(
            f"none of the {counted(len(rows), 'file')} that {missing[0].table} names is there, the "
            f"first is {visible(missing[0].content)}; a relative path starts at {place.base}, and "
            "`root: FOLDER`, as an option of the data set, names another folder"
        )
    issues = [issue for place in dict.fromkeys(places.values()) for issue in place.issues]
    if missing:
        names = [row.content for row in missing]
        issues.append(left_out("missing-file", "the file is not there", names))
    if completed:
        shown = [visible(path) for path in completed]
        message = f"Suffix or separators of {counted(len(completed), 'path')} were completed: "
        issues.append(
            DataIssue(kind="table", message=f"{message}{naming(shown)}.", count=len(completed))
        )
    return found, issues


def _distinct(located: Sequence[Located]) -> tuple[list[Located], list[DataIssue]]:
    """Each file once; raises `DataError` where two rows of a file do not say the same."""
    first: dict[StoredFile, Row] = {}
    repeated = []
    for row, file in located:
        other = first.setdefault(file, row)
        if other is row:
            continue
        if other.said != row.said:
            shown = " and ".join(
                f"{each.place} ({', '.join(_words(each, other, row))})" for each in (other, row)
            )
            raise DataError(
                "a file must have one label, split, group, time and weight, but "
                f"{row.content} is in {shown}; correct or remove one of the rows"
            )
        repeated.append(row)
    issues = []
    if repeated:
        issues.append(
            left_out("repeated", "the same file again", [row.content for row in repeated])
        )
    return [(row, file) for file, row in first.items()], issues


def _words(row: Row, one: Row, other: Row) -> Iterator[str]:
    """What a row says that another one contradicts."""
    names = ("label", "split", "test set", "group", "time", "weight")
    for name, value, a, b in zip(names, row.said, one.said, other.said, strict=True):
        if a != b:
            shown = SPLIT_NAMES.get(cast(int, value), "none") if name == "split" else str(value)
            yield f"{name} {visible(shown) or 'none'}"
