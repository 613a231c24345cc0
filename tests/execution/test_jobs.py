"""Jobs keep the views of training images that they share with another training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from bench.data.images import kept_views
from bench.data.images.augmentations import Augmenter
from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import Job, cut
from tests.tiny import make_job, make_trial

NETWORK = "shufflenet_v2_x0_5"
TRAIN, EPOCHS = 16, 2

# A grid, and how often each view of a training image is made.
GRIDS: dict[str, tuple[Sequence[dict[str, Any]], int]] = {
    "one trial": ([{}], 1),
    "two rates": ([{"lr": 0.1}, {"lr": 0.01}], 1),
    "strategies, batch sizes, optimisers, schedules and mixes": (
        [
            {"strategy": "linear_probe"},
            {"strategy": "from_scratch"},
            {"batch_size": 4},
            {"optimizer": "adamw", "lr": 0.001},
            {"mix": "mixup"},
        ],
        1,
    ),
    "two augmentations": ([{}, {"augmentation": "standard"}], 1),
    "two seeds": ([{"seed": 0}, {"seed": 1}], 1),
}


def jobs_of(changes: Sequence[dict[str, Any]]) -> list[Job]:
    given = [{"strategy": "full_finetune", "backbone": NETWORK, **each} for each in changes]
    return [make_job(make_trial(**each), trial_id=str(n)) for n, each in enumerate(given)]


@pytest.mark.parametrize("grid", GRIDS)
def test_a_view_is_made_once_for_a_grid(
    grid: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(kept_views, "READ_SECONDS", 0.0)
    changes, times = GRIDS[grid]
    jobs = jobs_of(changes)
    made: Counter[tuple[Any, ...]] = Counter()
    images = Augmenter.images

    def counting(augmenter: Augmenter, pixels: Tensor, samples: Any, *, epoch: int) -> Tensor:
        if augmenter.varies:
            made.update((*map(str, augmenter.view(epoch)), int(sample)) for sample in samples)
        return images(augmenter, pixels, samples, epoch=epoch)

    monkeypatch.setattr(Augmenter, "images", counting)
    for result in InProcessExecutor().run(cut(jobs, reuse=True), lambda _: None):
        assert result.error is None
    augmented = {(job.trial.augmentation.name, job.trial.settings.seed) for job in jobs}
    assert len(made) == TRAIN * EPOCHS * len(augmented)
    assert set(made.values()) == {times}


@pytest.mark.parametrize(
    ("changes", "keeps"),
    [
        ([{}], [False]),
        ([{}, {"lr": 0.1}], [True, True]),
        ([{}, {"seed": 1}, {"augmentation": "standard"}], [False, False, False]),
        ([{}, {"lr": 0.1}, {"seed": 1}], [True, True, False]),
        # Heads on one frozen trunk see its features.
        ([{"strategy": "linear_probe"}, {"strategy": "linear_probe", "lr": 0.1}], [False, False]),
        ([{"strategy": "linear_probe"}, {}], [True, True]),
        # Few shots, and folds of few shots, are other samples.
        ([{"shots": 2}, {"shots": 3}], [False, False]),
        ([{"folds": 2, "fold": 0}, {"folds": 2, "fold": 1}], [True, True]),
    ],
)
def test_who_shares_no_view_keeps_none(changes: list[dict[str, Any]], keeps: list[bool]) -> None:
    jobs = {job.trial_id: job for task in cut(jobs_of(changes), reuse=True) for job in task.jobs}
    assert [bool(jobs[str(n)].views_key) for n in range(len(changes))] == keeps


def test_heads_train_together_only_on_equally_many_samples() -> None:
    rates = [{"strategy": "linear_probe", "lr": lr} for lr in (0.1, 0.01, 0.001)]
    jobs = jobs_of(rates)
    assert [job.train_samples for job in jobs] == [TRAIN] * 3
    assert len(cut(jobs, reuse=True)) == 1
    # Where groups stay whole, a seed may have a group more.
    tasks = cut([jobs[0], replace(jobs[1], train_samples=TRAIN + 1), jobs[2]], reuse=True)
    assert [[job.trial_id for job in task.jobs] for task in tasks] == [["0", "2"], ["1"]]


def test_trials_that_share_nothing_keep_nothing() -> None:
    tasks = cut(jobs_of([{}, {"lr": 0.1}]), reuse=False)
    assert not any(job.views_key for task in tasks for job in task.jobs)


def test_views_are_kept_for_trials_to_come() -> None:
    (task,) = cut(jobs_of([{}]), reuse=True, more=True)
    assert task.jobs[0].views_key
