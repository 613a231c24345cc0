"""Strategies that train few parameters: the rest stays bit by bit, as in states and checkpoints."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.execution.executors import InProcessExecutor
from bench.execution.jobs import Job, JobResult, cut
from bench.methods.plan import ADAPTER
from bench.models.checkpoints import read_checkpoint
from bench.training.loop import Branch, isolated
from tests.tiny import make_job, make_trial, tiny_training

CNN, VIT = "shufflenet_v2_x0_5", "timm/test_vit"
FEW = {"train_per_class": 6, "val_per_class": 4, "test_per_class": 4}
STRATEGIES: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("bitfit", CNN, {}),
    ("bitfit", CNN, {"norm": "update"}),
    ("bitfit", VIT, {}),
    ("norm_only", CNN, {}),
    ("norm_only", VIT, {}),
    ("lora", CNN, {"r": 2}),
    ("lora", VIT, {"r": 2, "dropout": 0.5}),
    ("ssf", CNN, {}),
    ("ssf", VIT, {}),
    ("houlsby", VIT, {"width": 4}),
    ("adaptformer", VIT, {"width": 4}),
    ("vpt", VIT, {"tokens": 2}),
    ("surgical", CNN, {"group": 2}),
    ("freeze_embed", CNN, {}),
    ("side_tuning", CNN, {}),
    ("side_tuning", VIT, {"side": "small"}),
    ("auto_rgn", CNN, {"batches": 1}),
    ("auto_rgn", VIT, {"batches": 1}),
)

QUICK = ("lora", "vpt")
"""Which the test line trains twice; the others in campaigns."""


def _trial(strategy: str, backbone: str, options: dict[str, Any], **settings: Any) -> Any:
    own = {"epochs": 2, "batch_size": 6, "lr": 0.05, "weight_decay": 0.1, **settings}
    return make_trial(strategy, options=options, backbone=backbone, data=FEW, **own)


@pytest.mark.parametrize(("strategy", "backbone", "options"), STRATEGIES)
def test_what_no_rule_trains_stays_bit_by_bit(
    strategy: str, backbone: str, options: dict[str, Any]
) -> None:
    training = tiny_training(_trial(strategy, backbone, options))
    network, (stage,) = training.network, training.plan.stages
    before = {name: each.clone() for name, each in network.model.state_dict().items()}
    branch = Branch(training=training)
    with isolated(1):
        branch.train_epoch()
    after = network.model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    own = dict(network.model.named_parameters())
    trained = {name for name in own if stage.rule_for(network.address_of(name)).lr is not None}
    assert moved & set(own) <= trained
    assert any(ADAPTER in name for name in moved) == (training.plan.adapter is not None)
    if training.plan.adapter is not None:  # nor do the backbone's statistics
        assert all(ADAPTER in name for name in moved - trained)
    assert {name for name in trained if own[name].grad is not None} == trained
    updates = options.get("norm", "update" if strategy in UPDATING else "fixed") == "update"
    assert any("running" in name for name in moved) == (updates and backbone == CNN)


UPDATING = ("norm_only", "surgical", "freeze_embed", "side_tuning", "auto_rgn")


def _trained(job: Job, *, reuse: bool) -> JobResult:
    (result,) = InProcessExecutor().run(cut([job], reuse=reuse), lambda _: None)
    assert result.error is None, result.error
    return result


@pytest.mark.parametrize(
    ("strategy", "backbone", "options"),
    [
        pytest.param(*each, marks=() if each[0] in QUICK else pytest.mark.campaign)
        for each in STRATEGIES
    ],
)
def test_a_trial_goes_on_and_comes_back_with_the_same_bits(
    strategy: str, backbone: str, options: dict[str, Any], tmp_path: Path
) -> None:
    trial = _trial(strategy, backbone, options)
    whole = _trained(make_job(trial, checkpoint=tmp_path / "whole.safetensors"), reuse=False)
    first = make_job(trial.with_settings(epochs=2))
    half = replace(first, stop=1)
    _trained(half, reuse=True)
    second = _trained(make_job(trial, checkpoint=tmp_path / "second.safetensors"), reuse=True)
    assert whole.predictions is not None
    assert second.predictions is not None
    assert (whole.predictions.probabilities == second.predictions.probabilities).all()
    checkpoint = read_checkpoint(tmp_path / "whole.safetensors")
    again = read_checkpoint(tmp_path / "second.safetensors")
    assert checkpoint.tensors.keys() == again.tensors.keys()
    assert all(torch.equal(checkpoint.tensors[name], again.tensors[name]) for name in again.tensors)
    checkpoint.network(whole.predictions.classes)


def test_adapters_behind_one_frozen_trunk_share_it_with_the_bits_of_each_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = [
        _trial("lora", VIT, {"r": 2, "dropout": 0.5, "top": 1}, epochs=1),
        _trial("lora", VIT, {"r": 1, "top": 1}, epochs=1, lr=0.01, optimizer="adamw"),
    ]
    jobs = [make_job(trial, trial_id=str(number)) for number, trial in enumerate(trials)]
    alone = [_trained(job, reuse=False) for job in jobs]
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    together = list(InProcessExecutor().run(cut(jobs, reuse=True), lambda _: None))
    for one, other in zip(alone, sorted(together, key=lambda each: each.trial_id), strict=True):
        assert one.predictions is not None
        assert other.predictions is not None
        assert (one.predictions.probabilities == other.predictions.probabilities).all()
        assert [r.train for r in one.records] == [r.train for r in other.records]
    kept = [file for file in (tmp_path / "features").iterdir() if not file.suffix]
    assert len(kept) == 3, "of the epoch, of validation, of the test split"
