"""Work counted beforehand is the work that is done: images that pass a frozen trunk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from bench.data import open_data
from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import Job, cut, trial_splits
from bench.execution.work import CountedTrial, count_work
from bench.training.frozen_features import Trunk
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
    "few shots": [{"shots": 2}, {"shots": 2, "augmentation": "none"}],
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
