"""Tables of labels as people have them: how a file is read, and which column says what.

Columns are known by their usual names, in any spelling (`ImageId`, `image_id`, `image id`). Of
names that say it more or less plainly the plainest counts; two equally plain ones are not chosen
between.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.data.dataset import naming
from bench.data.encodings import UTF_8, unicode_text
from bench.errors import DataError, counted, nearest
from bench.system.visible_text import visible

if TYPE_CHECKING:
    import pandas as pd

Role = Literal["path", "text", "label", "split", "group", "time", "weight"]
"""What a column says of a sample."""
SAYS: tuple[Role, ...] = ("label", "split", "group", "time", "weight")
"""What columns may say beside the one that has the content of samples, or names it."""

LINES_OF_JSON = (".jsonl", ".ndjson")
SEPARATORS = (",", ";", "\t", "|")
SHOWN_SEPARATORS = {"\t": "tabs"}

NAMES: Mapping[Role, tuple[tuple[str, ...], ...]] = {
    "path": (
        ("path", "filepath", "imagepath", "imgpath", "relativepath", "relpath"),
        ("file", "filename", "imagefile", "imagefilename", "imgfile", "imagename", "imgname"),
        ("image", "img", "photo", "picture", "imageid", "imgid", "photoid"),
        ("id", "name"),
    ),
    "text": (
        ("text", "texts", "文本"),
        ("sentence", "review", "reviewtext", "comment", "commenttext", "tweet", "message",
         "document", "content", "body", "内容", "正文", "评论", "评价"),
        ("textdata", "reviews", "sentences", "comments", "messages", "documents", "question",
         "utterance", "snippet", "abstract", "description", "email", "sms", "headline", "title"),
    ),
    "label": (
        ("label", "labels", "class", "target", "category", "groundtruth"),
        ("classname", "labelname", "categoryname", "classlabel", "targetname"),
        ("y", "classid", "labelid", "categoryid", "dx", "diagnosis", "species", "breed"),
        ("sentiment", "polarity", "intent", "topic", "标签", "类别", "分类"),
    ),
    "split": (
        ("split", "splits", "datasetsplit"),
        ("set", "subset", "partition", "usage", "phase"),
        ("fold",),
    ),
    "group": (
        ("group", "groups", "groupid"),
        ("patient", "patientid", "subject", "subjectid", "person", "personid", "individual",
         "individualid", "animal", "animalid", "case", "caseid"),
        ("site", "siteid", "hospital", "clinic", "center", "centre", "camera", "cameraid",
         "location", "locationid", "scene", "session", "sessionid", "lesion", "lesionid", "batch",
         "plate", "scanner", "video", "videoid", "sequence", "sequenceid"),
    ),
    "time": (
        ("time", "date", "datetime", "timestamp"),
        ("taken", "takenat", "datetaken", "captured", "capturedat", "acquired", "acquiredat",
         "acquisitiondate", "acquisitiontime", "created", "createdat", "year"),
    ),
    "weight": (("sampleweight", "sampleweights"), ("weight", "weights")),
}  # fmt: skip
"""Names of columns in small letters and without what separates words, the plainest ones first."""

EMPTY = frozenset({"", "nan", "NaN"})
"""Cells that say nothing. `NA`, `None` and `null` may be the names of classes."""
SHOWN_CELL = 60


ReadText = Callable[[Path], tuple[str, tuple[str, ...]]]
"""The text of a file, and remarks on how it was read."""


@dataclass(frozen=True, kw_only=True)
class LabelTable:
    """A table that has been opened: its columns, and `cells`, which reads some of them as text.

    `remarks` say what of the way in which it was read is not as usual.
    """

    path: Path
    columns: tuple[str, ...]
    cells: Callable[[Sequence[str]], Mapping[str, Sequence[str]]]
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The column of each role, as far as there is one; `ambiguous` could be several."""

    columns: Mapping[Role, str]
    ambiguous: Mapping[Role, tuple[str, ...]]

    @property
    def is_plain(self) -> bool:
        """Whether every column is called by its role, so that nobody need be told."""
        return not self.ambiguous and all(role == name for role, name in self.columns.items())


def open_table(path: Path, *, content: Role = "path", read: ReadText | None = None) -> LabelTable:
    """Look at the columns of a table, of which one has the `content` of samples, or names it.

    `read` gives the text of the file, None as that of a table of labels. Raises `DataError` where
    it cannot be read.
    """
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        table = _open_parquet(path)
    elif suffix in LINES_OF_JSON:
        table = _open_lines(path, read or _read_text)
    else:
        table = _open_text(path, content, read or _read_text)
    if not table.columns:
        raise DataError(f"{path} is empty: a table of labels needs columns for {content} and label")
    return table


def table_of_lists(name: str, lists: Mapping[str, Sequence[Any]]) -> LabelTable:
    """A table that is no file, as the cells of each column; `DataError` where some have fewer."""
    counts = {column: len(cells) for column, cells in lists.items()}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{visible(column)} has {n:,}" for column, n in counts.items())
        raise DataError(f"{name} must have as many values in every column, but {told}")
    path = Path(name)

    def cells(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        return {column: cell_texts(path, column, lists[column]) for column in names}

    return LabelTable(path=path, columns=tuple(lists), cells=cells)


def choose_columns(
    table: LabelTable,
    given: Mapping[Role, str | None],
    outputs: Sequence[str] = (),
    *,
    content: Role = "path",
    labelled: bool = True,
) -> Chosen:
    """Which column has which role: as `given` (None: no column has it), else by the names.

    The columns `outputs` say what is predicted, and then none has the role of the label. Raises
    `DataError` for a column that is not there, and where `content` cannot be known, or the label of
    a table that must be `labelled`.
    """
    chosen: dict[Role, str] = {}
    ambiguous: dict[Role, tuple[str, ...]] = {}
    for role, name in given.items():
        if name is not None:
            option = role if _has_own_option(role, content) else f"columns: {role}"
            chosen[role] = _existing(table, option, name)
    taken = {*chosen.values(), *(_existing(table, "target or labels", own) for own in outputs)}
    roles: tuple[Role, ...] = (content, *SAYS)
    for role in roles:
        if role in given or (role == "label" and outputs):
            continue
        fitting = by_name(role, [name for name in table.columns if name not in taken])
        if len(fitting) == 1:
            chosen[role] = fitting[0]
        elif fitting:
            ambiguous[role] = tuple(fitting)
    _check_required(table, chosen, ambiguous, content, with_label=labelled and not outputs)
    for name in (*chosen.values(), *outputs):
        if table.columns.count(name) > 1:
            raise DataError(f"{table.path} has two columns {name!r}; rename one of them")
    return Chosen(columns={role: chosen[role] for role in roles if role in chosen},
                  ambiguous=ambiguous)  # fmt: skip


def recognised(table: LabelTable, *, content: Role = "path") -> dict[Role, str]:
    """The column that is known by its name to have a role, of each role that just one may have."""
    roles: tuple[Role, ...] = (content, *SAYS)
    fitting = {role: by_name(role, table.columns) for role in roles}
    return {role: names[0] for role, names in fitting.items() if len(names) == 1}


def by_name(role: Role, columns: Sequence[str], *, but: Sequence[str] = ()) -> list[str]:
    """The columns that have the plainest of the usual names of a role, `but` for some names."""
    for names in NAMES[role]:
        known = set(names) - set(but)
        found = [name for name in dict.fromkeys(columns) if _plain_name(name) in known]
        if found:
            return found
    return []


def _plain_name(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def _existing(table: LabelTable, option: str, name: str) -> str:
    if name in table.columns:
        return name
    raise DataError(
        f"{option} must name a column of {table.path.name}, got {name!r}"
        f"{nearest(name, table.columns)}"
    )


def option_text(content: Role, columns: Mapping[Role, str]) -> str:
    """The options of a data set that say which columns have these roles, as a suite has them."""
    own = [f"{role}: {name}" for role, name in columns.items() if _has_own_option(role, content)]
    rest = [f"{role}: {name}" for role, name in columns.items() if f"{role}: {name}" not in own]
    return ", ".join([*own, *([f"columns: {{{', '.join(rest)}}}"] if rest else [])])


def _has_own_option(role: Role, content: Role) -> bool:
    """Whether a data set has an option for it beside `columns`."""
    return content == "text" and role in ("text", "label")


def _check_required(
    table: LabelTable,
    chosen: Mapping[Role, str],
    ambiguous: Mapping[Role, Sequence[str]],
    content: Role,
    *,
    with_label: bool,
) -> None:
    required: tuple[Role, ...] = (content, "label") if with_label else (content,)
    for role in required:
        if role in ambiguous:
            options = ambiguous[role]
            raise DataError(
                f"{table.path} has {len(options)} columns that may be the {role}: "
                f"{naming(list(options))}; say which one it is, as an option of the data set: "
                f"`{option_text(content, {role: options[0]})}`"
            )
    missing = [role for role in required if role not in chosen]
    if missing:
        option = option_text(content, dict.fromkeys(missing, "COLUMN"))
        raise DataError(
            f"{table.path} has no column that is known as the {' or the '.join(missing)}; its "
            f"columns are {naming([visible(name) for name in table.columns], at_most=20)}. Say "
            f"which one it is, as an option of the data set: `{option}`. The first "
            f"line of a CSV file must name the columns{_instead(table, missing)}"
        )


def _instead(table: LabelTable, missing: Sequence[Role]) -> str:
    """The other data set that may be meant."""
    if "path" in missing and (texts := by_name("text", table.columns)):
        return (
            f". If {visible(texts[0])!r} holds texts to classify, the data set is `name: text`, "
            "with the same path"
        )
    return ""


# Files ----------------------------------------------------------------------------------------


def _open_text(path: Path, content: Role, read: ReadText) -> LabelTable:
    """CSV with any usual separator: the one that gives known columns, else most columns."""
    text, remarks = read(path)
    if not text.strip():
        return LabelTable(path=path, columns=(), cells=lambda _: {})
    usual = "\t" if path.suffix.lower() == ".tsv" else ","
    headers = {separator: _header(path, text, separator) for separator in SEPARATORS}

    def fit(separator: str) -> tuple[int, int, bool]:
        header = headers[separator]
        known = bool(by_name(content, header)) + bool(by_name("label", header))
        return known, len(header), separator == usual

    separator = max(SEPARATORS, key=fit)
    if separator != usual:
        shown = SHOWN_SEPARATORS.get(separator, repr(separator))
        remarks = (*remarks, f"its columns are separated by {shown}")
    columns = tuple(headers[separator])
    quoting = _quoting(text, separator, len(columns))
    if quoting == csv.QUOTE_NONE:
        remarks = (*remarks, "quotation marks in it are characters like others")

    def cells(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        try:
            rows = _parsed(text, separator, len(columns), quoting)
        except ValueError as error:
            # `Error tokenizing data. C error: Expected 3 fields in line 5, saw 4`
            reason = str(error).strip().rpartition("C error: ")[2]
            raise DataError(f"cannot read {path}: {reason}") from error
        found = rows.iloc[1:]
        return {name: cell_texts(path, name, found[columns.index(name)].tolist()) for name in names}

    return LabelTable(path=path, columns=columns, cells=cells, remarks=remarks)


def _parsed(text: str, separator: str, columns: int, quoting: Any) -> pd.DataFrame:
    """The rows, that of the names first; raises `ValueError` for what is no table."""
    import pandas as pd

    return pd.read_csv(
        io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, index_col=False,
        header=None, names=list(range(columns)), quoting=quoting,
    )  # fmt: skip


def _quoting(text: str, separator: str, columns: int) -> int:
    """Whether quotation marks enclose cells: many programs write none around what tabs separate.

    Then a mark at the start of a cell encloses tabs up to the next one, or all that follows.
    """
    if separator != "\t" or '"' not in text:
        return csv.QUOTE_MINIMAL
    try:
        rows = _parsed(text, separator, columns, csv.QUOTE_MINIMAL)
    except ValueError:
        return csv.QUOTE_NONE
    swallowed = any(rows[column].str.contains(separator, regex=False).any() for column in rows)
    return csv.QUOTE_NONE if swallowed else csv.QUOTE_MINIMAL


def _header(path: Path, text: str, separator: str) -> list[str]:
    try:
        header = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator), [])
    except csv.Error as error:
        raise DataError(f"cannot read {path}: {error}") from error
    return [name.strip() for name in header]


def _read_text(path: Path) -> tuple[str, tuple[str, ...]]:
    """The text of the file without a mark of its encoding, and a remark if it is not UTF-8."""
    content = path.read_bytes()
    try:
        text, encoding = unicode_text(content) or (content.decode("cp1252"), "Windows-1252")
    except UnicodeDecodeError:
        raise DataError(f"{path} must be UTF-8 text; save it as CSV in UTF-8") from None
    return text, () if encoding == UTF_8 else (f"it is not UTF-8, and read as {encoding}",)


def _open_lines(path: Path, read: ReadText) -> LabelTable:
    """One JSON object a line; empty lines are none."""
    text, remarks = read(path)
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"line {number} of {path} is no JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataError(f"line {number} of {path} must be a JSON object such as "
                            '{"path": "1.jpg", "label": "ants"}')  # fmt: skip
        rows.append(row)
    columns = tuple(dict.fromkeys(name for row in rows for name in row))

    def cells(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        return {name: cell_texts(path, name, [row.get(name) for row in rows]) for name in names}

    return LabelTable(path=path, columns=columns, cells=cells, remarks=remarks)


def _open_parquet(path: Path) -> LabelTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        columns = tuple(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot read {path}: {error}") from error

    def cells(names: Sequence[str]) -> Mapping[str, Sequence[str]]:
        try:
            # A file alone: where it lies in a folder `x=1`, no further column is made of that.
            rows = pq.ParquetFile(path).read(columns=list(names))
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot read {path}: {error}") from error
        return {name: cell_texts(path, name, rows.column(name).to_pylist()) for name in names}

    return LabelTable(path=path, columns=columns, cells=cells)


def check_no_lists(path: Path, column: str, labels: Sequence[str], *, mend: str) -> None:
    """Raise `DataError`, ending with `mend`, where cells are lists: a sample has one class."""
    listed = next((row for row, text in enumerate(labels, start=1) if text.startswith("[")), None)
    if listed is not None:
        raise DataError(
            f"column {column!r} of {path} must hold text or numbers, got "
            f"{visible(labels[listed - 1])[:SHOWN_CELL]} in row {listed}; {mend}"
        )


def cell_texts(path: Path, column: str, values: Sequence[Any]) -> list[str]:
    """Cells as text, empty where they say nothing; raises `DataError` for others."""
    found = []
    for number, value in enumerate(values, start=1):
        text = json.dumps(value) if isinstance(value, list) else _text(value)
        if text is None:
            shown = visible(repr(value))[:SHOWN_CELL]
            raise DataError(
                f"column {column!r} of {path} must hold text or numbers, got {shown} in row "
                f"{number}"
            )
        found.append(text)
    return found


def _text(value: Any) -> str | None:
    """A cell as text; empty if it says nothing, None if it is neither text nor a number."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, str):
        text = value.strip()
        return "" if text in EMPTY else text
    if isinstance(value, int):
        return str(value)
    return value.isoformat() if hasattr(value, "isoformat") else None


# Words ----------------------------------------------------------------------------------------


def not_chosen(table: LabelTable, chosen: Chosen) -> Iterator[tuple[Role, str]]:
    """The roles that several columns may have, each with a sentence."""
    for role, names in chosen.ambiguous.items():
        yield (
            role,
            f"The {role} may be in {naming(list(map(visible, names)))} of {table.path.name}, so "
            f"none of them is taken; `columns: {{{role}: {visible(names[0])}}}` takes one.",
        )


def taken(table: LabelTable, chosen: Chosen, outputs: Sequence[str] = ()) -> Iterator[str]:
    """What was taken for what, what is left, and how the file was read, in parts of a sentence."""
    parts = (f"{role} from {visible(name)!r}" for role, name in chosen.columns.items())
    used = {*chosen.columns.values(), *outputs}
    unused = [visible(name) for name in table.columns if name not in used]
    if not chosen.is_plain:
        yield f"{table.path.name} has {', '.join(parts)}"
    if unused:
        named = naming([name or "a column without a name" for name in unused], at_most=10)
        yield f"{counted(len(unused), 'column')} of {table.path.name} not used: {named}"
    for remark in table.remarks:
        yield f"{table.path.name}: {remark}"
