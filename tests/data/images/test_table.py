"""Tables of labels as people have them: written by hand, by spreadsheets, by other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.data import TEST, TRAIN, UNASSIGNED, VAL, ImageDataset, open_dataset, prepare_images
from bench.data.images.prepared import ImageData
from bench.errors import DataError
from tests.data.pictures import photograph

LABELS = {"a.png": "ants", "b.png": "ants", "c.png": "bees", "sub/d.png": "bees"}
PLAIN = "path,label\n" + "".join(f"{path},{label}\n" for path, label in LABELS.items())


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for seed, name in enumerate(LABELS):
        photograph(seed).save(folder / name)
    return folder


def opened(path: Any, content: str | bytes | None = None, **options: Any) -> ImageDataset:
    if isinstance(content, str):
        content = content.encode()
    if content is not None:
        path.write_bytes(content)
    named = {k: str(v) for k, v in path.items()} if isinstance(path, dict) else str(path)
    dataset = open_dataset("table", {"path": named, **options})
    assert isinstance(dataset, ImageDataset)
    return dataset


def message_for(path: Any, content: str | bytes | None = None, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(path, content, **options)
    return str(caught.value)


def told(dataset: ImageDataset) -> str:
    return " ".join(issue.message for issue in dataset.issues)


def as_text(dataset: ImageDataset) -> dict[str, str]:
    classes = dataset.classes
    return {
        sample: classes[label]
        for sample, label in zip(dataset.sample_ids, dataset.labels, strict=True)
    }


def test_a_plain_table(photos: Path) -> None:
    dataset = opened(photos / "labels.csv", PLAIN)
    assert (dataset.name, dataset.classes, dataset.issues) == ("labels", ("ants", "bees"), ())
    assert as_text(dataset) == LABELS
    assert set(dataset.splits) == {UNASSIGNED}
    assert (dataset.groups, dataset.times) == (None, None)
    assert np.array_equal(dataset.read([3])[0], np.asarray(photograph(3)))


ROWS = [{"path": path, "label": label} for path, label in LABELS.items()]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bom.csv", b"\xef\xbb\xbf" + PLAIN.encode()),
        ("wide.csv", PLAIN.encode("utf-16")),
        ("semicolon.csv", PLAIN.replace(",", ";")),
        ("tabs.csv", PLAIN.replace(",", "\t")),
        ("tabs.tsv", PLAIN.replace(",", "\t")),
        ("windows.csv", PLAIN.replace("\n", "\r\n")),
        ("spaces.csv", PLAIN.replace(",", " , ")),
        ("quoted.csv", PLAIN.replace("path,label", 'path,label,"a note\nof two lines"')
         .replace("ants\n", 'ants,"one, two\nthree"\n').replace("bees\n", "bees,\n")),
        ("lines.jsonl", "\n".join(map(json.dumps, ROWS))),
        ("lines.ndjson", "\n\n".join(map(json.dumps, ROWS)) + "\n"),
    ],
)  # fmt: skip
def test_every_way_to_write_the_same(photos: Path, name: str, content: str | bytes) -> None:
    assert as_text(opened(photos / name, content)) == LABELS


def test_parquet_is_the_same_data_set(photos: Path) -> None:
    frame = pd.DataFrame({"image_id": list(LABELS), "class": list(LABELS.values()), "age": 3})
    frame.to_parquet(photos / "labels.parquet")
    dataset = opened(photos / "labels.parquet")
    assert as_text(dataset) == LABELS
    assert dataset.fingerprint == opened(photos / "labels.csv", PLAIN).fingerprint
    assert told(dataset) == (
        "labels.parquet has path from 'image_id', label from 'class'; 1 column of labels.parquet "
        "not used: age."
    )


def test_splits_groups_and_times(photos: Path) -> None:
    dataset = opened(
        photos / "labels.csv",
        "Image File;Diagnosis;Set;Patient ID;Date\n"
        "a.png;ants;Training;p1;2024-05-31\nb.png;ants;testing;p2;2024-06-01T10:00+02:00\n"
        "c.png;bees;train;p1;2024:01:01 12:00:00\nsub/d.png;bees;test;p3;2023\n",
    )
    assert dataset.splits.tolist() == [TRAIN, TEST, TRAIN, TEST]
    assert dataset.groups == ("p1", "p2", "p1", "p3")
    assert dataset.times is not None
    moments = pd.to_datetime(
        ["2024-05-31", "2024-06-01T08:00", "2024-01-01T12:00", "2023-01-01"], format="ISO8601"
    )
    assert dataset.times.tolist() == (moments.astype("datetime64[us]").astype("int64")).tolist()
    assert "split from 'Set', group from 'Patient ID', time from 'Date'" in told(dataset)
    assert "separated by ';'" in told(dataset)


def test_groups_and_times_are_in_the_fingerprint_and_in_prepared_images(photos: Path) -> None:
    text = PLAIN.replace("label\n", "label,group,time\n").replace("s\n", "s,{},2024-01-0{}\n")
    (photos / "b.png").write_bytes(b"damaged")
    datasets = [
        opened(photos / "labels.csv", text.format(*values))
        for values in (("p", 1, "q", 2, "r", 3, "s", 4), ("p", 1, "q", 2, "r", 3, "r", 4))
    ]
    assert len({each.fingerprint for each in datasets}) == 2
    data = ImageData.open(prepare_images(datasets[0], image_size=8, resize="squash"))
    assert datasets[0].times is not None
    assert data.times is not None
    assert data.groups == ("p", "r", "s")
    assert data.times.tolist() == datasets[0].times[[0, 2, 3]].tolist()


def test_one_table_a_split(photos: Path) -> None:
    lines = PLAIN.splitlines(keepends=True)
    tables = {"train": photos / "tr.csv", "test": photos / "te.csv"}
    tables["train"].write_text(lines[0] + lines[1] + lines[3])
    tables["test"].write_text(lines[0] + lines[2] + lines[4])
    dataset = opened(tables)
    assert dataset.splits.tolist() == [TRAIN, TEST, TRAIN, TEST]
    assert dataset.name == "photos"
    tables["test"].write_text(lines[0] + lines[1] + lines[4])
    assert "a.png is in row 1 of tr.csv (split train) and row 1 of te.csv (split test)" in (
        message_for(tables)
    )


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (("10", "9", "10", "9"), ("9", "10")),
        (("1.0", "0", "1", "0.0"), ("0", "1")),
        (("007", "7", "007", "7"), ("007", "7")),
        (("NA", "None", "NA", "None"), ("NA", "None")),
        (("ja ", " nein", "ja", "nein"), ("ja", "nein")),
    ],
)
def test_labels_may_be_numbers_or_texts(
    photos: Path, labels: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    rows = "".join(f"{p},{label}\n" for p, label in zip(LABELS, labels, strict=True))
    assert opened(photos / "labels.csv", "path,label\n" + rows).classes == classes


def test_what_says_nothing_is_left_out_and_told(photos: Path) -> None:
    table = photos / "labels.csv"
    more = "e.png,\nf.png,nan\n,ants\ngone.png,ants\na.png,ants\nlast.png\n"
    dataset = opened(table, PLAIN + more)
    assert as_text(dataset) == LABELS
    assert {issue.kind: issue.count for issue in dataset.issues[1:]} == {
        "unlabelled": 1, "missing-file": 1, "repeated": 1,
    }  # fmt: skip
    assert "3 rows left out (no label): e.png, f.png, last.png." in told(dataset)
    assert "1 row left out (no path): row 7 of labels.csv." in told(dataset)
    assert "1 row left out (the file is not there): gone.png." in told(dataset)


def test_paths_start_at_the_table_at_root_or_at_home(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "elsewhere" / "labels.csv"
    table.parent.mkdir()
    assert as_text(opened(table, PLAIN, root=str(photos))) == LABELS
    monkeypatch.setenv("HOME", str(tmp_path))
    text = PLAIN.replace("a.png", "~/photos/a.png").replace("b.png", str(photos / "b.png"))
    text = text.replace("c.png", "../photos/sub/../c.png").replace("sub/d", "../photos/sub\\d")
    dataset = opened(table, text)
    assert as_text(dataset) == LABELS
    assert "Suffix or separators of 1 path were completed: ../photos/sub\\d.png." in told(dataset)


def test_names_without_suffix_are_completed(photos: Path) -> None:
    table = photos / "labels.csv"
    assert as_text(opened(table, PLAIN.replace(".png", ""))) == LABELS
    (photos / "a.jpg").write_bytes((photos / "a.png").read_bytes())
    assert "a (row 1 of labels.csv) may be a.jpg or a.png" in message_for(
        table, PLAIN.replace(".png", "")
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "labels.csv is empty"),
        ("path,label\n", "has no rows"),
        ("path,label\n,\n", "no row of"),
        ("a.png,ants\nb.png,bees\n", "no column that is known as the path or the label"),
        ("path,diagnoses\na.png,ants\n", "`columns: {label: COLUMN}`"),
        ("path,label,class\na.png,ants,1\n", "2 columns that may be the label: label, class"),
        ("path,label,label\na.png,ants,1\n", "two columns 'label'"),
        ("path,label\na.png,ants,bees\n", "Expected 2 fields in line 2, saw 3"),
        ('path,label\na.png,"ants\n', "EOF inside string"),
        ("path,label\na.png,ants\nb.png,ants\n", "has only 'ants'"),
        ("path,label\na.png,1.5\nb.png,2.5\nc.png,2.25\n", "3 different labels in 3 rows"),
        (PLAIN + "a.png,bees\n", "row 1 of labels.csv (label ants) and row 5 of labels.csv"),
        ("path,label\nx.png,ants\ny.png,bees\n", "none of the 2 files"),
        ("path,label\nhttp://x/a.png,ants\nb.png,bees\n", "must name files on this machine"),
        ("path,label,split\na.png,ants,train\nb.png,bees,holdback\n", "'holdback' (row 2)"),
        ("path,label,split\na.png,ants,train\nb.png,ants,\nc.png,bees,test\n", "got '' (row 2)"),
        (b"path,label\n\x81.png,ants\n", "must be UTF-8"),
    ],
)  # fmt: skip
def test_one_clear_message(photos: Path, content: str | bytes, message: str) -> None:
    assert message in message_for(photos / "labels.csv", content)


def test_a_class_that_a_split_lacks(photos: Path) -> None:
    text = PLAIN.replace("label\n", "label,split\n").replace("ants\n", "ants,train\n")
    found = message_for(photos / "labels.csv", text.replace("bees\n", "bees,test\n"))
    assert "class 'bees' has no image in the train split" in found
    assert "class 'ants' has no image in the test split" in found


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]\n", "line 1 of"),
        ('{"path": "a.png", "label": "x"}\n{"path"', "line 2 of"),
        ('{"path": "a.png", "label": ["ants", "bees"]}\n', "must hold text or numbers"),
        ("[" * 100_000, "line 1 of"),
    ],
)
def test_lines_of_json_that_are_none(photos: Path, content: str, message: str) -> None:
    assert message in message_for(photos / "labels.jsonl", content)


def test_damaged_parquet(photos: Path) -> None:
    assert "cannot read" in message_for(photos / "labels.parquet", b"PAR1 and no more")


def test_columns_may_be_named(photos: Path) -> None:
    table, text = photos / "labels.csv", PLAIN.replace("path,label", "image,what")
    assert as_text(opened(table, text, columns={"label": "what"})) == LABELS
    assert "did you mean 'what'" in message_for(table, text, columns={"label": "waht"})
    folds = PLAIN.replace("label\n", "label,fold\n").replace("s\n", "s,1\n")
    dataset = opened(table, folds)
    assert set(dataset.splits) == {UNASSIGNED}
    assert "1 column of labels.csv not used: fold" in told(dataset)
    assert "got '1' (row 1)" in message_for(table, folds, columns={"split": "fold"})


def test_optional_columns_that_cannot_be_known_are_told(photos: Path) -> None:
    text = PLAIN.replace("label\n", "label,camera,site,date\n")
    text = text.replace("ants\n", "ants,1,x,2024-01-01\n").replace("bees\n", "bees,2,,01/02/2024\n")
    dataset = opened(photos / "labels.csv", text)
    assert (dataset.groups, dataset.times) == (None, None)
    assert "The group may be in camera, site of labels.csv, so none of them is taken" in told(
        dataset
    )
    assert "2 rows without a date such as 2024-06-01: c.png (01/02/2024)" in told(dataset)
    chosen = opened(photos / "labels.csv", columns={"group": "camera", "time": None})
    assert chosen.groups == ("1", "1", "2", "2")
    incomplete = opened(photos / "labels.csv", columns={"group": "site", "time": None})
    assert incomplete.groups is None
    assert "The groups are not taken, 2 rows without one" in told(incomplete)


def test_validation_alone_becomes_the_test_split(photos: Path) -> None:
    text = PLAIN.replace("label\n", "label,split\n")
    for old, new in (("a.png,ants", "train"), ("b.png,ants", "valid"), ("c.png,bees", "train"),
                     ("d.png,bees", "valid")):  # fmt: skip
        text = text.replace(old, f"{old},{new}")
    dataset = opened(photos / "labels.csv", text)
    assert dataset.splits.tolist() == [TRAIN, VAL, TRAIN, VAL]
    assert "val split is used as the test split" in told(dataset)


def test_a_split_may_name_a_test_set(photos: Path) -> None:
    rows = ["path,label,split"]
    for index, split in enumerate(("train", "test:far", "Test : near", "test")):
        for label in ("ants", "bees"):
            name = f"{index}{label}.png"
            photograph(index).save(photos / name)
            rows.append(f"{name},{label},{split}")
    dataset = opened(photos / "labels.csv", "\n".join(rows))
    assert dataset.test_sets is not None
    found = dict(zip(dataset.sample_ids, dataset.test_sets, strict=True))
    assert [found[f"{index}ants.png"] for index in range(4)] == ["", "far", "near", "test"]
    assert list(dataset.splits).count(TEST) == 6
    plain = opened(
        photos / "labels.csv", "\n".join(rows).replace(":far", "").replace(" : near", "")
    )
    assert plain.test_sets is None
    assert plain.fingerprint != dataset.fingerprint
    assert "must be a name such as train, val, test or test:NAME" in message_for(
        photos / "labels.csv", "\n".join(rows).replace("test:far", "test:")
    )
    data = ImageData.open(prepare_images(dataset, image_size=16, resize="squash"))
    assert data.test_sets == dataset.test_sets
