"""Tables of numbers and of several labels an image, as people have them, and hostile ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.data import ImageDataset, label_text, open_data, open_dataset, prepare, target_task_of
from bench.errors import DataError
from tests.data.pictures import photograph

COUNT = 8


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(COUNT):
        photograph(index).save(folder / f"{index}.png")
    return folder


def table(header: str, cells: list[str]) -> str:
    return f"path,{header}\n" + "".join(f"{i}.png,{cell}\n" for i, cell in enumerate(cells))


def opened(folder: Path, content: str, name: str = "t.csv", **options: Any) -> ImageDataset:
    path = folder / name
    path.write_text(content)
    dataset = open_dataset("table", {"path": str(path), **options})
    assert isinstance(dataset, ImageDataset)
    return dataset


def message(folder: Path, content: str, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(folder, content, **options)
    return str(caught.value)


def texts(dataset: ImageDataset) -> list[str]:
    return [label_text(dataset, index) for index in range(len(dataset))]


AGES = ["31", "4.5", "-2", "1e2", "31", "7", "8", "9"]


def test_numbers(photos: Path) -> None:
    dataset = opened(photos, table("age", AGES), target="age")
    assert target_task_of(dataset) == "regression"
    assert dataset.classes == ("age",)
    assert dataset.targets is not None
    assert dataset.targets.values[:, 0].tolist() == [float(text) for text in AGES]
    assert texts(dataset)[1] == "age 4.5"


def test_several_numbers_and_what_is_not_used_is_told(photos: Path) -> None:
    dataset = opened(photos, table("x,y,z", [f"{i},{-i},0" for i in range(8)]), target=["y", "x"])
    assert dataset.classes == ("y", "x")
    assert dataset.targets is not None
    assert dataset.targets.values[3].tolist() == [-3, 3]
    assert any("not used: z" in issue.message for issue in dataset.issues)


def test_prepared_images_keep_their_numbers(photos: Path) -> None:
    dataset = opened(photos, table("age", AGES), target="age")
    data = open_data(prepare(dataset, size=32, resize="squash"))
    assert dataset.targets is not None
    assert data.targets is not None
    assert np.array_equal(data.targets.values, dataset.targets.values)
    other = opened(photos, table("age", [*AGES[:-1], "9.5"]), target="age")
    assert other.fingerprint != dataset.fingerprint


@pytest.mark.parametrize("missing", ["", "nan", "NaN"])
def test_rows_without_a_number_are_left_out_and_told(photos: Path, missing: str) -> None:
    dataset = opened(photos, table("age", [*AGES[:-1], missing]), target="age")
    assert len(dataset) == COUNT - 1
    assert any(
        "no target" in issue.message and "7.png" in issue.message for issue in dataset.issues
    )


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("old", "column 'age' of .* in row 8 must be a number, got 'old'"),
        ('"3,5"', "numbers have a point"),
        ("inf", "must be a finite number"),
        ("-Infinity", "must be a finite number"),
        ("NAN", "must be a finite number"),
        ("1e39", "single precision"),
    ],
)
def test_what_is_no_number_is_refused_with_its_row(photos: Path, cell: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        opened(photos, table("age", [*AGES[:-1], cell]), target="age")


def test_a_target_that_says_nothing_is_refused(photos: Path) -> None:
    assert "is 5 for all 8 samples" in message(photos, table("n", ["5"] * 8), target="n")
    assert "both a path and a value" in message(photos, table("n", [""] * 8), target="n")
    assert "nothing to predict" in message(photos, table("n", ["5"]), target="n")


def test_columns_that_are_not_there_or_named_twice(photos: Path) -> None:
    content = table("age", AGES)
    assert (
        "target or labels must name a column of t.csv, got 'agee'; did you mean 'age'"
        in message(photos, content, target="agee")
    )
    assert "each once" in message(photos, content, target=["age", "age"])
    assert "at least one column" in message(photos, content, target=[])
    assert "give one of the two" in message(photos, content, target="age", labels="age")
    both: dict[str, Any] = {"columns": {"label": "age"}, "target": "age"}
    assert "give one of them" in message(photos, content, **both)


def test_a_file_with_two_numbers_is_refused(photos: Path) -> None:
    content = table("age", AGES) + "0.png,32\n"
    assert "31.0" in message(photos, content, target="age")


def test_numbers_taken_for_classes_name_the_task(photos: Path) -> None:
    said = message(photos, table("target", ["1.5", "2.5", "3.5", "4", "5", "6", "7", "8"]))
    assert "task: regression" in said
    assert "target: COLUMN" in said


# Labels ---------------------------------------------------------------------------------------

TAGS = ["cat|dog", "cat", "", "dog", "cat | dog", "dog", "cat", "cat"]
EXPECTED = ["cat, dog", "cat", "no label", "dog", "cat, dog", "dog", "cat", "cat"]


@pytest.mark.parametrize(
    "cells",
    [
        TAGS,
        [text.replace("|", ";") for text in TAGS],
        ['"[""cat"",""dog""]"', '"[""cat""]"', "[]", *TAGS[3:]],
        [text.replace("dog", " dog |dog") for text in TAGS],
    ],
    ids=["bars", "semicolons", "lists", "repeats"],
)
def test_labels_in_one_column(photos: Path, cells: list[str]) -> None:
    dataset = opened(photos, table("tags", cells), labels="tags")
    assert target_task_of(dataset) == "multi_label"
    assert texts(dataset) == EXPECTED


@pytest.mark.parametrize(("yes", "no"), [("1", "0"), ("True", "false"), ("1.0", "0.0")])
def test_labels_in_columns_of_their_own(photos: Path, yes: str, no: str) -> None:
    cells = [f"{yes if 'cat' in text else no},{yes if 'dog' in text else no}" for text in TAGS]
    dataset = opened(photos, table("cat,dog", cells), labels=["cat", "dog"])
    assert texts(dataset) == EXPECTED


def test_labels_in_lists_of_parquet_and_json(photos: Path) -> None:
    tags = [text.replace(" ", "").split("|") if text else [] for text in TAGS]
    rows = pd.DataFrame({"path": [f"{i}.png" for i in range(COUNT)], "tags": tags})
    rows.to_parquet(photos / "t.parquet")
    rows.to_json(photos / "t.jsonl", orient="records", lines=True)
    for name in ("t.parquet", "t.jsonl"):
        path = str(photos / name)
        dataset = open_dataset("table", {"path": path, "labels": "tags"})
        assert isinstance(dataset, ImageDataset)
        assert texts(dataset) == EXPECTED


def test_rows_without_an_answer_are_left_out(photos: Path) -> None:
    cells = ["1,0", "0,1", "1,1", "0,0", ",1", "1,0", "0,1", "1,1"]
    dataset = opened(photos, table("cat,dog", cells), labels=["cat", "dog"])
    assert len(dataset) == COUNT - 1
    assert any("no labels" in issue.message for issue in dataset.issues)


@pytest.mark.parametrize(
    ("header", "cells", "labels", "said"),
    [
        ("cat,dog", ["1,2"] * 8, ["cat", "dog"], "must say 1 or 0"),
        ("cat,dog", ["1,0", "0,0"] * 4, ["cat", "dog"], "none of the 8 samples.*'dog'"),
        ("cat,dog", ["1,1", "0,1"] * 4, ["cat", "dog"], "all of the 8 samples.*'dog'"),
        ("tags", [""] * 8, "tags", "no row has a label"),
        ("tags", [f"t{i}|u{i}" for i in range(8)], "tags", "too many to learn"),
        ("tags", ['"[""cat"",]"', *TAGS[1:]], "tags", "must be a JSON list"),
        ("tags", ['"[[1]]"', *TAGS[1:]], "tags", "must be a JSON list"),
    ],
)
def test_labels_that_mean_nothing_are_refused(
    photos: Path, header: str, cells: list[str], labels: Any, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        opened(photos, table(header, cells), labels=labels)


def test_lists_taken_for_classes_name_the_task(photos: Path) -> None:
    said = message(photos, table("label", ['"[""cat""]"', *TAGS[1:]]))
    assert "task: multi_label" in said
