"""`bench init` on tables that name no class: the right task, and a suite that loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.data.table_guess import guessed_outputs
from bench.runs.catalogue import catalogue
from bench.runs.init.write import write_suite
from bench.suite import expand, load_suite
from tests.data.pictures import photograph

COUNT = 40


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for index in range(COUNT):
        photograph(index).resize((16, 16)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(autouse=True)
def untimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes its time is tested elsewhere."""
    monkeypatch.setattr("bench.runs.init.write.timed", lambda *_: lambda grid: 0.0)


def table(folder: Path, header: str, cell: Any) -> Path:
    path = folder / "labels.csv"
    rows = "".join(f"{index}.png,{cell(index)}\n" for index in range(COUNT))
    path.write_text(f"path,{header}\n{rows}")
    return path


GUESSES: list[tuple[str, Any, dict[str, Any]]] = [
    ("target", lambda i: 1.5 * i, {"target": "target"}),
    ("label", lambda i: i, {"target": "label"}),
    ("age", lambda i: 20 + i, {"target": "age"}),
    ("age,note", lambda i: f"{20 + i},seen", {"target": "age"}),
    ("x,y", lambda i: f"{i},{2 * i}", {"target": "y"}),
    ("label", lambda i: i % 3, {}),
    ("label", lambda i: ("ant", "bee")[i % 2], {}),
    ("label", lambda i: f"007{i % 2}", {}),
    ("tags,patient", lambda i: f"{('a|b', 'b', 'c')[i % 3]},p{i}", {}),
    ("label", lambda i: ("a|b", "b", "c")[i % 3], {"labels": "label"}),
    ("labels", lambda i: ('"[""a""]"', "[]")[i % 2], {"labels": "labels"}),
    ("cat,dog", lambda i: f"{i % 2},{i // 2 % 2}", {"labels": ["cat", "dog"]}),
    ("label", lambda i: i % 2, {}),
]


@pytest.mark.parametrize(("header", "cell", "expected"), GUESSES, ids=lambda value: str(value)[:20])
def test_what_a_table_seems_to_say(
    header: str, cell: Any, expected: dict[str, Any], tmp_path: Path
) -> None:
    assert guessed_outputs(table(tmp_path, header, cell)) == expected


@pytest.mark.parametrize(
    ("header", "cell", "task", "said"),
    [
        ("age,patient", lambda i: f"{20 + i % 25},p{i // 4}", "regression", "numbers of many"),
        ("tags,labels", lambda i: f"x,{('a|b', 'b', 'c')[i % 3]}", "multi_label", "of 3 labels"),
        ("cat,dog", lambda i: f"{i % 2},{i // 2 % 2}", "multi_label", "of 2 labels: cat, dog"),
    ],
)
def test_the_suite_asks_for_it(
    header: str, cell: Any, task: str, said: str, photos: Path, tmp_path: Path
) -> None:
    path = table(photos, header, cell)
    written = write_suite(path, tmp_path / "proposal.yaml")
    text = written.path.read_text()
    loaded = load_suite(written.path, catalogue())
    assert loaded.suite.settings["task"] == (task,)
    assert expand(loaded, catalogue())
    assert said in " ".join(text.replace("#", " ").split())
    for word in ("accuracy", "class", "shots"):
        comments = text.split("strategy:")[0]
        assert word not in comments.replace("classes, take out", ""), word
    assert "accuracy" not in written.summary
