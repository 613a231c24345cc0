"""`weights: language`: made once, the same again, and good for what they are made for."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import bench
from bench.errors import BenchError, WeightsError
from bench.models.text import language
from bench.runs.language_weights import describe_language_weights, make_language_weights
from bench.suite import LanguageWeights

pytest.importorskip("tokenizers")

TINY = {"name": "language", "sentences": 40, "epochs": 1}
SUITE: dict[str, Any] = {
    "name": "language",
    "dataset": {
        "name": "language",
        "train_per_class": 8,
        "val_per_class": 4,
        "test_per_class": 10,
    },
    "backbone": language.NAME,
    "weights": TINY,
    "strategy": ["from_scratch", "lora"],
    "epochs": 1,
    "optimizer": "adamw",
    "lr": 0.003,
}


def made(**options: Any) -> Path:
    recipe = LanguageWeights(sentences=40, epochs=1, **options)
    weights = describe_language_weights(language.NAME, recipe)
    assert weights.path is not None
    make_language_weights(weights, recipe, progress=None)
    return weights.path


def test_they_are_made_once_and_the_same_again() -> None:
    first = made()
    written, content = first.stat().st_mtime_ns, first.read_bytes()
    assert made().stat().st_mtime_ns == written
    first.unlink()
    assert made().read_bytes() == content
    assert made(language_seed=1) != first


def test_a_run_starts_from_them(tmp_path: Path, no_report: None) -> None:
    run = bench.run(SUITE, out=tmp_path, workers=1)
    assert (run.trials["status"] == "complete").all()
    assert set(run.trials["weights"]) == {"language(sentences=40, epochs=1)", "none"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"weights": {"name": "language", "sentence": 4}}, "unknown key 'sentence'"),
        ({"dataset": {"name": "language", "question": "mood"}}, "must be 'sentiment', 'agreement'"),
        (
            {"weights": "pretrained"},
            "weights of language_tiny must be one of language, none or {file: PATH}, got "
            "'pretrained'; valid: language, none; weights: language pretrains it here, once",
        ),
    ],
)
def test_what_cannot_be_is_told(change: dict[str, Any], told: str) -> None:
    with pytest.raises(BenchError, match=re.escape(told)):
        bench.plan({**SUITE, **change})


def test_other_backbones_have_none() -> None:
    with pytest.raises(WeightsError, match="are those of language_tiny, not of resnet18"):
        describe_language_weights("resnet18", LanguageWeights())
