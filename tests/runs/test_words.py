"""Word vectors and n-grams from a suite to predictions: what depends on the training texts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import bench
from bench.data.inputs import PREPROCESSING, Preprocessing
from bench.data.text.tokens import tokenise
from bench.errors import BenchError, SuiteError
from bench.methods.target_tasks import CLASSIFICATION, answers
from bench.models.checkpoints import Checkpoint, read_checkpoint
from bench.models.evaluation import Evaluation
from bench.models.text.word_vectors import SIF_A
from bench.results.folder.columns import PROBABILITY_PREFIX
from bench.runs.resolve import resolve_run
from tests.texts import BAD, FILLERS, GOOD, sentences

pytest.importorskip("sklearn")
pytest.importorskip("tokenizers")

pytestmark = pytest.mark.xdist_group("words")

WORDS, LENGTH = (*GOOD, *BAD, *FILLERS), 24
MADE = sentences(80)
LABELS = {text: MADE.classes[at] for text, at in zip(MADE.texts, MADE.labels, strict=True)}
TEXTS = tuple(LABELS)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of made-up texts; its first rows train and validate."""
    folder = tmp_path_factory.mktemp("texts")
    split = ["train"] * 50 + ["test"] * (len(TEXTS) - 50)
    table = pd.DataFrame({"text": TEXTS, "label": LABELS.values(), "split": split})
    table.to_csv(folder / "texts.csv", index=False)
    return folder / "texts.csv"


@pytest.fixture(scope="module")
def vectors(texts: Path) -> Path:
    """Vectors of all words but three."""
    draw = np.random.default_rng(0)
    lines = (" ".join([word, *map(str, draw.normal(size=8).round(3))]) for word in WORDS[:-3])
    path = texts.with_name("vectors.txt")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def suite_of(texts: Path, vectors: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "words",
        "dataset": {"name": "text", "path": str(texts), "val_fraction": 0.3},
        "backbone": f"vectors/{vectors}",
        "strategy": ["linear_probe", {"name": "logistic", "c": 1.0}],
        "pooling": ["mean", "sif"],
        "include": [
            {"backbone": "tfidf", "strategy": {"name": "logistic", "c": 1.0}, "pooling": "auto"}
        ],
        "max_length": LENGTH,
        "epochs": 2,
        "batch_size": 8,
        "lr": 0.05,
        "precision": "fp32",
        "seed": [0, 1],
        **changes,
    }


@pytest.fixture(scope="module")
def run(texts: Path, vectors: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_of(suite_of(texts, vectors), tmp_path_factory.mktemp("out"))


def run_of(suite: dict[str, Any], out: Path, **options: Any) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bench.runs.run.write_report", lambda *_: None)
        found = bench.run(suite, out=out, device="cpu", workers=1, **options)
    failed = found.trials["error"].dropna().tolist()
    assert not failed
    return found


def text_of(sample: str) -> str:
    return TEXTS[int(sample.rpartition(":")[2]) - 1]


def predicted(run: Any, trial: str, split: str = "test") -> tuple[list[str], np.ndarray]:
    """The texts of a split, and the probabilities that were stored of them."""
    rows = pd.read_parquet(run.folder / "predictions.parquet")
    rows = rows[(rows["trial"] == trial) & (rows["split"] == split)]
    columns = [PROBABILITY_PREFIX + name for name in MADE.classes]
    return [text_of(sample) for sample in rows["sample"]], rows[columns].to_numpy()


def trained_on(run: Any, trial: str) -> list[str]:
    other = {text for split in ("val", "test") for text in predicted(run, trial, split)[0]}
    return [text for text in TEXTS if text not in other]


def trials_of(run: Any, **wanted: str) -> list[str]:
    """The trials whose checkpoint says so."""
    found = []
    for trial in run.trials["trial"]:
        spec = checkpoint_of(run, trial).spec
        said = {"pooling": json.loads(spec.described).get("pooling"), "head": spec.head}
        if said.items() >= wanted.items():
            found.append(trial)
    assert found
    return found


def checkpoint_of(run: Any, trial: str) -> Checkpoint:
    return read_checkpoint(run.folder / "checkpoints" / f"{trial}.safetensors")


def test_each_pooling_and_seed_is_a_network_of_its_own(run: Any) -> None:
    trials = run.trials["trial"]
    assert len({predicted(run, trial)[1].tobytes() for trial in trials}) == len(trials) == 10


def test_weights_of_words_come_from_the_training_split(run: Any) -> None:
    for trial in trials_of(run, pooling="sif", head="linear"):
        tensors = checkpoint_of(run, trial).tensors
        words = [word for text in trained_on(run, trial) for word in text.split()[:LENGTH]]
        counts = np.array([words.count(word) for word in WORDS[:-3]])
        wanted = SIF_A / (SIF_A + counts / counts.sum())
        np.testing.assert_allclose(tensors["word_weights"], wanted, rtol=1e-6)
        assert tensors["common"].norm() == pytest.approx(1, abs=1e-6)
        assert "embedding.weight" not in tensors


def test_a_checkpoint_predicts_what_its_trial_did(run: Any) -> None:
    for trial in run.trials["trial"]:
        checkpoint = checkpoint_of(run, trial)
        rule = Preprocessing.from_json(checkpoint.metadata[PREPROCESSING])
        texts, stored = predicted(run, trial)
        assert rule.tokenizer is not None
        tokens = torch.from_numpy(tokenise(texts, rule.tokenizer, length=rule.size).ids)
        spec = checkpoint.spec
        evaluate = Evaluation(
            checkpoint.network(rule.classes), boundary=spec.boundary, precision=spec.precision
        )
        logits = torch.cat(list(evaluate([tokens])))
        found = answers(CLASSIFICATION, logits).astype(np.float32)
        assert np.array_equal(found, stored.astype(np.float32))


def test_tfidf_is_that_of_scikit_learn(run: Any) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    for trial in run.trials.loc[run.trials["backbone"] == "tfidf", "trial"]:
        train, (texts, stored) = trained_on(run, trial), predicted(run, trial)
        reference = make_pipeline(
            TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(tol=1e-8, max_iter=1000)
        )
        reference.fit(train, [LABELS[text] for text in train])
        np.testing.assert_allclose(stored, reference.predict_proba(texts), atol=1e-4)


def test_ngrams_are_not_exported(run: Any, tmp_path: Path) -> None:
    trial = run.trials.loc[run.trials["backbone"] == "tfidf", "trial"].iloc[0]
    with pytest.raises(BenchError, match="tfidf counts n-grams of texts, which is no operation"):
        bench.export(run.folder, trial=trial, format="safetensors", out=tmp_path / "out")


def test_trials_that_share_nothing_have_the_same_bits(
    run: Any, texts: Path, vectors: Path, tmp_path: Path
) -> None:
    alone = run_of(suite_of(texts, vectors, seed=1, pooling="sif"), tmp_path, reuse=False)
    assert len(alone.trials) == 3
    for trial in alone.trials["trial"]:
        assert np.array_equal(predicted(alone, trial)[1], predicted(run, trial)[1])


def refusals(suite: dict[str, Any]) -> str:
    with pytest.raises(SuiteError) as raised:
        bench.plan(suite, device="cpu")
    return str(raised.value)


def test_what_has_no_meaning_is_refused(texts: Path, vectors: Path) -> None:
    told = refusals(suite_of(texts, vectors, pooling="cls", include=[]))
    assert re.search(
        r"pooling of vectors/.* must be one of auto, mean, tfidf, sif, got 'cls'", told
    )
    for strategy in ("linear_probe", "forest"):
        told = refusals(suite_of(texts, vectors, backbone="tfidf", strategy=strategy))
        assert f"strategy {strategy!r} cannot learn from them. Use logistic" in told
    told = refusals(suite_of(texts, vectors, backbone="vectors/none.txt"))
    assert "there is no file of word vectors none.txt" in told


def test_pooling_of_ngrams_is_told_to_change_nothing(texts: Path, vectors: Path) -> None:
    suite = suite_of(texts, vectors, backbone="tfidf", strategy="logistic", include=[])
    assert "pooling 'sif': no effect on tfidf" in str(bench.plan(suite, device="cpu"))


def test_target_texts_have_no_part_in_a_vocabulary(
    texts: Path, vectors: Path, tmp_path: Path
) -> None:
    logistic = {"backbone": "tfidf", "strategy": {"name": "logistic", "c": 1.0}}
    probe = {"name": "linear_probe", "penalty": {"mcc": 1}}
    suite = suite_of(texts, vectors, strategy=probe, include=[{**logistic, "pooling": "auto"}])
    lists = {"text": ["zebra"] * 9, "label": ["good"] * 9}
    target = {**suite["dataset"], "target_data": {"name": "text", "lists": lists}}
    beside = resolve_run({**suite, "dataset": target}, out=tmp_path, device="cpu")
    share = {**suite["dataset"], "unlabelled_fraction": 0.5}
    plain = resolve_run({**suite, "dataset": share}, out=tmp_path, device="cpu")
    found = [{each.weights.fingerprint for each in run.trials} for run in (plain, beside)]
    assert found[0] == found[1]
    assert any("penalty mcc" in note and "no effect" in note for note in beside.notes)
