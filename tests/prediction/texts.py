"""A run on texts whose trials are opened: word vectors, which train in no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench
from tests.texts import BAD, GOOD, VOCABULARY, sentences

TEXTS = sentences(60)
LENGTH = 12


def trained_on_texts(folder: Path, **changes: Any) -> bench.Run:
    """The run of a suite, without its report."""
    pytest.importorskip("tokenizers")
    draw = np.random.default_rng(0)
    lines = []
    for word in VOCABULARY[5:]:
        side = 4.0 * ((word in GOOD) - (word in BAD))
        values = [side, *draw.normal(size=5)]
        lines.append(" ".join([word, *(f"{value:.3f}" for value in values)]))
    (folder / "vectors.txt").write_text("\n".join(lines), encoding="utf-8")
    labels = [TEXTS.classes[label] for label in TEXTS.labels]
    suite = {
        "name": "texts",
        "dataset": {"name": "text", "lists": {"text": list(TEXTS.texts), "label": labels}},
        "backbone": f"vectors/{folder / 'vectors.txt'}",
        "strategy": ["linear_probe", "full_finetune"],
        "max_length": LENGTH,
        "epochs": 3,
        "batch_size": 8,
        "lr": 0.05,
        "precision": "fp32",
        "seed": [0],
        **changes,
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("bench.runs.run.write_report", lambda *_: None)
        run = bench.run(suite, out=folder / "results", device="cpu", workers=1)
    assert not run.trials["error"].dropna().tolist()
    return run


def trial_of(run: bench.Run, strategy: str) -> str:
    return str(run.trials.set_index("strategy").loc[strategy, "trial"])


def stored(run: bench.Run, trial: str) -> tuple[list[str], np.ndarray]:
    """The texts of the test split, and what the trial's own evaluation said of them."""
    rows = run.predictions[run.predictions["trial"] == trial]
    texts = [TEXTS.texts[int(sample) - 1] for sample in rows["sample"]]
    columns = [f"probability_{name}" for name in TEXTS.classes]
    return texts, rows[columns].to_numpy(np.float32)
