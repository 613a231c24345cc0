"""`advice.json` is read as it was written, or told as damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.methods.advice import BackboneFacts, Facts, Ranking
from bench.results.folder import (
    Advice,
    AdvisedCell,
    Origin,
    Range,
    Start,
    TextLengths,
    copy_advice,
    read_advice,
    write_advice,
    write_json,
)
from tests.damage import damage

ADVICE = Advice(
    path=Path("advice.json"),
    origin=Origin(
        suite="made_up",
        suite_digest="0123",
        dataset="hymenoptera",
        data="4567",
        bench="0.1",
        numerics=7,
        written="2026-01-01T00:00:00+00:00",
        complete=0,
    ),
    facts=Facts(
        samples=40,
        classes=2,
        majority=0.5,
        backbones=(BackboneFacts(backbone="resnet18", parameters=None, pretrained=True),),
    ),
    starts=(
        Start(
            name="resnet18",
            backbone="resnet18",
            weights="imagenet",
            preprocessing='{"resize": "crop"}',
            texts=TextLengths(median=3.5, longest=9, max_length=24, full=0.0),
        ),
    ),
    expected={"resnet18": {"nearest_neighbour": Range(low=0.6, high=0.8)}},
    rules={"a_rule": Ranking(strategies=("svm", "linear_probe"), reason="because")},
    rule=None,
    cells=(
        AdvisedCell(
            config="c", backbone="resnet18", weights="imagenet", strategy="linear_probe",
            lr=0.01, trials=2, seconds=None,
        ),
    ),
)  # fmt: skip


def test_what_was_written_is_read(tmp_path: Path) -> None:
    assert read_advice(tmp_path) is None
    copy_advice(tmp_path, tmp_path)
    advice = replace(ADVICE, path=tmp_path / "new" / "advice.json")
    write_advice(advice)
    assert read_advice(tmp_path / "new") == advice
    copy_advice(tmp_path / "new", tmp_path)
    assert read_advice(tmp_path) == replace(advice, path=tmp_path / "advice.json")


@pytest.mark.parametrize(
    "how", ["half", "flipped", "empty", "a list", "a type", "infinite", "inner"]
)
def test_damage_is_one_message(tmp_path: Path, how: str) -> None:
    advice = replace(ADVICE, path=tmp_path / "advice.json")
    write_advice(advice)
    if how == "a list":
        write_json(advice.path, [])
    elif how in ("infinite", "inner"):
        text = advice.path.read_text().partition('"crc32"')[0].rstrip(" ,\n") + "}"
        inner = text.replace(json.dumps(ADVICE.starts[0].preprocessing), '"[1"')
        advice.path.write_text(text.replace("0.6", "1e999") if how == "infinite" else inner)
    elif how == "a type":
        write_json(advice.path, {"origin": {"complete": "many"}, "rules": {}})
    else:
        damage(advice.path, how)
    with pytest.raises(BenchError, match=r"damaged .*by bench advise, or delete it"):
        read_advice(tmp_path)


def test_advice_that_does_not_say_what_it_is_of_is_told(tmp_path: Path) -> None:
    write_json(tmp_path / "advice.json", {"suite": "made_up", "rules": {}, "cells": []})
    with pytest.raises(BenchError, match="does not say which suite and data it is of"):
        read_advice(tmp_path)
