"""What is shared gives the numbers of what is trained alone: random grids, bit by bit."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.data import open_data
from bench.errors import PlanError
from bench.execution import engine
from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import Job, JobResult, Task, cut, keyed, trial_splits
from bench.methods.plan import FITTED, Plan
from bench.methods.strategies import STRATEGIES, make_plan
from bench.models import layer_group_names, outline
from bench.runs.catalogue import catalogue
from bench.suite import Entry, Settings, Trial
from tests.texts import text_backbone
from tests.tiny import entry, make_job, make_trial

GRIDS = int(os.environ.get("BENCH_TEST_GRIDS", "40"))
"""How many random grids: 200 take about three minutes of two cores. Some are in the test line, the
others make a campaign."""
GRIDS_PER_TEST, FIRST_GRIDS = 7, 5
STOPPED_PER_TEST = 2
CNN, TRANSFORMER, TEXT = "timm/test_efficientnet", "timm/test_vit", "hf/"
"""The last stands for a tiny BERT in the cache."""
DATA = {"train_per_class": 6, "val_per_class": 4, "test_per_class": 4}

VARIATIONS: dict[str, Sequence[dict[str, Any]]] = {
    "two_rates": ({"backbone_multiplier": 0.0}, {"backbone_multiplier": 1.0}),
    "linear_probe": ({}, {}),
    "partial_finetune": ({"top": 2},),
    "lp_ft": ({"probe_epochs": 1}, {"probe_epochs": 1, "finetune_multiplier": 1.0}),
    "norm_only": ({"norm": "fixed"}, {"norm": "update"}),
    "lora": ({"r": 2}, {"r": 2, "layers": "all"}, {"r": 2, "layers": "attention", "dropout": 0.5}),
    "houlsby": ({"width": 4},),
    "adaptformer": ({"width": 4, "dropout": 0.5},),
    "vpt": ({"tokens": 2},),
    "setfit": ({"iterations": 1},),
}
"""Options of strategies that draw other ones than their defaults, or more often than once."""


@cache
def drawn() -> tuple[tuple[str, str, dict[str, Any]], ...]:
    """Every strategy that trains, with its options: on the first network for images that it is
    defined for, and on one for texts."""
    found = []
    for name in STRATEGIES:
        known = STRATEGIES.get(name)
        if not known.traits.trains or not known.function.__module__.startswith("bench."):
            continue
        for options in VARIATIONS.get(name, ({},)):
            if find_spec("transformers") is not None:
                found.append((name, TEXT, options))
            for backbone in (CNN, TRANSFORMER):
                own = entry(STRATEGIES, name, **options)
                plan = make_plan(own, layer_group_names(backbone), Settings(epochs=2))
                with suppress(PlanError):
                    outline(backbone, Entry(name="linear"), plan.adapter)
                    found.append((name, backbone, options))
                    break
    return tuple(found)


BESIDE: tuple[dict[str, Any], ...] = (
    *({},) * 6,
    {"penalty": {"bss": 0.001}},
    {"penalty": {"delta": {"attention": False}}},
    {"stoch_norm": 0.5},
)
"""Options that any strategy takes."""
SCHEDULES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("constant", {}),
    ("constant", {}),
    ("step", {"step_size": 1}),
    ("step", {"step_size": 2}),
    ("multistep", {"milestones": (1, 2)}),
    ("cosine", {}),
    ("plateau", {"patience": 0}),
)


def draw_trial(draw: random.Random, strategy: str, backbone: str, options: dict[str, Any]) -> Trial:
    """A trial of a small world, so that many of them have epochs in common."""
    schedule, schedule_options = draw.choice(SCHEDULES)
    names = catalogue()
    changes: dict[str, Any] = {}
    if strategy == "mlp_probe":
        changes["head"] = entry(names.head, "mlp", hidden=8)
    beside, mix = draw.choice(BESIDE), draw.choice([None, None, None, "mixup"])
    if backbone == TEXT:
        backbone, beside = text_backbone(), {} if "stoch_norm" in beside else beside
    if STRATEGIES.get(strategy).traits.fits:
        changes["head"], mix = Entry(name=FITTED), None
    return make_trial(
        strategy,
        options={**options, **beside},
        backbone=backbone,
        schedule=entry(names.schedule, schedule, **schedule_options),
        augmentation=draw.choice(["none", "flip_crop"]),
        mix=mix,
        data=DATA if backbone in (CNN, TRANSFORMER) else None,
        epochs=draw.choice([2, 3]),
        optimizer=draw.choice(["sgd", "sgd", "adamw"]),
        lr=draw.choice([0.02, 0.1]),
        weight_decay=0.01,
        early_stopping=draw.choice([None, None, 1]),
        precision=draw.choice(["fp32", "fp32", "fp32", "bf16"]),
        seed=draw.choice([0, 0, 1]),
        batch_size=6,
        **changes,
    )


def draw_family(number: int) -> list[Trial]:
    """Three trials: one, and two variations that part from it in an epoch, a schedule, or at once.

    Each strategy has a family. Grids are drawn from these, so that few trials have to be trained
    alone.
    """
    draw = random.Random(f"family {number}")
    family = [draw_trial(draw, *drawn()[number])]
    for _ in range(2):
        base = draw.choice(family)
        if draw.random() < 0.5:
            name, options = draw.choice(SCHEDULES)
            schedule = entry(catalogue().schedule, name, **options)
            family.append(base.model_copy(update={"schedule": schedule}))
        else:
            family.append(base.with_settings(epochs=5 - base.settings.epochs))
    return family


def draw_grid(draw: random.Random) -> list[Job]:
    """Two to five different trials of two families."""
    first, second = (draw_family(number) for number in draw.sample(range(len(drawn())), 2))
    trials = draw.sample(first, draw.randint(1, 3)) + draw.sample(second, draw.randint(1, 2))
    distinct = {trial.id({}): trial for trial in trials}
    return [job_of(trial) for trial in distinct.values()]


def job_of(trial: Trial) -> Job:
    return make_job(trial, trial_id=trial.id({}))


def results_of(tasks: Sequence[Task]) -> dict[str, JobResult]:
    return {result.trial_id: result for result in InProcessExecutor().run(tasks, lambda _: None)}


_ALONE: dict[str, tuple[object, ...]] = {}


def alone(job: Job) -> tuple[object, ...]:
    """What the trial gives without reuse; trained once, however many grids have it."""
    if job.trial_id not in _ALONE:
        results = results_of(cut([job], reuse=False))
        _ALONE[job.trial_id] = numbers(results[job.trial_id])
    return _ALONE[job.trial_id]


def numbers(result: JobResult) -> tuple[object, ...]:
    """Everything but times: the error or the curves, scores and probabilities."""
    curves = [(r.epoch, r.lr, r.train, r.val) for r in result.records]
    if result.outcome is None or result.predictions is None:
        return (result.error, curves)
    probabilities = result.predictions.probabilities.tobytes()
    outcome = result.outcome
    return (curves, outcome.best, outcome.last, probabilities, outcome.label_free)


def blocks(grids: int, size: int) -> list[Any]:
    """The grids of each test, `size` of them and fewer of the first. These are in the line, in one
    process: they have trials in common that are trained alone."""
    edges = [0, *range(min(size, FIRST_GRIDS), grids, size), grids]
    first, other = pytest.mark.xdist_group("grids"), pytest.mark.campaign
    return [
        pytest.param(range(start, end), marks=other if start else first, id=str(start))
        for start, end in pairwise(edges)
    ]


@pytest.mark.parametrize("block", blocks(GRIDS, GRIDS_PER_TEST))
def test_random_grids_equal_every_trial_alone(
    block: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_epochs = 0
    for grid in block:
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "images"))
        jobs = draw_grid(random.Random(f"grid {grid}"))
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / f"grid-{grid}"))
        results = results_of(cut(jobs, reuse=True))
        assert set(results) == {job.trial_id for job in jobs}
        for job in jobs:
            assert numbers(results[job.trial_id]) == alone(job), (grid, job.trial.label)
        keys = [key for job in jobs for key in job.keys[1:]]
        shared_epochs += len(keys) - len(set(keys))
    assert shared_epochs > len(block) / 4


@pytest.mark.parametrize("block", blocks(GRIDS // 6, STOPPED_PER_TEST))
def test_stopped_trials_go_on_with_the_numbers_of_trials_left_alone(
    block: range, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random grids, each trial stopped at random epochs; stopped ones read no test split."""
    for grid in block:
        draw = random.Random(f"stops {grid}")
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "images"))
        jobs = draw_grid(draw)
        monkeypatch.setenv("BENCH_CACHE", str(tmp_path / f"grid-{grid}"))
        for _ in range(2):
            stopped = [replace(job, stop=draw.randint(1, job.plan.epochs)) for job in jobs]
            results = results_of(cut(stopped, reuse=True))
            for job in stopped:
                result = results[job.trial_id]
                assert result.outcome is None
                assert result.predictions is None
                curves = [(r.epoch, r.lr, r.train, r.val) for r in result.records]
                whole = alone(job)
                expected = whole[1] if whole[0] is not None and len(whole) == 2 else whole[0]
                assert isinstance(expected, list)
                assert curves == expected[: job.end], (grid, job.trial.label)
        results = results_of(cut(jobs, reuse=True))
        for job in jobs:
            assert numbers(results[job.trial_id]) == alone(job), (grid, job.trial.label)


def test_what_trains_nothing_is_evaluated_once_for_all_numbers_of_training_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    jobs = []
    for shots in (1, 2, None):
        trial = make_trial("linear_probe", data=DATA, shots=shots)
        job = replace(job_of(trial), plan=Plan(stages=()))
        data = open_data(job.data)
        splits = trial_splits(trial, data)
        jobs.append(keyed(job, fingerprint=data.fingerprint, splits=splits, classes=data.classes))
    evaluated = []
    outcome_of = engine.outcome

    def counted(*arguments: Any) -> Any:
        evaluated.append(arguments)
        return outcome_of(*arguments)

    monkeypatch.setattr(engine, "outcome", counted)
    apart, together = (results_of(cut(jobs, reuse=reuse)) for reuse in (False, True))
    assert len({job.trial_id for job in jobs}) == 3
    assert len(evaluated) == 1  # by itself, without reuse, each trial is evaluated elsewhere
    for job in jobs:
        assert numbers(together[job.trial_id]) == numbers(apart[job.trial_id])
