"""Work counted beforehand is the work that is done: images that pass a frozen trunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from bench.data import open_data
from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import Job, cut, trial_splits
from bench.execution.work import CountedTrial, Work, count_work
from bench.models.evaluation import Trunk
from tests.tiny import SIZE, make_job, make_trial


def counted(job: Job) -> CountedTrial:
    data = open_data(job.data)
    return CountedTrial(
        job=job,
        complete=False,
        input_size=SIZE,
        num_classes=len(data.classes),
        splits=trial_splits(job.trial, data),
        all=len(data),
    )


GRIDS: dict[str, Sequence[dict[str, Any]]] = {
    "two seeds share a validation split": [{"seed": 0}, {"seed": 1}],
    "two rates share all views": [{"lr": 0.1}, {"lr": 0.01}],
    "a view of all images serves every split": [
        {"augmentation": "none", "seed": 0},
        {"augmentation": "none", "seed": 1},
    ],
    "heads of one stack share mixed batches": [
        {"mix": "mixup", "lr": 0.1},
        {"mix": "mixup", "lr": 0.01},
        {"mix": "mixup", "seed": 1},
    ],
    "other trials do not": [
        {"mix": "mixup", "strategy": "partial_finetune", "options": {"top": 1}, "lr": 0.1},
        {"mix": "mixup", "strategy": "partial_finetune", "options": {"top": 1}, "lr": 0.01},
    ],
    "a varied view of all images serves every fold of a seed": [
        {"folds": 3, "fold": fold, "seed": seed} for seed in (0, 1) for fold in range(3)
    ],
    "folds of mixed batches share nothing": [
        {"mix": "mixup", "folds": 2, "fold": fold, "lr": lr} for fold in (0, 1) for lr in (0.1, 0.2)
    ],
    "no validation split": [
        {"choose": "last", "data": {"val_fraction": 0}, "folds": 2, "fold": fold} for fold in (0, 1)
    ],
    "few shots": [{"shots": 2}, {"shots": 2, "augmentation": "none"}],
    "whatever is trained behind a boundary": [
        {"strategy": "lora", "options": {"r": 1, "top": 1}},
        {"strategy": "partial_finetune", "options": {"top": 1}},
    ],
    "another boundary": [
        {},
        {"strategy": "partial_finetune", "options": {"top": 1}},
        {"strategy": "lp_ft", "epochs": 3},
    ],
}


@pytest.mark.parametrize("grid", GRIDS)
def test_so_many_images_pass_frozen_trunks(
    grid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    jobs = [
        make_job(
            make_trial(**{"strategy": "linear_probe", "backbone": "shufflenet_v2_x0_5", **changes}),
            trial_id=str(number),
        )
        for number, changes in enumerate(GRIDS[grid])
    ]
    work = count_work([counted(job) for job in jobs], reuse=True)
    passed = 0
    forward = Trunk._forward

    def counting(trunk: Trunk, images: Tensor) -> Tensor:
        nonlocal passed
        passed += len(images)
        return forward(trunk, images)

    monkeypatch.setattr(Trunk, "_forward", counting)
    for result in InProcessExecutor().run(cut(jobs, reuse=True), lambda _: None):
        assert result.error is None
    assert passed == sum(epoch.views for epoch in work.epoch_work)
    assert passed > 0


def test_a_view_of_all_images_serves_all_numbers_of_shots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where one trial of the suite trains on all images; with the bits of each size alone."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    plain: dict[str, Any] = {"backbone": "shufflenet_v2_x0_5", "augmentation": "none"}
    jobs = [
        make_job(
            make_trial("linear_probe", **plain, shots=shots, seed=seed), trial_id=f"{shots} {seed}"
        )
        for seed in (0, 1)
        for shots in (2, 3, None)
    ]
    beside = [replace(job, beside_all=True) for job in jobs]
    work = [count_work([counted(job) for job in own], reuse=True) for own in (jobs, beside)]
    apart, together = (sum(epoch.views for epoch in each.epoch_work) for each in work)
    assert together == 2 * 48 < apart  # a seed has a trunk of its own here
    shared = {
        r.trial_id: r for r in InProcessExecutor().run(cut(beside, reuse=True), lambda _: None)
    }
    for alone in InProcessExecutor().run(cut(jobs, reuse=False), lambda _: None):
        own = shared[alone.trial_id].outcome
        assert own is not None
        assert alone.outcome is not None
        assert np.array_equal(own.probabilities, alone.outcome.probabilities)
        assert np.array_equal(own.val_probabilities, alone.outcome.val_probabilities)


def test_features_of_an_image_are_made_once_for_all_folds() -> None:
    """Of each seed, which draws the trunk: one central view, and one of each of two epochs."""
    jobs = [
        make_job(make_trial("linear_probe", lr=0.03, folds=4, fold=fold, seed=seed))
        for seed in (5, 6)
        for fold in range(4)
    ]
    work = count_work([counted(job) for job in jobs], reuse=True)
    assert sum(epoch.views for epoch in work.epoch_work) == 48 * (1 + 2) * 2


def test_measured_rates_cost_the_batches_that_they_are_measured_on() -> None:
    jobs = [make_job(make_trial("full_finetune", batch_size=4))]
    jobs += [make_job(make_trial("auto_rgn", options={"batches": n}, batch_size=4)) for n in (1, 9)]
    plain, one, all_of_them = (count_work([counted(job)], reuse=True).flops_done for job in jobs)
    # 16 images train in each epoch: 4 more are derived, or all of them again.
    assert 4 * (one - plain) == all_of_them - plain > 0


@pytest.mark.parametrize(
    ("asked", "done", "sentence"),
    [
        (5.0, 2.0, "Sharing cuts the work to 2.00 of 5.00 TFLOP (40 %)."),
        (5.0, 5.0, "The work is 5.00 TFLOP; sharing saves none of it."),
        (0.0, 0.0, "The work is 0.00 TFLOP; sharing saves none of it."),
        (0.19, 0.26, "The work is 0.26 TFLOP; without sharing it would be 0.19, because"),
    ],
)
def test_the_saving_is_a_share_of_the_work_and_never_more_than_all(
    asked: float, done: float, sentence: str
) -> None:
    work = Work(asked=1, trained=1, flops_asked=int(asked * 1e12), flops_done=int(done * 1e12))
    assert work.sentence().startswith(f"1 trial-epoch: 1 trained. {sentence}")
