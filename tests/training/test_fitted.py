"""Trials whose head is fitted: alone and in a grid, from states of others, on any task."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.data import Splits, open_data
from bench.errors import DataError
from bench.execution.engine import make_training
from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import Job, JobResult, cut, trial_splits
from bench.models.checkpoints import read_checkpoint
from bench.suite import Entry, Trial
from bench.training.fitted import fit_head
from bench.training.loop import isolated
from tests.tiny import make_job, make_trial

pytest.importorskip("sklearn")

CNN, VIT = "shufflenet_v2_x0_5", "timm/test_vit"
FEW = {"train_per_class": 6, "val_per_class": 4, "test_per_class": 4}
STRATEGIES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("knn", {}),
    ("class_mean", {}),
    ("ridge", {}),
    ("logistic", {}),
    ("svm", {"kernel": "rbf"}),
    ("forest", {"trees": 5}),
    ("linear_sweep", {"steps": 20}),
)
QUICK = ("knn", "ridge")
"""Which the test line trains twice; the others in campaigns."""


def fitted_trial(strategy: str, backbone: str = CNN, **options: Any) -> Trial:
    return make_trial(
        strategy,
        options=options,
        backbone=backbone,
        augmentation="none",
        data=FEW,
        head=Entry(name="fitted"),
    )


def trained(jobs: list[Job], *, reuse: bool) -> dict[str, JobResult]:
    results = list(InProcessExecutor().run(cut(jobs, reuse=reuse), lambda _: None))
    assert [result.error for result in results] == [None] * len(jobs)
    return {result.trial_id: result for result in results}


@pytest.mark.parametrize(
    ("strategy", "options", "backbone"),
    [
        pytest.param(
            *each,
            backbone,
            marks=() if (each[0] in QUICK and backbone == CNN) else pytest.mark.campaign,
        )
        for backbone in (CNN, VIT)
        for each in STRATEGIES
    ],
)
def test_among_others_it_has_the_bits_of_it_alone(
    strategy: str, options: dict[str, Any], backbone: str, tmp_path: Path
) -> None:
    trial = fitted_trial(strategy, backbone, **options)
    alone = make_job(trial, trial_id="a", checkpoint=tmp_path / "alone.safetensors")
    other = make_job(fitted_trial("class_mean", backbone, temperature=1.0), trial_id="b")
    again = make_job(trial, trial_id="c", checkpoint=tmp_path / "again.safetensors")
    first = trained([alone], reuse=False)["a"]
    second = trained([other, again], reuse=True)["c"]
    assert first.predictions is not None
    assert second.predictions is not None
    assert first.outcome is not None
    assert (first.predictions.probabilities == second.predictions.probabilities).all()
    one, two = (read_checkpoint(tmp_path / f"{name}.safetensors") for name in ("alone", "again"))
    assert one.spec.boundary == "head"
    assert one.tensors.keys() == two.tensors.keys()
    assert all(torch.equal(one.tensors[name], two.tensors[name]) for name in one.tensors)
    kept = [name for name in one.tensors if name.startswith(("fc.", "head."))]
    assert first.outcome.trainable_params == sum(one.tensors[name].numel() for name in kept)
    one.network(first.predictions.classes)


def test_keys_know_the_fit_and_what_it_is_fitted_to() -> None:
    keys = {
        make_job(trial).keys
        for trial in (
            fitted_trial("knn"),
            fitted_trial("knn", k=3),
            fitted_trial("class_mean"),
            fitted_trial("knn").with_settings(shots=2),
            fitted_trial("knn").with_settings(metric="log_loss"),
        )
    }
    assert len(keys) == 5
    assert all(len(each) == 1 for each in keys)


def test_validation_chooses_and_must_be_there() -> None:
    job = make_job(fitted_trial("knn"))
    data = open_data(job.data)
    splits = trial_splits(job.trial, data)
    none = Splits(splits.train, np.zeros(0, np.int64), splits.test)
    with isolated(1):
        assert fit_head(make_training(job, data, splits)).chosen == {"k": 10}
        small = Splits(splits.train[:5], none.val, splits.test)
        assert fit_head(make_training(job, data, small)).chosen == {"k": 5}
        ridge = make_training(make_job(fitted_trial("ridge")), data, none)
        with pytest.raises(DataError, match="'ridge' chooses l2 on validation, and there is no"):
            fit_head(ridge)
        given = make_job(fitted_trial("ridge", l2=2.0))
        assert fit_head(make_training(given, data, none)).chosen == {"l2": 2.0}


def test_weights_of_samples_count() -> None:
    job = make_job(fitted_trial("class_mean"))
    data = open_data(job.data)
    splits = trial_splits(job.trial, data)
    drawn = np.random.default_rng(0).uniform(0.1, 10, len(data)).astype(np.float32)
    with isolated(1):
        plain = fit_head(make_training(job, data, splits)).tensors["fc.directions"]
        weighted = replace(data, sample_weights=drawn)  # type: ignore[type-var]
        other = fit_head(make_training(job, weighted, splits)).tensors["fc.directions"]
    assert not torch.allclose(plain, other)
