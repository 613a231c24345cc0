"""The data set `text`: texts of a table, of files in class folders, or given as lists."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import numpy as np
from pydantic import AfterValidator, Field

from bench.data.archives import StoredFile
from bench.data.class_folders import ClassFolders, open_class_folders, open_target_folder
from bench.data.dataset import (
    DATASETS,
    SPLIT_NAMES,
    UNASSIGNED,
    DataIssue,
    fingerprint_of,
    naming,
    val_as_test_issue,
)
from bench.data.encodings import UTF_8
from bench.data.files import SampleFiles, existing_file, name_text, reading_errors_told, sample_id
from bench.data.label_tables import LabelTable, Role, open_table, table_of_lists
from bench.data.samples import LabelledFile, LabelledSample, labelled_fields
from bench.data.table_rows import (
    Row,
    RowKind,
    check_splits,
    classified,
    of_target,
    rows_of,
    samples_of,
)
from bench.data.table_targets import Outputs, outputs_of
from bench.data.text.dataset import TextDataset
from bench.data.text.noticed import clean_texts
from bench.data.text.reading import (
    decoded_by,
    detected,
    fitting_encodings,
    looks_like_text,
    told,
)
from bench.errors import DataError, counted
from bench.suite import TargetTaskName
from bench.suite.schema import TABLE_SUFFIXES, reader_of
from bench.system.download import OnProgress
from bench.system.visible_text import visible

ROWS = RowKind(content="text", noun="text")
SUFFIXES = frozenset({".txt", ".text"})
LOOKED_AT = 1024
"""Bytes of a file without a suffix that say whether it is text."""
MAX_BYTES = 16 * 2**20
"""Of a file; a larger one is no text to classify, and is left out."""

LEFT_OUT = ("unreadable", "empty-text")
"""Kinds of issues that tell of files which are left out."""

Column = Literal["split", "group", "time", "weight"]
"""What a column says of a text, beside the text and its label."""


def _known_encoding(name: str) -> str:
    with suppress(UnicodeError):  # two blanks alone are not text in every encoding
        try:
            b"  ".decode(name)
        except LookupError:
            raise ValueError(
                "must be the name of an encoding of texts that Python knows, such as utf-8, "
                f"cp1252, gb18030 or shift_jis, got {name!r}"
            ) from None
    return name


@DATASETS.register("text")
def text(
    progress: OnProgress | None,
    /,
    *,
    path: Annotated[
        str | dict[Literal["train", "val", "test"], str] | None,
        Field(
            description="A table (.csv, .tsv, .jsonl, .parquet) with a text in every row, or one "
            "for each split; or a folder, or archive, with .txt files in a folder for each class. "
            "A relative path starts at the suite's folder.",
            examples=["reviews.csv", {"train": "train.csv", "test": "test.csv"}, "letters"],
        ),
    ] = None,
    text: Annotated[
        str | None,
        Field(
            description="The column with the text. null: recognised by its name, and told.",
            examples=["body"],
        ),
    ] = None,
    label: Annotated[
        str | None,
        Field(
            description="The column with the class. null: recognised by its name, and told.",
            examples=["sentiment"],
        ),
    ] = None,
    columns: Annotated[
        dict[Column, str | None] | None,
        Field(
            description="Which column says what else of a text, as of `table`; `split: null` takes "
            "no column for it.",
            examples=[{"group": "author", "time": "written"}],
        ),
    ] = None,
    lists: Annotated[
        dict[str, list[Any]] | None,
        Field(
            description="Texts and labels themselves instead of a path: a table as lists, one for "
            "each column.",
            examples=[{"text": ["how good", "how bad"], "label": ["pos", "neg"]}],
        ),
    ] = None,
    splits: Annotated[
        dict[Literal["train", "val", "test"], str | dict[str, str]] | None,
        Field(
            description="Of a folder: the folder of each split, as of `folder`.",
            examples=[{"train": "Training", "test": "Testing"}],
        ),
    ] = None,
    encoding: Annotated[
        Annotated[str, AfterValidator(_known_encoding)] | None,
        Field(
            description="How the files are encoded. null: as UTF-8, as a mark at the start of a "
            "file says, or else as it is detected, which is told.",
            examples=["gb18030"],
        ),
    ] = None,
    unescape: Annotated[
        bool,
        Field(
            description="Whether HTML entities such as `&amp;` become the characters that they "
            "stand for. Texts that have some are told of in either case.",
            examples=[True],
        ),
    ] = False,
    target: Annotated[
        str | list[str] | None,
        Field(
            description="For `task: regression`: the column with the number to predict, or "
            "several, as of `table`.",
            examples=["stars", ["stars", "helpful"]],
        ),
    ] = None,
    labels: Annotated[
        str | list[str] | None,
        Field(
            description="For `task: multi_label`: the column with the labels of a text, or a "
            "column for each label, as of `table`.",
            examples=["tags", ["joy", "anger"]],
        ),
    ] = None,
) -> TextDataset:
    """Texts of a table or of files in class folders, with splits, groups and times if it has them.

    Texts are Unicode in its composed form (NFC), their lines end with a line feed, and control
    characters are taken out of them; those that say nothing then are left out, and told. Raises
    `DataError` where there is no text to read, where a column or an encoding cannot be known, where
    rows say what they cannot mean, and if a class has no text in one of the splits.
    """
    return _opened(
        progress, path=path, text=text, label=label, columns=columns, lists=lists, splits=splits,
        encoding=encoding, unescape=unescape, target=target, labels=labels,
    )  # fmt: skip


def target_texts(
    progress: OnProgress | None, classes: Sequence[str], /, **options: Any
) -> TextDataset:
    """Texts of target data, which need labels in the test split alone.

    `options` are those of `text`, which raises as this does; `classes` are those of the data set
    that trains.
    """
    return _opened(progress, **options, target_classes=classes)


def _opened(
    progress: OnProgress | None,
    *,
    path: str | Mapping[Any, str] | None,
    text: str | None,
    label: str | None,
    columns: Mapping[Any, str | None] | None,
    lists: Mapping[str, Sequence[Any]] | None,
    splits: Mapping[Any, Any] | None,
    encoding: str | None,
    unescape: bool,
    target: str | list[str] | None,
    labels: str | list[str] | None,
    target_classes: Sequence[str] | None = None,
) -> TextDataset:
    if (path is None) == (lists is None):
        raise DataError(
            "text needs one of path (a table, or a folder of .txt files in class folders) and "
            "lists (the texts and labels themselves)"
        )
    if isinstance(path, str) and reader_of(path) != "table":
        of_table = {"text": text, "label": label, "columns": columns, "target": target,
                    "labels": labels}  # fmt: skip
        if useless := [name for name, value in of_table.items() if value is not None]:
            raise DataError(
                f"{path} is a folder of texts, which has no columns: leave out {naming(useless)}, "
                f"or give the path of a table ({', '.join(TABLE_SUFFIXES)})"
            )
        if target_classes is None:
            found = open_class_folders(path, splits, text_files())
        else:
            found = open_target_folder(path, target_classes, text_files())
        return _of_folder(found, encoding, target_classes, unescape=unescape, progress=progress)
    if splits is not None:
        raise DataError(
            "splits names folders, and of a table a column says the split: "
            "`columns: {split: COLUMN}`"
        )
    outputs = outputs_of(target, labels)
    if outputs is not None and label is not None:
        raise DataError(
            "label names the class of a text, and target or labels what else is predicted: give "
            "one of them"
        )
    named = {"text": text, "label": label}
    given = cast(
        Mapping[Role, str | None],
        {**(columns or {}), **{role: name for role, name in named.items() if name is not None}},
    )
    with reading_errors_told("the table"):
        tables = _tables(path, lists, encoding)
        return _of_tables(tables, given, outputs, target_classes, unescape=unescape)


def _tables(
    path: str | Mapping[Any, str] | None,
    lists: Mapping[str, Sequence[Any]] | None,
    encoding: str | None,
) -> dict[int, LabelTable]:
    """The tables by the split that each is; one alone has no split that is known."""
    if lists is not None:
        if encoding is not None:
            raise DataError("encoding is that of files, and lists hold texts: leave it out")
        return {UNASSIGNED: table_of_lists("lists", lists)}
    assert path is not None
    if isinstance(path, str):
        paths = {UNASSIGNED: existing_file(path)}
    else:
        codes = {name: code for code, name in SPLIT_NAMES.items()}
        if "train" not in path or len(path) < 2:
            raise DataError(f"path must name a table, or those of train and test, got {path}")
        paths = {codes[name]: existing_file(own) for name, own in path.items()}
    read = partial(text_of_table, encoding=encoding)
    return {split: open_table(own, content=ROWS.content, read=read) for split, own in paths.items()}


def text_of_table(path: Path, *, encoding: str | None = None) -> tuple[str, tuple[str, ...]]:
    """The text of a file, and remarks on how it was read; without zero bytes, at which what reads
    CSV would stop. Raises `DataError` where its encoding cannot be known.
    """
    content = path.read_bytes()
    known = told(content, encoding, str(path))
    text, found = known or detected(content, str(path))
    said = encoding is not None or found == UTF_8
    remark = f"it is {_detected_as(found) if known is None else _read_as(found)}"
    return text.replace("\0", ""), () if said else (remark,)


def _read_as(encoding: str) -> str:
    return f"not UTF-8, and read as {encoding}"


def _detected_as(encoding: str) -> str:
    hint = "`encoding: NAME`, as an option of the data set, says another"
    return f"{_read_as(encoding)} ({hint})"


def _of_tables(
    tables: Mapping[int, LabelTable],
    given: Mapping[Role, str | None],
    outputs: Outputs | None,
    target_classes: Sequence[str] | None,
    *,
    unescape: bool,
) -> TextDataset:
    labelled = target_classes is None
    rows: list[Row] = []
    issues: list[DataIssue] = []
    for split, table in tables.items():
        found, more = rows_of(table, ROWS, split, given, outputs, labelled=labelled)
        rows += found
        issues += more
    one = len(tables) == 1
    cleaned = clean_texts(
        [_id(row, one_table=one) for row in rows],
        [row.shown for row in rows],
        [row.content for row in rows],
        unescape=unescape,
    )
    kept = [replace(row, content=own) for row, own in zip(rows, cleaned.texts, strict=True) if own]
    first = next(iter(tables.values())).path
    if not kept:
        raise DataError(f"no row of {first} has a text that says anything")
    names = [_id(row, one_table=one) for row in kept]
    spelt: list[DataIssue] = []
    if target_classes is None:
        rows, classes, spelt = classified(kept, outputs)
    else:
        rows, classes = of_target(kept, target_classes), tuple(target_classes)
    samples, left = samples_of(rows)
    if labelled:
        check_splits(samples, classes if outputs is None else None, ROWS, first)
    return _dataset(
        name=name_text(first.stem if one else first.parent.name),
        sample_ids=names,
        texts=[row.content for row in rows],
        samples=samples,
        classes=classes,
        task="classification" if outputs is None else outputs.task,
        issues=[*issues, *cleaned.issues, *spelt, *left],
    )


def _id(row: Row, *, one_table: bool) -> str:
    """The number of the row, after the split where that has a table of its own."""
    return f"{row.number:06}" if one_table else f"{SPLIT_NAMES[row.split]}/{row.number:06}"


# Files ----------------------------------------------------------------------------------------


def text_files() -> SampleFiles:
    """Which files of a folder are texts: .txt, or without a suffix what begins as text does."""
    return SampleFiles(
        noun="text",
        is_one=is_text,
        why_none=_why_no_text,
        by_suffix=NO_TEXT,
        kind="not-a-text",
    )


NO_TEXT = "not a text by the suffix"


def is_text(path: Path) -> bool:
    """Whether the name says so by its suffix, or without one the content.

    A pipe or device must not be opened.
    """
    if path.suffix and path.suffix.lower() not in SUFFIXES:
        return False
    if not path.is_file():
        return False
    if path.suffix:
        return True
    try:
        with path.open("rb") as file:
            return looks_like_text(file.read(LOOKED_AT))
    except OSError:  # which is told when it is read
        return True


def _why_no_text(path: Path) -> str | None:
    if is_text(path):
        return None
    return NO_TEXT if path.suffix else "no suffix, and not a text by its first bytes"


def _of_folder(
    found: ClassFolders,
    encoding: str | None,
    target_classes: Sequence[str] | None,
    *,
    unescape: bool,
    progress: OnProgress | None,
) -> TextDataset:
    files = sorted(found.files, key=lambda file: sample_id(found.root, file.path))
    names = [sample_id(found.root, file.path) for file in files]
    written, unread, encoded = _contents(found.name, files, names, encoding, progress)
    read = [name for name in names if name in written]
    cleaned = clean_texts(read, read, [written[name] for name in read], unescape=unescape)
    texts = dict(zip(read, cleaned.texts, strict=True))
    kept = [(name, file) for name, file in zip(names, files, strict=True) if texts.get(name)]
    classes = target_classes or sorted({file.class_name for file in files})
    left = [*unread, *cleaned.issues]
    if target_classes is None:
        _check_none_empty([file for _, file in kept], files, left)
    return _dataset(
        name=found.name,
        sample_ids=[name for name, _ in kept],
        texts=[texts[name] for name, _ in kept],
        samples=[file for _, file in kept],
        classes=classes,
        task="classification",
        issues=[*found.issues, *encoded, *left],
    )


def _contents(
    root: str,
    files: Sequence[LabelledFile],
    names: Sequence[str],
    encoding: str | None,
    progress: OnProgress | None,
) -> tuple[dict[str, str], list[DataIssue], list[DataIssue]]:
    """The texts of files by their names; what cannot be read, and what was detected, is told."""
    texts: dict[str, str] = {}
    reasons: dict[str, list[str]] = {}
    others: dict[str, bytes] = {}
    for done, (file, name) in enumerate(zip(files, names, strict=True), start=1):
        try:
            content = _content(file.path)
            if (known := told(content, encoding, "it")) is None:
                others[name] = content
            else:
                texts[name], _ = known
        except OSError as error:
            reasons.setdefault(error.strerror or str(error), []).append(name)
        except DataError as error:
            reasons.setdefault(str(error), []).append(name)
        if progress is not None:
            progress(f"read {root}", done, len(files))
    encodings: dict[str, list[str]] = {}
    # One file is short: all together tell which encoding they have.
    fitting = fitting_encodings(b"\n".join(others.values()), root) if others else []
    for name, content in others.items():
        try:
            texts[name], used = decoded_by(content, fitting, "it")
            encodings.setdefault(used, []).append(name)
        except DataError as error:
            reasons.setdefault(str(error), []).append(name)
    unread = [
        DataIssue(
            kind="unreadable",
            message=f"{counted(len(which), 'text')} left out ({reason}): {naming(which)}.",
            count=len(which),
            samples=tuple(which[:5]),
        )
        for reason, which in reasons.items()
    ]
    encoded = [
        DataIssue(
            kind="encoding",
            message=f"{counted(len(which), 'text')} {_detected_as(used)}: {naming(which)}.",
            count=len(which),
            samples=tuple(which[:5]),
        )
        for used, which in encodings.items()
    ]
    return texts, unread, encoded


def _content(file: StoredFile) -> bytes:
    size = file.stat().st_size if isinstance(file, Path) else file.size
    if size > MAX_BYTES:
        raise OSError(0, f"larger than {MAX_BYTES // 2**20} MiB")
    return file.read_bytes() if isinstance(file, Path) else file.content()


def _check_none_empty(
    kept: Sequence[LabelledFile], files: Sequence[LabelledFile], left: Sequence[DataIssue]
) -> None:
    """Raise `DataError` where none of the texts of a class in a split can be used."""
    filled = {(file.split, file.class_name) for file in kept}
    lost = sorted({(file.split, file.class_name) for file in files} - filled)
    if lost:
        shown = [
            f"class {visible(name)!r}"
            + (f" in the {SPLIT_NAMES[split]} split" if split != UNASSIGNED else "")
            for split, name in lost
        ]
        why = [each.message.removesuffix(".") for each in left if each.kind in LEFT_OUT]
        raise DataError(
            "every class needs texts that can be read and say something, but not one is left of "
            f"{naming(shown)}. {'; '.join(why)}"
        )


# Data sets ------------------------------------------------------------------------------------


def _dataset(
    *,
    name: str,
    sample_ids: Sequence[str],
    texts: Sequence[str],
    samples: Sequence[LabelledSample],
    classes: Sequence[str],
    task: TargetTaskName,
    issues: Sequence[DataIssue],
) -> TextDataset:
    fields, strata = labelled_fields(samples, classes, task, ROWS.noun)
    contents = [hashlib.sha256(each.encode()).hexdigest() for each in texts]
    splits = np.array([sample.split for sample in samples], np.int8)
    return TextDataset(
        name=name,
        sample_ids=tuple(sample_ids),
        texts=tuple(texts),
        fingerprint=fingerprint_of(
            sample_ids=sample_ids,
            contents=contents,
            **{key: fields[key] for key in ("classes", "labels", "splits", "targets")},
        ),
        issues=(*issues, *strata, *val_as_test_issue(splits)),
        **fields,
    )
