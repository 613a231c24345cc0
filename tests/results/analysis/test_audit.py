"""What an audit names, and why: labels, pairs, single images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.errors import BenchError
from bench.results.analysis.audit import Suspect, find_suspects
from tests.results.audited_run import audited_run

PREDICTED = {
    "a/1": (0, 0.1),
    "a/2": (0, 0.2),
    "a/3": (0, 0.3),
    "a/4": (0, 0.8),
    "a/5": (0, 0.9),
    "b/1": (1, 0.9),
    "b/2": (1, 0.6),
    "b/3": (1, 0.7),
    "b/4": (1, 0.2),
}


def issue(kind: str, samples: Sequence[str], count: int | None = None) -> Mapping[str, Any]:
    return {
        "kind": kind,
        "message": "made up",
        "count": len(samples) if count is None else count,
        "samples": list(samples),
    }


def suspects(folder: Path, *issues: Mapping[str, Any]) -> list[Suspect]:
    run = audited_run(folder, {(0, None): PREDICTED}, data={"issues": list(issues)})
    return [each for each in find_suspects(run).suspects if each.reason != "label error"]


def test_label_errors_come_first_the_worst_of_them_too(tmp_path: Path) -> None:
    uniform = issue("uniform", ["a/1"])
    run = audited_run(tmp_path, {(0, None): PREDICTED}, data={"issues": [uniform]})
    found = find_suspects(run)
    labels = [(e.sample, e.given, e.suggested, e.score) for e in found.suspects[:3]]
    assert labels == [
        ("a/5", "a", "b", pytest.approx(0.8)),
        ("a/4", "a", "b", pytest.approx(0.6)),
        ("b/4", "b", "a", pytest.approx(0.6)),
    ]
    assert [each.reason for each in found.suspects[3:]] == ["nearly one colour"]


def test_both_images_of_a_conflict_are_named_once(tmp_path: Path) -> None:
    found = suspects(
        tmp_path,
        issue("leakage-exact", ["a/1", "a/2", "b/1", "a/1"], 2),
        issue("label-conflict", ["a/1", "b/1"], 1),
        issue("label-conflict-near", ["a/3", "b/3"], 1),
    )
    assert [(each.sample, each.reason, each.given, each.like) for each in found] == [
        ("a/1", "same image, other label", "a", ("b/1", "b")),
        ("b/1", "same image, other label", "b", ("a/1", "a")),
        ("a/3", "similar image, other label", "a", ("b/3", "b")),
        ("b/3", "similar image, other label", "b", ("a/3", "a")),
    ]


def test_leakage_of_earlier_versions_tells_conflicts_where_labels_are_known(tmp_path: Path) -> None:
    pairs = ["a/1", "b/1", "a/2", "a/3", "train/a", "b/1"]
    found = suspects(tmp_path, issue("leakage-near", pairs, 3))
    assert [each.sample for each in found] == ["a/1", "b/1"]


def test_what_is_counted_and_not_named_is_told(tmp_path: Path) -> None:
    issues = [issue("uniform", ["a/1"], 3), issue("label-conflict", ["a/1", "b/1"], 9)]
    run = audited_run(tmp_path, {(0, None): PREDICTED}, data={"issues": issues})
    unnamed = find_suspects(run).unnamed
    assert unnamed == {"same image, other label": 8, "nearly one colour": 2}


def test_an_image_that_nobody_predicted_has_no_label(tmp_path: Path) -> None:
    (found,) = suspects(tmp_path, issue("unreadable", ["b/broken.jpg"]))
    assert (found.sample, found.reason, found.given) == ("b/broken.jpg", "unreadable", None)


def test_one_class_is_refused(tmp_path: Path) -> None:
    one = {"a/1": (0, 0.1)}
    run = audited_run(tmp_path, {(0, None): one}, classes=["a"])
    with pytest.raises(BenchError, match="label errors need two classes or more, got 1"):
        find_suspects(run)
