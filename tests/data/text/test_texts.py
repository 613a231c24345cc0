"""The data set `text`: tables, folders and lists of texts as people have them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bench.data import DATASETS, TEST, TRAIN, UNASSIGNED, VAL, TextDataset, open_dataset
from bench.errors import DataError

TEXTS = ['It\'s a "gem", really.', "不错，下次还来", "سيئ للغاية", "awful 😡\nnever again"]
LABELS = ["good", "good", "bad", "bad"]
FRAME = pd.DataFrame({"text": TEXTS, "label": LABELS})


def opened(path: Any = None, **options: Any) -> TextDataset:
    given = {} if path is None else {"path": path if isinstance(path, dict) else str(path)}
    checked = DATASETS.get("text").options(**given, **options)
    dataset = open_dataset("text", checked.model_dump())
    assert isinstance(dataset, TextDataset)
    return dataset


def message_for(path: Any = None, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(path, **options)
    return str(caught.value)


def told(dataset: TextDataset) -> dict[str, str]:
    return {issue.kind: issue.message for issue in dataset.issues}


# Tables ---------------------------------------------------------------------------------------


def test_every_way_to_give_the_same_texts(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    FRAME.to_csv(tmp_path / "b.tsv", index=False, sep="\t", encoding="utf-8-sig")
    FRAME.to_csv(tmp_path / "c.csv", index=False, encoding="utf-16")
    FRAME.to_parquet(tmp_path / "d.parquet")
    FRAME.to_json(tmp_path / "e.jsonl", orient="records", lines=True)
    windows = (tmp_path / "a.csv").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "f.csv").write_bytes(windows)
    plain = opened(lists=FRAME.to_dict("list"))
    assert plain.classes == ("bad", "good")
    assert plain.texts == tuple(TEXTS)
    assert plain.sample_ids == ("000001", "000002", "000003", "000004")
    assert set(plain.splits) == {UNASSIGNED}
    assert plain.issues == ()
    for path in sorted(tmp_path.iterdir()):
        dataset = opened(path)
        assert dataset.texts == plain.texts, path
        assert dataset.fingerprint == plain.fingerprint, path
    assert told(opened(tmp_path / "c.csv")) == {
        "table": "c.csv: it is not UTF-8, and read as UTF-16."
    }


def test_the_fingerprint_tells_texts_apart(tmp_path: Path) -> None:
    lists = FRAME.to_dict("list")
    other = {**lists, "text": [*TEXTS[:3], "awful 😡\nnever  again"]}
    assert opened(lists=other).fingerprint != opened(lists=lists).fingerprint
    composed = {**lists, "text": [*TEXTS[:3], "awful 😡\r\nnever again "]}
    assert opened(lists=composed).fingerprint == opened(lists=lists).fingerprint


def test_what_else_columns_say(tmp_path: Path) -> None:
    path = tmp_path / "reviews.csv"
    path.write_text(
        "Review Text;Stars;Set;Author;Written;Weight\n"
        "so good;5;Training;ann;2024-01-01;2\nso bad;1;test:shop;ben;2024-01-02;1\n"
        "very good;5;test;cid;2024;1\nvery bad;1;train;ann;2023;1\n"
        "fine, good;5;test:shop;dan;2022;1\nugh, bad;1;test;ann;2021;1\n"
    )
    dataset = opened(path, label="Stars", columns={"group": "Author", "time": "Written"})
    assert dataset.classes == ("1", "5")
    assert dataset.splits.tolist() == [TRAIN, TEST, TEST, TRAIN, TEST, TEST]
    assert dataset.test_sets == ("", "shop", "test", "", "shop", "test")
    assert dataset.groups == ("ann", "ben", "cid", "ann", "dan", "ann")
    assert dataset.times is not None
    assert dataset.sample_weights is not None
    assert dataset.sample_weights.tolist() == [2, 1, 1, 1, 1, 1]
    assert "reviews.csv has text from 'Review Text', label from 'Stars'" in told(dataset)["table"]
    assert "Texts have weights in the training loss" in told(dataset)["sample-weights"]


def test_one_table_a_split_has_ids_of_its_own(tmp_path: Path) -> None:
    for name in ("train", "test"):
        FRAME.to_csv(tmp_path / f"{name}.csv", index=False)
    paths = {name: str(tmp_path / f"{name}.csv") for name in ("train", "test")}
    dataset = opened(paths)
    assert dataset.sample_ids[3:5] == ("train/000004", "test/000001")
    assert dataset.splits.tolist() == [TRAIN] * 4 + [TEST] * 4
    assert "val split" not in str(told(dataset))
    assert len(opened(dict.fromkeys(paths, paths["train"]))) == 8
    FRAME[:2].to_csv(tmp_path / "test.csv", index=False)
    assert "class 'bad' has no text in the test split" in message_for(paths)


def test_numbers_and_several_labels() -> None:
    lists = {"text": TEXTS, "stars": [1.5, 2, 3, 4], "tags": ["a|b", "a", "", "b"]}
    numbers = opened(lists=lists, target="stars")
    assert numbers.targets is not None
    assert numbers.targets.values.ravel().tolist() == [1.5, 2, 3, 4]
    several = opened(lists=lists, labels="tags")
    assert several.targets is not None
    assert several.classes == ("a", "b")
    assert several.targets.values.tolist() == [[1, 1], [1, 0], [0, 0], [0, 1]]


def test_texts_that_say_nothing_and_rows_without_a_label_are_left_out_and_told() -> None:
    texts = [*TEXTS, "", "\u200b\x07", "a fine one", "fine &amp; dandy &quot;x&quot;", "Great!"]
    labels = [*LABELS, "good", "bad", "", "good", "good"]
    dataset = opened(lists={"text": texts, "label": labels})
    assert dataset.sample_ids == ("000001", "000002", "000003", "000004", "000008", "000009")
    assert dataset.texts[4] == "fine &amp; dandy &quot;x&quot;"
    messages = [issue.message for issue in dataset.issues]
    assert messages == [
        "1 row left out (no text): row 5 of lists.",
        "1 row left out (no label): row 7 of lists.",
        "1 text left out (empty, or nothing but blanks and signs that show nothing): row 6 of "
        "lists.",
        "1 text of one word or none: row 9 of lists (Great!).",
        "HTML entities (&amp;, &quot;) stay as they are in 1 text; `unescape: true`, as an option "
        "of the data set, makes characters of them: row 8 of lists.",
    ]
    assert dataset.issues[-1].samples == ("000008",)
    unescaped = opened(lists={"text": texts, "label": labels}, unescape=True)
    assert unescaped.texts[4] == 'fine & dandy "x"'
    assert "became characters in 1 text" in told(unescaped)["html"]


def test_control_characters_are_taken_out_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"text,label\nso\x00 \x1b[1mgood,p\nso bad,n\nvery good,p\nvery bad,n\n")
    dataset = opened(path)
    assert dataset.texts[0] == "so [1mgood"
    assert told(dataset)["control-characters"] == (
        "Control characters were taken out of 1 text: row 1 of a.csv."
    )


@pytest.mark.parametrize("last", ['"Great, he said', '"Great" he said', 'he said "Great"'])
def test_quotation_marks_of_tables_with_tabs(tmp_path: Path, last: str) -> None:
    """GLUE and the SMS collection enclose nothing."""
    texts = ['"Well', "so bad", "really bad", last]
    rows = "".join(f"{label}\t{text}\n" for label, text in zip("abab", texts, strict=True))
    (tmp_path / "a.tsv").write_text(f"label\tmessage\n{rows}")
    dataset = opened(tmp_path / "a.tsv")
    assert dataset.texts == tuple(texts)
    assert "quotation marks in it are characters like others" in told(dataset)["table"]


def test_an_encoding_is_detected_and_told(tmp_path: Path) -> None:
    pytest.importorskip("charset_normalizer")
    path = tmp_path / "a.csv"
    lines = "text,label\n这家酒店很好,好评\n服务太差了,差评\n房间干净,好评\n不会再来,差评\n"
    path.write_bytes(lines.encode("gb18030"))
    dataset = opened(path)
    assert dataset.classes == ("好评", "差评")
    assert "a.csv: it is not UTF-8, and read as gb18030 (`encoding: NAME`" in told(dataset)["table"]
    assert opened(path, encoding="gb18030").issues == ()
    assert "must be text in utf-8" in message_for(path, encoding="utf-8")


def test_what_cannot_be_read_has_one_clear_message(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    FRAME.rename(columns={"text": "v2", "label": "v1"}).to_csv(path, index=False)
    assert message_for(path).endswith(
        "has no column that is known as the text or the label; its columns are v2, v1. Say which "
        "one it is, as an option of the data set: `text: COLUMN, label: COLUMN`. The first line of "
        "a CSV file must name the columns"
    )
    assert opened(path, text="v2", label="v1").classes == ("bad", "good")
    assert "text must name a column of a.csv, got 'v3'" in message_for(path, text="v3")
    assert "needs one of path" in message_for()
    assert "lists must have as many values" in message_for(lists={"text": ["a"], "label": []})
    assert "splits names folders" in message_for(path, splits={"train": "a"})
    assert "column 'text' of lists must hold text" in message_for(
        lists={"text": [{}, "b"], "label": ["x", "y"]}
    )
    assert "leave it out" in message_for(lists=FRAME.to_dict("list"), encoding="utf-8")
    both = {"text": TEXTS, "label": LABELS, "stars": [1, 2, 3, 4]}
    assert "give one of them" in message_for(lists=both, label="label", target="stars")
    with pytest.raises(ValueError, match="got 'klingon'"):
        opened(path, encoding="klingon")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "a", "label": ["x"]}) + "\n")
    assert "several labels" in message_for(tmp_path / "b.jsonl")


def test_a_table_of_images_that_holds_texts_is_told(tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match=r"If 'text' holds texts to classify, .* `name: text`"):
        open_dataset("table", {"path": str(tmp_path / "a.csv")})


# Folders --------------------------------------------------------------------------------------


@pytest.fixture
def letters(tmp_path: Path) -> Path:
    root = tmp_path / "letters"
    for split in ("train", "val", "test"):
        for name, text in (("glad", "so glad"), ("sad", "so sad")):
            for number in range(2):
                place = root / split / name / f"{number}.txt"
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(f"{text} {split} {number}\r\n")
    return root


def test_a_folder_of_text_files(letters: Path) -> None:
    (letters / "train" / "sad" / "7").write_text("no suffix")
    (letters / "train" / "sad" / "scan.pdf").write_bytes(b"%PDF\0")
    dataset = opened(letters)
    assert dataset.name == "letters"
    assert dataset.classes == ("glad", "sad")
    assert len(dataset) == 13
    named = dict(zip(dataset.sample_ids, dataset.texts, strict=True))
    assert named["test/glad/1.txt"] == "so glad test 1"
    assert named["train/sad/7"] == "no suffix"
    assert np.bincount(dataset.splits).tolist() == [5, 4, 4]
    assert {TRAIN, VAL, TEST} == set(dataset.splits)
    assert told(dataset) == {
        "not-a-text": "1 file left out (not a text by the suffix): train/sad/scan.pdf."
    }


def test_an_archive_is_the_folder_that_was_packed(letters: Path) -> None:
    packed = letters.parent / "letters.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        for path in letters.rglob("*.txt"):
            archive.write(path, path.relative_to(letters))
    assert opened(packed).fingerprint == opened(letters).fingerprint


def test_files_of_a_folder_tell_their_encoding_together(letters: Path) -> None:
    pytest.importorskip("charset_normalizer")
    texts = ["很好", "这家酒店的优点：便宜", "房间很干净，服务也很周到", "不错，下次还来"]
    for number, text in enumerate(texts):
        (letters / "train" / "glad" / f"zh{number}.txt").write_bytes(text.encode("gb18030"))
    (letters / "train" / "glad" / "utf16.txt").write_text("wide", encoding="utf-16")
    dataset = opened(letters)
    assert set(texts) < set(dataset.texts)
    assert "wide" in dataset.texts
    assert told(dataset)["encoding"].startswith("4 texts not UTF-8, and read as gb18030")


def test_files_that_cannot_be_read_are_left_out_and_told(
    letters: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.data.text.texts.MAX_BYTES", 100)
    (letters / "train" / "sad" / "long.txt").write_text("x" * 101)
    (letters / "train" / "sad" / "blank.txt").write_text(" \n")
    dataset = opened(letters)
    assert len(dataset) == 12
    assert told(dataset)["unreadable"].startswith("1 text left out (larger than ")
    assert "train/sad/blank.txt" in told(dataset)["empty-text"]
    for path in (letters / "val" / "glad").iterdir():
        path.write_text("")
    message = message_for(letters)
    assert "not one is left of class 'glad' in the val split. 1 text left out (larger" in message
    assert "3 texts left out (empty" in message


def test_layouts_are_those_of_image_folders(letters: Path) -> None:
    assert "has no columns: leave out label" in message_for(letters, label="x")
    (letters / "test" / "extra").mkdir()
    (letters / "test" / "extra" / "0.txt").write_text("?")
    assert "class 'extra' has no text in the train split" in message_for(letters)
    assert "holds 1 text but no class folders" in message_for(letters / "test" / "extra")
