"""Texts that are classified: where they come from, and that a trial answers as it did."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bench
from bench.data.dataset import RGB, DecodeFailure
from bench.data.inputs import Preprocessing
from bench.errors import BenchError
from bench.models.tensor_files import read_tensor_file, write_tensor_file
from bench.prediction import chosen_trial
from bench.prediction.load import open_trial
from bench.prediction.texts import EMPTY, TOO_LONG, texts_of
from tests.cli.test_cli import call
from tests.prediction.texts import LENGTH, stored, trial_of
from tests.texts import tokenizer

pytestmark = pytest.mark.xdist_group("texts")


def given(what: Any, column: str | None = None, **options: Any) -> dict[str, str]:
    """Each text by its name; of one that is none, the reason."""
    found = ((each.name, each.read(RGB)) for each in texts_of(what, column, **options))
    return {name: own.reason if isinstance(own, DecodeFailure) else str(own) for name, own in found}


# Where they come from -------------------------------------------------------------------------


def test_a_string_is_a_text_unless_it_names_a_file(tmp_path: Path) -> None:
    lines = tmp_path / "lines.txt"
    lines.write_text("so good\n\nso bad\n\x01\u200b\n", encoding="utf-8")
    assert given("so good") == {"0": "so good"}
    assert given(["a\r\nb ", "", "e\u0301 \x07"]) == {"0": "a\nb", "1": EMPTY, "2": "é"}
    of_lines = {f"{lines}:1": "so good", f"{lines}:3": "so bad", f"{lines}:4": EMPTY}
    for name in (lines, str(lines)):
        assert given(name) == of_lines
    assert given(["one", str(lines)]) == {"0": "one", **of_lines}
    assert given("-", listed=io.StringIO("a\nb")) == {
        "standard input:1": "a",
        "standard input:2": "b",
    }
    assert given("see reviews.csv") == {"0": "see reviews.csv"}
    assert given("x" * 5000) == {"0": "x" * 5000}  # longer than any name


def test_tables_and_folders_are_read_as_data_sets_read_them(tmp_path: Path) -> None:
    frame = pd.DataFrame({"id": ["7", "8"], "Review": ["schön", " "]})
    frame.to_csv(tmp_path / "a.csv", index=False, encoding="utf-16")
    frame.to_csv(tmp_path / "b.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "c.jsonl", orient="records", lines=True)
    frame.to_parquet(tmp_path / "d.parquet")
    for path in sorted(tmp_path.iterdir()):
        assert given(path) == {f"{path}:1": "schön", f"{path}:2": EMPTY}
        assert given(path, "id") == {f"{path}:1": "7", f"{path}:2": "8"}
    folder = tmp_path / "letters" / "good"
    folder.mkdir(parents=True)
    (folder / "one.txt").write_text("a whole\ntext")
    (folder / ".hidden.txt").write_text("no")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (found,) = texts_of(folder.parent)
    assert (found.name, found.folder) == (str(folder / "one.txt"), "good")
    assert found.read(RGB) == "a whole\ntext"


@pytest.mark.parametrize(
    ("what", "column", "message"),
    [
        ("none.csv", None, "there is no file or folder none.csv"),
        (Path("none"), None, "there is no file or folder none"),
        ("{}/a.csv", "txt", "has no column 'txt'; did you mean 'text1'?"),
        ("{}/a.csv", None, "it cannot be told which column of"),
        ("{}/a.txt", "text", "has a text a line and no columns"),
        ("{}/a.png", None, "must be a folder, or a file that ends in .txt, .csv"),
        ("{}/empty", None, "has no text in it or below it"),
        (7, None, "only texts, and paths of files with texts, can be classified, got int"),
        ([b"x"], None, "got bytes"),
    ],
)
def test_what_has_no_texts_is_one_message(
    tmp_path: Path, what: Any, column: str | None, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("a.csv", "a.txt", "a.png"):
        (tmp_path / name).write_text("text1,other\na,b\n")
    what = what.format(tmp_path) if isinstance(what, str) else what
    with pytest.raises(BenchError) as error:
        given(what, column)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_text_that_is_too_long_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.prediction.texts.MAX_CHARACTERS", 100)
    (tmp_path / "a.txt").write_text("a" * 205 + "\nshort")
    assert list(given(tmp_path / "a.txt").values()) == [TOO_LONG, "short"]


# What a trial says of them --------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["linear_probe", "full_finetune"])
def test_an_opened_trial_predicts_the_same_bits(text_run: bench.Run, strategy: str) -> None:
    trial = trial_of(text_run, strategy)
    texts, wanted = stored(text_run, trial)
    model = bench.load(text_run.folder, trial, device="cpu")
    assert np.array_equal(model.probabilities(texts), wanted)
    assert np.array_equal(np.float32(_numbers(model.predict(texts))), wanted)
    alone = np.concatenate([model.probabilities(text) for text in texts])
    assert np.allclose(alone, wanted, atol=1e-6)
    assert np.allclose(model.answers_of_prepared(model.inputs(texts).numpy()), wanted, atol=1e-6)


def _numbers(table: pd.DataFrame) -> np.ndarray:
    return table[[name for name in table if name.startswith("probability_")]].to_numpy()


def test_a_checkpoint_needs_nothing_beside_the_run(text_run: bench.Run, tmp_path: Path) -> None:
    """Neither the file of vectors, nor the cache with what was made of it."""
    wanted = bench.load(text_run.folder, device="cpu").probabilities(["good", "a bad film"])
    moved = Path(shutil.copytree(text_run.folder, tmp_path / "moved"))
    vectors = text_run.folder.parents[1] / "vectors.txt"
    hidden = vectors.rename(vectors.with_suffix(".away"))
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("BENCH_CACHE", str(tmp_path / "cache"))
            found = bench.load(moved, device="cpu").probabilities(["good", "a bad film"])
    finally:
        hidden.rename(vectors)
    assert np.array_equal(found, wanted)
    assert not (tmp_path / "cache").exists()


def test_what_is_no_text_has_a_reason_and_what_is_cut_is_told(
    text_run: bench.Run,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    long = "the plot " * LENGTH
    texts = ["good [b]film", "", long, "\x1b[2J فيلم جيد"]
    code, out, err = call(capsys, monkeypatch, "predict", text_run.folder, *texts)
    assert code == 1
    assert "good [b]film" in out
    assert "\x1b" not in out
    assert f"not read 1: {EMPTY}" in err
    assert f"of 1 of 4 texts the network does not see the end: it takes {LENGTH} tokens" in err
    found = bench.predict(text_run.folder, texts, device="cpu")
    assert (found.count, found.failures, found.cut) == (4, 1, 1)
    assert list(found.table["failure"].fillna("")) == ["", EMPTY, "", ""]
    pd.DataFrame({"a": texts[::2], "b": texts[::2]}).to_csv(tmp_path / "t.csv", index=False)
    arguments = ("predict", text_run.folder, tmp_path / "t.csv")
    code, _, err = call(capsys, monkeypatch, *arguments)
    assert (code, "give --column NAME; it has a, b" in err) == (2, True)
    out_file = tmp_path / "out.csv"
    code, out, _ = call(capsys, monkeypatch, *arguments, "--column", "b", "--out", out_file)
    assert (code, "2 rows: " in out) == (0, True)
    assert list(pd.read_csv(out_file)["path"]) == [f"{tmp_path / 't.csv'}:{row}" for row in (1, 2)]


def test_probabilities_of_what_is_no_text_are_refused(text_run: bench.Run) -> None:
    model = bench.load(text_run.folder, device="cpu")
    for what, message in ((["good", " "], EMPTY), ([3], "a text must be a str, got int")):
        with pytest.raises(BenchError, match=message):
            model.probabilities(what)


# Run folders of strangers ---------------------------------------------------------------------

HUGE = json.dumps({"words": 10**9, "dimensions": 10**5, "pooling": "mean"})
NETWORK_LIES = [
    ("described", HUGE), ("described", "{}"), ("described", "no json"), ("described", None),
    ("backbone", "hf/someone/else"), ("backbone", "resnet18"), ("image_size", 10**9),
]  # fmt: skip
INPUT_LIES = [
    ("tokenizer", "{}"), ("tokenizer", None), ("tokenizer", 7), ("kind", "image"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [("model", *lie) for lie in NETWORK_LIES] + [("preprocessing", *lie) for lie in INPUT_LIES],
)
def test_a_checkpoint_that_lies_is_one_message(
    text_run: bench.Run, tmp_path: Path, part: str, name: str, value: Any
) -> None:
    run, chosen, path = _strangers(text_run, tmp_path)
    _rewritten(path, part, lambda content: content.update({name: value}))
    with pytest.raises(BenchError) as error:
        open_trial(run, chosen, device="cpu").probabilities(["a good film"])
    assert len(str(error.value).splitlines()) == 1


def test_a_tokenizer_of_another_network_is_a_message(text_run: bench.Run, tmp_path: Path) -> None:
    """Ids far above all that the network knows: it has no vector for them."""
    own = json.loads(tokenizer())
    own["model"]["vocab"] = {word: at + 10**6 for word, at in own["model"]["vocab"].items()}
    other = Preprocessing(
        kind="text", size=LENGTH, classes=("bad", "good"), tokenizer=json.dumps(own)
    )
    run, chosen, path = _strangers(text_run, tmp_path)
    _rewritten(path, "preprocessing", lambda content: content.update(json.loads(other.to_json())))
    model = open_trial(run, chosen, device="cpu")
    assert np.isfinite(model.probabilities(["good"])).all()


def _strangers(run: bench.Run, folder: Path) -> tuple[bench.Run, Any, Path]:
    copied = bench.read_run(shutil.copytree(run.folder, folder / "run"))
    chosen = chosen_trial(copied)
    return copied, chosen, copied.folder / "checkpoints" / f"{chosen.id}.safetensors"


def _rewritten(path: Path, part: str, change: Callable[[dict[str, Any]], None]) -> None:
    tensors, metadata = read_tensor_file(path)
    content = json.loads(metadata[part])
    change(content)
    metadata = {**metadata, part: json.dumps(content)}
    metadata.pop("crc32")
    write_tensor_file({name: own.clone() for name, own in tensors.items()}, path, metadata)
