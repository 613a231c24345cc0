"""Trials of texts as files for other programs, with their tokenizer beside."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import bench
from bench.errors import BenchError
from tests.prediction.texts import LENGTH, trained_on_texts, trial_of
from tests.texts import text_backbone

pytestmark = pytest.mark.xdist_group("texts")


@pytest.mark.campaign
def test_a_transformer_with_an_adapter_is_what_the_trial_is(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    run = trained_on_texts(tmp_path, backbone=text_backbone(), strategy=["lora"], epochs=1)
    found = bench.export(run.folder, format="onnx", out=tmp_path / "out")
    assert found.check.logit_difference < 1e-4
    assert found.check.changed_labels == 0
    assert found.check.missing is None
    names = ["card.json", "card.md", "model.onnx", "preprocessing.json", "tokenizer.json"]
    assert sorted(path.name for path in found.folder.iterdir()) == names
    said = json.loads((found.folder / "preprocessing.json").read_text())
    assert (said["tokenizer"], said["padding"], said["size"]) == ("tokenizer.json", -1, LENGTH)
    card = (found.folder / "card.md").read_text()
    assert "`prepare` takes a list of texts" in card
    assert not re.search(r"\bimages?\b", card)


@pytest.mark.campaign
def test_word_vectors_as_torch_export(text_run: bench.Run, tmp_path: Path) -> None:
    trial = trial_of(text_run, "full_finetune")
    found = bench.export(text_run.folder, trial, format="torch-export", out=tmp_path / "out")
    assert found.check.logit_difference < 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "safetensors"}, "one of texts or of an image–text model has pooling"),
        ({"format": "torch-export", "preprocessing": "inside"}, "cannot contain the tokenizer"),
    ],
)
def test_what_texts_have_not_is_refused(
    text_run: bench.Run, tmp_path: Path, options: dict[str, str], message: str
) -> None:
    with pytest.raises(BenchError, match=message):
        bench.export(text_run.folder, out=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
