"""What validators say of trained networks: from predictions alone, at the epoch that is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from bench.methods.label_free import VALIDATORS
from bench.training import label_free as module
from bench.training.label_free import judged_samples, label_free
from bench.training.loop import isolated
from bench.training.trial import predict
from tests.tiny import DATA, make_trial, tiny_training

TARGET = {"name": "fractals_shifted", **DATA}


def test_values_are_of_predictions_on_the_target_and_of_no_label() -> None:
    trial = make_trial(backbone="timm/test_efficientnet", data={"target_data": TARGET})
    training = tiny_training(trial)
    with isolated(1):
        training.load({})
        found = label_free(training, epoch=None)
        logits = predict(training, training.splits.unlabelled, epoch=None)
        labels = training.data.labels.copy()
        labels[training.splits.unlabelled] = 1
        training.data = replace(training.data, labels=labels)
        again = label_free(training, epoch=None)
    assert found is not None
    assert found == again
    assert found.samples == 28
    probabilities = logits.double().softmax(dim=1).numpy()
    expected = {name: each.function(probabilities) for name, each in VALIDATORS.items()}
    assert found.values == pytest.approx(expected, rel=1e-12)


def test_of_many_samples_the_seed_draws_some(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SAMPLES", 10)
    few, many = np.arange(5, 15), np.arange(5, 40)
    assert judged_samples(few, seed=0) is few
    drawn = judged_samples(many, seed=0)
    assert len(set(drawn)) == 10
    assert set(drawn) <= set(many)
    assert np.array_equal(drawn, judged_samples(many, seed=0))
    assert not np.array_equal(drawn, judged_samples(many, seed=1))
