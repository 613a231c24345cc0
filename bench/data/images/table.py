"""The data set `table`: image files that a table names, with a label in every row.

A path in a table that begins with `~` starts at the home folder, a relative one at the folder of
the table, or at `root`, which may be an archive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal, cast

import numpy as np
from pydantic import Field

from bench.data.dataset import (
    DATASETS,
    NO_GROUPS,
    NO_TIMES,
    SPLIT_NAMES,
    TEST,
    TRAIN,
    UNASSIGNED,
    VAL,
    DataIssue,
    ImageDataset,
    naming,
    val_as_test_issue,
)
from bench.data.images.archives import ImageFile
from bench.data.images.channels import ChannelNumber, suffixes_of
from bench.data.images.files import (
    LabelledFile,
    dataset_from_files,
    existing_file,
    name_text,
    reading_errors_told,
)
from bench.data.images.label_tables import (
    Chosen,
    LabelTable,
    Role,
    check_no_lists,
    choose_columns,
    not_chosen,
    open_table,
    taken,
)
from bench.data.images.layout import UNLABELLED, is_plain_split_name, split_of_name
from bench.data.images.table_files import Files, files_from
from bench.data.images.table_targets import (
    Outputs,
    Said,
    outputs_of,
    said_by_rows,
    values_of,
)
from bench.data.times import as_moment, microseconds
from bench.errors import DataError, counted
from bench.system.download import OnProgress
from bench.system.visible_text import reading, visible

NAMED = 5
MAX_WEIGHT = 1e6
"""Of a sample; its inverse is the least. Sums of weights are computed in single precision."""
NOT_CHOSEN: Mapping[Role, str] = {"group": NO_GROUPS, "time": NO_TIMES}


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
        dict[Role, str | None] | None,
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
        return _open_tables(paths, given, outputs, places, bits, channels, progress)


def _open_tables(
    paths: Mapping[int, Path],
    given: Mapping[Role, str | None],
    outputs: Outputs | None,
    places: Mapping[Path, Files],
    bits: int | None,
    channels: int | None,
    progress: OnProgress | None,
) -> ImageDataset:
    rows: list[_Row] = []
    issues: list[DataIssue] = []
    for split, path in paths.items():
        table = open_table(path)
        # The split of a whole table is known: a column of it says nothing else.
        own = given if split == UNASSIGNED else {**given, "split": None}
        chosen = choose_columns(table, own, () if outputs is None else outputs.columns)
        found, told = _rows(table, chosen, split, given, outputs)
        rows += found
        issues += told
    rows, more = _located(rows, places)
    issues += more
    rows, same = _distinct(rows)
    issues += same
    first = next(iter(paths.values()))
    if outputs is None:
        rows, classes, spelt = _classes(rows)
        issues += spelt
    else:
        values, classes = values_of(outputs, [row.outputs or () for row in rows])
        rows = [replace(row, values=own) for row, own in zip(rows, values, strict=True)]
    files, left = _files(rows)
    splits = np.array([file.split for file in files], np.int8)
    _check_train(files, first)
    if outputs is None:
        _check_classes(files, classes, first)
    return dataset_from_files(
        name=name_text(first.stem if len(paths) == 1 else first.parent.name),
        root=places[first].root(row.file for row in rows),
        files=files,
        classes=classes,
        task="classification" if outputs is None else outputs.task,
        bits=bits,
        channels=channels,
        progress=progress,
        issues=(*issues, *left, *val_as_test_issue(splits)),
    )


@dataclass(frozen=True, kw_only=True)
class _Row:
    """A row of a table as it is written; `number` counts from 1, without the names of columns.

    `outputs` is what it says where it has no class, and `values` what that comes to.
    """

    table: Path
    number: int
    path: str
    label: str
    split: int
    group: str
    time: str
    weight: str
    test_set: str = ""
    file: ImageFile = Path()
    outputs: Said | None = None
    values: tuple[float, ...] | None = None

    @property
    def place(self) -> str:
        return f"row {self.number} of {self.table.name}"

    @property
    def said(self) -> tuple[str, int, str, str, str, str]:
        """What it says of its file."""
        label = self.label if self.outputs is None else ", ".join(map(str, self.outputs))
        return label, self.split, self.test_set, self.group, self.time, self.weight


# Rows -----------------------------------------------------------------------------------------


def _rows(
    table: LabelTable,
    chosen: Chosen,
    split: int,
    given: Mapping[Role, str | None],
    outputs: Outputs | None,
) -> tuple[list[_Row], list[DataIssue]]:
    """The rows that have a path and a label, and what is to be told of the others."""
    of_outputs = () if outputs is None else outputs.columns
    cells = table.cells(list(dict.fromkeys([*chosen.columns.values(), *of_outputs])))
    by_role = {role: cells[name] for role, name in chosen.columns.items()}
    count = len(by_role["path"])
    if not count:
        raise DataError(f"{table.path} has no rows below the names of its columns")
    splits, chosen = _splits(table, chosen, by_role.get("split"), split, count, given)
    empty = [""] * count
    said: Sequence[Said | None] = [None] * count
    if outputs is None:
        column = visible(chosen.columns["label"])
        mend = (
            "where images have several labels, say `task: multi_label` and "
            f"`labels: {column}`, as an option of the data set"
        )
        check_no_lists(table.path, column, by_role["label"], mend=mend)
    else:
        said = said_by_rows(table.path, outputs, cells)
    rows = [
        _Row(table=table.path, number=number, path=path, label=label, split=own, test_set=test_set,
             group=group, time=time, weight=weight, outputs=what)
        for number, (path, label, (own, test_set), group, time, weight, what) in enumerate(
            zip(by_role["path"], by_role.get("label", empty), splits, by_role.get("group", empty),
                by_role.get("time", empty), by_role.get("weight", empty), said, strict=True),
            start=1,
        )
    ]  # fmt: skip
    issues = [*_taken(table, chosen, of_outputs)]
    usable = []
    reasons: dict[str, list[_Row]] = {}
    for row in rows:
        missing = "no label" if outputs is None else outputs.missing
        says = bool(row.label) if outputs is None else row.outputs is not None
        why = (
            "no path" if not row.path else missing if not says else
            "a split without labels" if row.split == UNLABELLED else None
        )  # fmt: skip
        if why is None:
            usable.append(row)
        else:
            reasons.setdefault(why, []).append(row)
    for why, left in reasons.items():
        issues.append(_left_out("unlabelled", why, [row.path or row.place for row in left]))
    if not usable:
        what = "a label" if outputs is None else "a value in " + " and ".join(of_outputs)
        raise DataError(f"no row of {table.path} has both a path and {what}")
    return usable, issues


def _taken(table: LabelTable, chosen: Chosen, outputs: Sequence[str]) -> Iterator[DataIssue]:
    parts = list(taken(table, chosen, outputs))
    if parts:
        yield DataIssue(kind="table", message=f"{'; '.join(parts)}.", count=1)
    for role, message in not_chosen(table, chosen):
        yield DataIssue(kind=NOT_CHOSEN.get(role, "table"), message=message, count=1)


def _splits(
    table: LabelTable,
    chosen: Chosen,
    cells: Sequence[str] | None,
    split: int,
    count: int,
    given: Mapping[Role, str | None],
) -> tuple[list[tuple[int, str]], Chosen]:
    """The split and test set of every row; a column found by its name may turn out to be none."""
    if cells is None:
        return [(split, "")] * count, chosen
    name = chosen.columns["split"]
    codes = {text: _split_of_text(text) for text in dict.fromkeys(cells)}
    unknown = [text for text, code in codes.items() if code is None]
    if len(unknown) == len(codes) and "split" not in given:
        others: dict[Role, str] = {r: n for r, n in chosen.columns.items() if r != "split"}
        return [(split, "")] * count, replace(chosen, columns=others)
    if unknown:
        shown = ", ".join(repr(visible(text)) for text in unknown[:NAMED])
        raise DataError(
            f"the split in column {name!r} of {table.path} must be a name such as train, val, "
            f"test or test:NAME in every row, got {shown} (row {cells.index(unknown[0]) + 1}); "
            "`columns: {split: null}`, as an option of the data set, takes no notice of the column"
        )
    found = [cast(tuple[int, str], codes[text]) for text in cells]
    if any(test_set for _, test_set in found):  # the rest of the test split is a set beside them
        found = [(own, name or "test") if own == TEST else (own, name) for own, name in found]
    return found, chosen


def _split_of_text(text: str) -> tuple[int, str] | None:
    """The split, and behind a colon the test set: `test:clinic_a`; None for anything else."""
    split = split_of_name(text)
    head, colon, name = text.partition(":")
    if colon and split_of_name(head) == TEST and is_plain_split_name(head):
        return (TEST, name.strip()) if name.strip() else None
    return None if split is None else (split, "")


def _distinct(rows: Sequence[_Row]) -> tuple[list[_Row], list[DataIssue]]:
    """Each file once; raises `DataError` where two rows of a file do not say the same."""
    first: dict[ImageFile, _Row] = {}
    repeated = []
    for row in rows:
        other = first.setdefault(row.file, row)
        if other is row:
            continue
        if other.said != row.said:
            shown = " and ".join(
                f"{each.place} ({', '.join(_words(each, other, row))})" for each in (other, row)
            )
            raise DataError(
                f"a file must have one label, split, group, time and weight, but {row.path} is in "
                f"{shown}; correct or remove one of the rows"
            )
        repeated.append(row)
    issues = []
    if repeated:
        issues.append(_left_out("repeated", "the same file again", [row.path for row in repeated]))
    return list(first.values()), issues


def _words(row: _Row, one: _Row, other: _Row) -> Iterator[str]:
    """What a row says that another one contradicts."""
    names = ("label", "split", "test set", "group", "time", "weight")
    for name, value, a, b in zip(names, row.said, one.said, other.said, strict=True):
        if a != b:
            shown = SPLIT_NAMES.get(cast(int, value), "none") if name == "split" else str(value)
            yield f"{name} {visible(shown) or 'none'}"


def _left_out(kind: str, why: str, names: Sequence[str]) -> DataIssue:
    shown = [visible(name) for name in names]
    return DataIssue(
        kind=kind,
        message=f"{counted(len(names), 'row')} left out ({why}): {naming(shown)}.",
        count=len(names),
        samples=tuple(shown[:NAMED]),
    )


# Classes --------------------------------------------------------------------------------------


def _classes(
    rows: Sequence[_Row],
) -> tuple[list[_Row], tuple[str, ...], list[DataIssue]]:
    """The rows with one spelling of every class, and the classes in order: numbers by size."""
    labels = [row.label for row in rows]
    numbers = [_whole(label) for label in labels]
    whole = [number for number in numbers if number is not None]
    if len(whole) == len(labels):
        labels = [str(number) for number in whole]
    spelling: dict[str, str] = {}
    labels = [spelling.setdefault(reading(label), label) for label in labels]
    classes = sorted(set(labels), key=int if len(whole) == len(labels) else None)
    first = rows[0]
    if len(classes) < 2:
        raise DataError(
            f"a classification task needs at least two classes, {first.table} has only "
            f"{visible(classes[0])!r}"
        )
    if 2 * len(classes) > len(rows):
        raise DataError(
            f"{counted(len(classes), 'different label')} in {counted(len(rows), 'row')} of "
            f"{first.table} are no classes, such as {naming([visible(c) for c in classes[:3]])}: "
            "is it the right column? `columns: {label: COLUMN}`, as an option of the data set, "
            "names another; numbers to predict are `task: regression` with the option "
            "`target: COLUMN`, several labels an image `task: multi_label` with `labels: COLUMN`"
        )
    rows = [replace(row, label=label) for row, label in zip(rows, labels, strict=True)]
    return rows, tuple(classes), list(_capitals(classes))


def _whole(label: str) -> int | None:
    """The number that a label is: tables with gaps hold 1.0 for 1."""
    found = re.fullmatch(r"(-?\d{1,15})(\.0+)?", label)
    # 007 is a name.
    return int(found[1]) if found and str(int(found[1])) == found[1] else None


def _capitals(classes: Sequence[str]) -> Iterator[DataIssue]:
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(name.casefold(), []).append(name)
    pairs = [" and ".join(visible(name) for name in names)
             for names in alike.values() if len(names) > 1]  # fmt: skip
    if pairs:
        yield DataIssue(
            kind="label-spelling",
            message=f"Classes whose names differ in capitals only: {naming(pairs)}.",
            count=len(pairs),
        )


def _check_train(files: Sequence[LabelledFile], table: Path) -> None:
    """Raise `DataError` where a table gives splits, and none of its rows trains."""
    given = {file.split for file in files}
    if given - {TRAIN, UNASSIGNED} and TRAIN not in given:
        raise DataError(f"{table} has no row of the train split")


def _check_classes(files: Sequence[LabelledFile], classes: Sequence[str], table: Path) -> None:
    """Raise `DataError` for a class without an image in a split that the table gives."""
    filled = {(file.split, file.class_name) for file in files}
    given = {file.split for file in files}
    named = [split for split in (TRAIN, VAL, TEST) if split in given]
    empty = [
        f"class {visible(name)!r} has no image in the {SPLIT_NAMES[split]} split"
        for split in named
        for name in classes
        if (split, name) not in filled
    ]
    if empty:
        raise DataError(f"every class needs images in every split: {naming(empty)} ({table})")


# Files ----------------------------------------------------------------------------------------


def _located(
    rows: Sequence[_Row], places: Mapping[Path, Files]
) -> tuple[list[_Row], list[DataIssue]]:
    """The rows whose files are there, and what is to be told of the paths."""
    found, missing, completed = [], [], []
    for row in rows:
        if "://" in row.path:
            raise DataError(
                f"paths must name files on this machine, got {visible(row.path)} ({row.place}); "
                "download the files first"
            )
        file, as_written = places[row.table].find(row.path, row.place)
        if file is None:
            missing.append(row)
        else:
            found.append(replace(row, file=file))
            if not as_written:
                completed.append(row.path)
    if not found:
        place = places[missing[0].table]
        raise DataError(
            f"none of the {counted(len(rows), 'file')} that {missing[0].table} names is there, the "
            f"first is {visible(missing[0].path)}; a relative path starts at {place.base}, and "
            "`root: FOLDER`, as an option of the data set, names another folder"
        )
    issues = [issue for place in dict.fromkeys(places.values()) for issue in place.issues]
    if missing:
        names = [row.path for row in missing]
        issues.append(_left_out("missing-file", "the file is not there", names))
    if completed:
        shown = [visible(path) for path in completed]
        message = f"Suffix or separators of {counted(len(completed), 'path')} were completed: "
        issues.append(
            DataIssue(kind="table", message=f"{message}{naming(shown)}.", count=len(completed))
        )
    return found, issues


def _files(rows: Sequence[_Row]) -> tuple[list[LabelledFile], list[DataIssue]]:
    """The files with groups and times where every row has them, and with weights."""
    issues = []
    moments = [as_moment(row.time) for row in rows]
    grouped, timed = (any(getattr(row, each) for row in rows) for each in ("group", "time"))
    without = [row for row in rows if not row.group]
    if grouped and without:
        issues.append(_not_taken(NO_GROUPS, "groups", "without one", without))
        grouped = False
    untimed = [row for row, moment in zip(rows, moments, strict=True) if moment is None]
    if timed and untimed:
        issues.append(_not_taken(NO_TIMES, "times", "without a date such as 2024-06-01", untimed))
        timed = False
    weights = _weights(rows)
    issues += _weighted(weights, rows)
    files = [
        LabelledFile(
            path=row.file,
            class_name=row.label,
            split=row.split,
            test_set=row.test_set,
            group=row.group if grouped else None,
            time=None if moment is None or not timed else microseconds(moment),
            weight=weight,
            values=row.values,
        )
        for row, moment, weight in zip(rows, moments, weights, strict=True)
    ]
    return files, issues


def _weights(rows: Sequence[_Row]) -> list[float | None]:
    """The weight of each row, or None for all; raises `DataError` for what is none.

    Rows that do not train need none.
    """
    if not any(row.weight for row in rows):
        return [None] * len(rows)
    weights: list[float | None] = []
    for row in rows:
        tested = row.split in (VAL, TEST) and not row.weight
        weight = 1.0 if tested else _number(row.weight)
        weights.append(weight)
        if weight is None or not 1 / MAX_WEIGHT <= weight <= MAX_WEIGHT:
            raise DataError(
                f"a weight must be a number from {1 / MAX_WEIGHT:g} to {MAX_WEIGHT:g}, got "
                f"{visible(row.weight) or 'none'!r} ({row.place}); `columns: {{weight: null}}`, as "
                "an option of the data set, takes no notice of the column"
            )
    return weights


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _weighted(weights: Sequence[float | None], rows: Sequence[_Row]) -> Iterator[DataIssue]:
    known = [weight for weight in weights if weight is not None]
    if known:
        yield DataIssue(
            kind="sample-weights",
            message=f"Images have weights in the training loss, from {min(known):g} to "
            f"{max(known):g} ({rows[0].table.name}); metrics count every image alike.",
            count=len(known),
        )


def _not_taken(kind: str, what: str, lacking: str, rows: Sequence[_Row]) -> DataIssue:
    named = [f"{visible(row.path)} ({visible(row.time)})" if row.time and kind == NO_TIMES
             else visible(row.path) for row in rows]  # fmt: skip
    message = f"The {what} are not taken, {counted(len(rows), 'row')} {lacking}: {naming(named)}."
    return DataIssue(kind=kind, message=message, count=len(rows))
