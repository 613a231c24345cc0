"""Small BERTs from scratch, end to end: their vocabulary comes from what is not tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import bench
from bench.errors import BenchError
from bench.execution.jobs import dataset_splits
from bench.runs.resolve import ResolvedTrial, resolve_run

pytestmark = pytest.mark.xdist_group("texts")

TEXTS = [f"房间{'很好' if number % 2 else '太坏'}{chr(0x4E00 + number)}" for number in range(40)]
"""The last character of each is in no other."""


def suite(**changes: Any) -> dict[str, Any]:
    lists = {"text": TEXTS, "label": ["差", "好"] * (len(TEXTS) // 2)}
    return {
        "name": "pieces",
        "dataset": {"name": "text", "lists": lists},
        "backbone": "bert_tiny",
        "strategy": "from_scratch",
        "max_length": 8,
        "epochs": 2,
        "batch_size": 8,
        "optimizer": "adamw",
        "lr": 1e-3,
        "precision": "fp32",
        "seed": [0, 1],
        **changes,
    }


def resolved(folder: Path, **changes: Any) -> tuple[ResolvedTrial, ...]:
    pytest.importorskip("transformers")
    return resolve_run(suite(**changes), out=folder, device="cpu").trials


@pytest.mark.parametrize("folds", [None, 4])
def test_no_token_comes_from_tested_texts(tmp_path: Path, folds: int | None) -> None:
    pytest.importorskip("transformers")
    found = resolve_run(suite(folds=folds), out=tmp_path, device="cpu")
    vocabularies = set()
    for each in found.trials:
        assert each.weights.tokenizer is not None
        vocabularies.add(each.weights.tokenizer)
        known = set(json.loads(each.weights.tokenizer)["model"]["vocab"])
        tested = set(dataset_splits(each.trial, found.dataset).test.tolist())
        for at, text in enumerate(found.dataset.texts):  # type: ignore[union-attr]
            assert (text[-1] in known) == (at not in tested)
        assert {"房", "间"} <= known
    assert len(vocabularies) == (1 if folds is None else len(found.trials))


def test_the_vocabulary_is_part_of_a_trial(tmp_path: Path) -> None:
    first = resolved(tmp_path)
    lists = {"text": [f"x{text}" for text in TEXTS], "label": ["差", "好"] * (len(TEXTS) // 2)}
    other = resolved(tmp_path, dataset={"name": "text", "lists": lists})
    assert first[0].weights.fingerprint == first[1].weights.fingerprint
    assert first[0].weights.fingerprint != other[0].weights.fingerprint


def test_it_starts_at_random_alone() -> None:
    with pytest.raises(BenchError, match="starts at random: strategy from_scratch"):
        bench.plan(suite(strategy="full_finetune"))


def test_seeds_are_not_added_where_folds_have_vocabularies(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    changes = {"folds": 4, "lr": [1e-3, 1e-2]}
    with pytest.raises(BenchError, match="list the seeds in the suite"):
        resolve_run(suite(**changes), out=tmp_path, device="cpu", decide=True)


@pytest.mark.campaign
def test_a_trained_one_reads_chinese_by_itself(tmp_path: Path, no_report: None) -> None:
    run = bench.run(suite(epochs=4), out=tmp_path, device="cpu", workers=1)
    assert (run.trials["status"] == "complete").all()
    model = bench.load(run.folder, device="cpu")
    found = model.probabilities(["房间很好", "房间太坏"])
    assert found.shape == (2, 2)
    assert model.classes[found[0].argmax()] == "好"
    assert model.classes[found[1].argmax()] == "差"
    again = bench.run(suite(epochs=4), out=tmp_path / "again", device="cpu", workers=1)
    assert again.trials["test_loss"].tolist() == run.trials["test_loss"].tolist()
