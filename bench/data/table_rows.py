"""Rows of tables with a label in each: what they say of samples, whatever these are."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from bench.data.dataset import (
    NO_GROUPS,
    NO_TIMES,
    SPLIT_NAMES,
    TEST,
    TRAIN,
    UNASSIGNED,
    VAL,
    WEIGHTS_NOTE,
    DataIssue,
    naming,
)
from bench.data.label_tables import (
    Chosen,
    LabelTable,
    Role,
    check_no_lists,
    choose_columns,
    not_chosen,
    option_text,
    taken,
)
from bench.data.layout import UNLABELLED, is_plain_split_name, split_of_name
from bench.data.samples import LabelledSample
from bench.data.table_targets import Outputs, Said, said_by_rows, values_of
from bench.data.times import as_moment, microseconds
from bench.errors import DataError, counted
from bench.system.visible_text import reading, visible

NAMED = 5
MAX_WEIGHT = 1e6
"""Of a sample; its inverse is the least. Sums of weights are computed in single precision."""
NOT_CHOSEN: Mapping[Role, str] = {"group": NO_GROUPS, "time": NO_TIMES}


@dataclass(frozen=True, kw_only=True)
class RowKind:
    """What rows of a table are: the column that has their `content`, and what messages call one."""

    content: Role
    noun: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table as it is written; `number` counts from 1, without the names of columns.

    `content` is what its sample is, or names it. `outputs` is what it says where it has no class,
    and `values` what that comes to.
    """

    kind: RowKind
    table: Path
    number: int
    content: str
    label: str
    split: int
    group: str
    time: str
    weight: str
    test_set: str = ""
    outputs: Said | None = None
    values: tuple[float, ...] | None = None

    @property
    def place(self) -> str:
        return f"row {self.number} of {self.table.name}"

    @property
    def shown(self) -> str:
        """What names it in a message: a path does, a text is too long."""
        names = self.kind.content == "path" and self.content
        return visible(self.content if names else self.place)

    @property
    def said(self) -> tuple[str, int, str, str, str, str]:
        """What it says of its sample."""
        label = self.label if self.outputs is None else ", ".join(map(str, self.outputs))
        return label, self.split, self.test_set, self.group, self.time, self.weight


# Rows -----------------------------------------------------------------------------------------


def rows_of(
    table: LabelTable,
    kind: RowKind,
    split: int,
    given: Mapping[Role, str | None],
    outputs: Outputs | None,
    *,
    labelled: bool = True,
) -> tuple[list[Row], list[DataIssue]]:
    """The rows that have content and a label, and what is to be told of the others.

    `split` is that of a whole table. Where rows need not be `labelled`, those of the test split do.
    Raises `DataError` where a column cannot be known, where it holds what it cannot mean, and where
    no row is left.
    """
    of_outputs = () if outputs is None else outputs.columns
    # The split of a whole table is known: a column of it says nothing else.
    given = given if split == UNASSIGNED else {**given, "split": None}
    # Times and weights of target data have no effect.
    given = given if labelled else {**given, "time": None, "weight": None}
    chosen = choose_columns(table, given, of_outputs, content=kind.content, labelled=labelled)
    cells = table.cells(list(dict.fromkeys([*chosen.columns.values(), *of_outputs])))
    by_role = {role: cells[name] for role, name in chosen.columns.items()}
    count = len(by_role[kind.content])
    if not count:
        raise DataError(f"{table.path} has no rows below the names of its columns")
    splits, chosen = _splits(
        table, chosen, by_role.get("split"), split, count, given, in_every_row=labelled
    )
    empty = [""] * count
    said: Sequence[Said | None] = [None] * count
    if outputs is None and "label" in chosen.columns:
        column = visible(chosen.columns["label"])
        mend = (
            f"where {kind.noun}s have several labels, say `task: multi_label` and "
            f"`labels: {column}`, as an option of the data set"
        )
        read = [
            text if labelled or own == TEST else ""
            for text, (own, _) in zip(by_role["label"], splits, strict=True)
        ]
        check_no_lists(table.path, column, read, mend=mend)
    elif outputs is not None:
        said = said_by_rows(table.path, outputs, cells)
    elif any(own == TEST for own, _ in splits):
        raise DataError(
            f"{table.path} has rows of the test split, but no column of their labels that is known "
            f"(`{option_text(kind.content, {'label': 'COLUMN'})}`, as an option of the data set, "
            "names one); rows without labels are of no split, or of train"
        )
    rows = [
        Row(kind=kind, table=table.path, number=number, content=content, label=label, split=own,
            test_set=test_set, group=group, time=time, weight=weight, outputs=what)
        for number, (content, label, (own, test_set), group, time, weight, what) in enumerate(
            zip(by_role[kind.content], by_role.get("label", empty), splits,
                by_role.get("group", empty), by_role.get("time", empty),
                by_role.get("weight", empty), said, strict=True),
            start=1,
        )
    ]  # fmt: skip
    issues = [*_taken(table, chosen, of_outputs)]
    usable = []
    reasons: dict[str, list[Row]] = {}
    for row in rows:
        missing = "no label" if outputs is None else outputs.missing
        says = bool(row.label) if outputs is None else row.outputs is not None
        needed = labelled or row.split == TEST
        why = (
            f"no {kind.content}" if not row.content else missing if needed and not says else
            "a split without labels" if needed and row.split == UNLABELLED else None
        )  # fmt: skip
        if why is None:
            usable.append(row)
        else:
            reasons.setdefault(why, []).append(row)
    for why, left in reasons.items():
        issues.append(left_out("unlabelled", why, [row.shown for row in left]))
    if not usable and not labelled:
        raise DataError(f"no row of {table.path} has a {kind.content}")
    if not usable:
        what = "a label" if outputs is None else "a value in " + " and ".join(of_outputs)
        raise DataError(f"no row of {table.path} has both a {kind.content} and {what}")
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
    *,
    in_every_row: bool,
) -> tuple[list[tuple[int, str]], Chosen]:
    """The split and test set of every row; a column found by its name may turn out to be none.

    Where it need not say something `in_every_row`, others are as the whole table.
    """
    if cells is None:
        return [(split, "")] * count, chosen
    name = chosen.columns["split"]
    codes = {text: _split_of_text(text) for text in dict.fromkeys(cells)}
    if not in_every_row and "" in codes:
        codes[""] = (split, "")
    unknown = [text for text, code in codes.items() if code is None]
    said = [text for text in codes if text or in_every_row]
    if len(unknown) == len(said) and "split" not in given:
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


def left_out(kind: str, why: str, names: Sequence[str]) -> DataIssue:
    shown = [visible(name) for name in names]
    return DataIssue(
        kind=kind,
        message=f"{counted(len(names), 'row')} left out ({why}): {naming(shown)}.",
        count=len(names),
        samples=tuple(shown[:NAMED]),
    )


# Classes --------------------------------------------------------------------------------------


def classified(
    rows: Sequence[Row], outputs: Outputs | None
) -> tuple[list[Row], tuple[str, ...], list[DataIssue]]:
    """The rows with one spelling of every class, and the classes in order: numbers by size.

    Where `outputs` are predicted: the rows with their values, and the names of these.
    """
    if outputs is not None:
        values, names = values_of(outputs, [row.outputs or () for row in rows])
        return [replace(row, values=own) for row, own in zip(rows, values, strict=True)], names, []
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
            f"is it the right column? `{_label_option(first)}`, as an option of the data set, "
            "names another; numbers to predict are `task: regression` with the option "
            f"`target: COLUMN`, several labels {_a(first.kind.noun)} `task: multi_label` with "
            "`labels: COLUMN`"
        )
    rows = [replace(row, label=label) for row, label in zip(rows, labels, strict=True)]
    return rows, tuple(classes), list(_capitals(classes))


def of_target(rows: Sequence[Row], classes: Sequence[str]) -> list[Row]:
    """Rows of target data: those of the test split have one of `classes`, others lose their labels.

    Those are of the first class, which means nothing. Raises `DataError` for a tested label that is
    none of the classes.
    """
    known = {_read_as(name): name for name in classes}
    found = []
    for row in rows:
        own = known.get(_read_as(row.label)) if row.split == TEST else classes[0]
        if own is None:
            raise DataError(
                f"the test split of target data must have the classes of the data set "
                f"({naming([visible(name) for name in classes])}), got {visible(row.label)!r} "
                f"({row.place})"
            )
        split = TEST if row.split == TEST else UNLABELLED
        found.append(replace(row, label=own, split=split))
    return found


def _read_as(label: str) -> str:
    """What labels have in common that mean one class."""
    number = _whole(label)
    return reading(label) if number is None else str(number)


def _label_option(row: Row) -> str:
    return option_text(row.kind.content, {"label": "COLUMN"})


def _a(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


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


def check_splits(
    samples: Sequence[LabelledSample], classes: Sequence[str] | None, kind: RowKind, table: Path
) -> None:
    """Raise `DataError` where a table gives splits and none of its rows trains.

    And where a class has no sample in one of them; None: no classes are predicted.
    """
    given = {sample.split for sample in samples}
    if given - {TRAIN, UNASSIGNED} and TRAIN not in given:
        raise DataError(f"{table} has no row of the train split")
    filled = {(sample.split, sample.class_name) for sample in samples}
    empty = [
        f"class {visible(name)!r} has no {kind.noun} in the {SPLIT_NAMES[split]} split"
        for split in (TRAIN, VAL, TEST)
        if split in given
        for name in classes or ()
        if (split, name) not in filled
    ]
    if empty:
        raise DataError(f"every class needs {kind.noun}s in every split: {naming(empty)} ({table})")


# Samples --------------------------------------------------------------------------------------


def samples_of(rows: Sequence[Row]) -> tuple[list[LabelledSample], list[DataIssue]]:
    """The samples with groups and times where every row has them, and with weights."""
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
    samples = [
        LabelledSample(
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
    return samples, issues


def _weights(rows: Sequence[Row]) -> list[float | None]:
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


def _weighted(weights: Sequence[float | None], rows: Sequence[Row]) -> Iterator[DataIssue]:
    known = [weight for weight in weights if weight is not None]
    noun = rows[0].kind.noun
    if known:
        yield DataIssue(
            kind=WEIGHTS_NOTE,
            message=f"{noun.capitalize()}s have weights in the training loss, from "
            f"{min(known):g} to {max(known):g} ({rows[0].table.name}); metrics count every {noun} "
            "alike.",
            count=len(known),
        )


def _not_taken(kind: str, what: str, lacking: str, rows: Sequence[Row]) -> DataIssue:
    named = [f"{row.shown} ({visible(row.time)})" if row.time and kind == NO_TIMES else row.shown
             for row in rows]  # fmt: skip
    message = f"The {what} are not taken, {counted(len(rows), 'row')} {lacking}: {naming(named)}."
    return DataIssue(kind=kind, message=message, count=len(rows))
