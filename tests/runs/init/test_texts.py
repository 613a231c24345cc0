"""`bench init` on texts: that they are known as such, and a suite that loads."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from bench.runs.catalogue import catalogue
from bench.runs.init.choose_texts import choices_for_texts
from bench.runs.init.examine import examine, holds_texts
from bench.runs.init.write import write_suite
from bench.suite import Suite, expand, load_suite
from tests.data.pictures import photograph
from tests.texts import FILLERS, SMALL, tokenizer

COUNT = 40
LENGTH = 24
"""Tokens that the tiny encoder sees."""


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a backbone that is described, and never built."""
    folder = tmp_path_factory.mktemp("encoder")
    config = {"model_type": "bert", **SMALL, "max_position_embeddings": LENGTH}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(tokenizer())
    save_file({"weight": np.zeros(1, np.float32)}, folder / "model.safetensors")
    return f"hf/{folder}"


@pytest.fixture(autouse=True)
def quick(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny encoder, and no measurement of time."""
    for module in ("examine", "choose_texts"):
        monkeypatch.setattr(f"bench.runs.init.{module}.TEXT_BACKBONE", encoder)
    monkeypatch.setattr("bench.runs.init.write.timed", lambda *_: lambda grid: 0.0)


def sentence(number: int) -> str:
    draws = random.Random(number)
    return " ".join(draws.choice(FILLERS) for _ in range(12))


def table(folder: Path, header: str, cell: Any) -> Path:
    path = folder / "reviews.csv"
    rows = "".join(f"{sentence(index)},{cell(index)}\n" for index in range(COUNT))
    path.write_text(f"review,{header}\n{rows}")
    return path


def written(path: Path, output: Path) -> tuple[Suite, str]:
    made = write_suite(path, output)
    loaded = load_suite(made.path, catalogue())
    assert expand(loaded, catalogue())
    return loaded.suite, " ".join(made.path.read_text().replace("#", " ").split())


def test_a_table_of_texts_becomes_a_suite_with_a_baseline(tmp_path: Path) -> None:
    path = table(tmp_path, "sentiment,group", lambda i: f"{('glad', 'sad')[i % 2]},a{i // 4}")
    suite, text = written(path, tmp_path / "proposal.yaml")
    assert suite.dataset.name == "text"
    assert suite.dataset.options["split"] == {"by": "group", "at": None}
    names = {entry.entry.name for entry in suite.axes["strategy"]}
    assert names == {"from_scratch", "linear_probe", "full_finetune", "lora"}
    assert suite.settings["optimizer"] == ("adamw",)
    assert suite.settings["max_length"] == (LENGTH,)
    assert "- {backbone: tfidf, strategy: logistic}" in text
    assert "Median length 14 tokens" in text
    assert "Texts of one of the 10 groups, such as an author, are alike" in text
    assert "image" not in text.replace("test images: differences", "")


def test_numbers_and_several_labels_are_proposed_too(tmp_path: Path) -> None:
    path = table(tmp_path, "stars", lambda i: f"{i / 8}")
    suite, text = written(path, tmp_path / "numbers.yaml")
    assert suite.settings["task"] == ("regression",)
    assert suite.dataset.options["target"] == "stars"
    assert "- {backbone: tfidf, strategy: ridge}" in text
    path = table(tmp_path, "labels", lambda i: ("a|b", "b", "c")[i % 3])
    suite, text = written(path, tmp_path / "labels.yaml")
    assert suite.settings["task"] == ("multi_label",)
    assert "A text may have several of 3 labels" in text


def test_a_folder_of_text_files(tmp_path: Path) -> None:
    for index in range(COUNT):
        place = tmp_path / "letters" / ("glad", "sad")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index}.txt").write_text(sentence(index))
    suite, text = written(tmp_path / "letters", tmp_path / "proposal.yaml")
    assert suite.dataset.name == "text"
    assert "each class" in text
    photograph(1).resize((16, 16)).save(tmp_path / "letters" / "sad" / "0.png")
    assert not holds_texts(tmp_path / "letters")


@pytest.mark.parametrize(
    ("header", "texts"),
    [
        ("text,label", True), ("id,text,label", True), ("文本,标签", True),
        ("path,text,label", False), ("image,description,label", False), ("id,label", False),
    ],
)  # fmt: skip
def test_which_tables_hold_texts(header: str, texts: bool, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"{header}\n")
    assert holds_texts(path) == texts


def test_each_grid_is_done_sooner_than_the_one_before(tmp_path: Path) -> None:
    found = examine(table(tmp_path, "label", lambda i: ("glad", "sad")[i % 2]))
    grids = list(choices_for_texts(found))
    assert all(b.num_epochs <= a.num_epochs for a, b in itertools.pairwise(grids))
    assert len(grids[-1].strategies) == 2
    assert found.latin
