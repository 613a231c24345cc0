"""Pairs of samples: which there are, and trials that learn from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.errors import PlanError
from bench.methods.plan import HEAD, Plan, Rule, Stage, Term
from bench.methods.strategies import STRATEGIES, make_plan
from bench.models import layer_group_names
from bench.suite import Entry, Settings, Trial
from bench.training.data_parallel.ranks import Ranks
from bench.training.loop import Branch, Outcome, isolated, train
from bench.training.one_device import pieces_of
from bench.training.pairs import pair_order
from bench.training.trial import EpochInputs, Step, batch_order
from tests.texts import text_backbone
from tests.tiny import entry, make_trial, tiny_training

SAMPLES = np.array([3, 7, 1, 9, 4, 12])
LABELS = np.array([9, 0, 9, 0, 1, 9, 9, 0, 9, 1, 9, 9, 2])
"""Three of the samples are of class 0, two of 1, one is alone in 2; the others do not train."""


def pairs(seed: int, count: int = 4) -> Any:
    order = pair_order(SAMPLES, LABELS, count, np.random.default_rng(seed))
    assert len(order) == 4 * count * len(SAMPLES)
    return order.reshape(-1, 2)


def test_each_sample_begins_as_many_pairs_of_its_class_as_of_others() -> None:
    found = pairs(0)
    same = LABELS[found[:, 0]] == LABELS[found[:, 1]]
    for sample in SAMPLES:
        own = found[:, 0] == sample
        assert same[own].sum() == 4
        assert (~same)[own].sum() == 4
    itself = found[:, 0] == found[:, 1]
    assert set(found[itself, 0]) == {12}  # alone in its class
    assert set(found[:, 1]) == set(SAMPLES)
    assert not same[:24].all()  # in any order


def test_they_depend_on_the_draw_alone() -> None:
    assert (pairs(0) == pairs(0)).all()
    assert (pairs(0) != pairs(1)).any()


def test_all_partners_are_drawn_alike() -> None:
    found = pairs(0, count=2000)
    others = found[(found[:, 0] == 3) & (LABELS[found[:, 1]] != LABELS[3]), 1]
    _, counts = np.unique(others, return_counts=True)
    assert len(counts) == 3
    assert np.abs(counts - 2000 / len(counts)).max() < 5 * np.sqrt(2000 / len(counts))


def test_plans_of_pairs_fit_their_head() -> None:
    stages = (Stage(epochs=1, rules=(Rule(pattern="*", lr=1.0),)),)
    fit = Term(name="logistic", options=(("c", 1.0),))
    assert Plan(stages=stages, fit=fit, pairs=2).rows(10) == 80
    with pytest.raises(PlanError, match="has no stages, but of pairs"):
        Plan(stages=stages, fit=fit)
    with pytest.raises(PlanError, match="at least one, and a fit"):
        Plan(stages=stages, pairs=1)
    own = entry(STRATEGIES, "setfit", objective="focal")
    with pytest.raises(PlanError, match="setfit: it minimises distances of pairs"):
        make_plan(own, layer_group_names("resnet18"), Settings())


# Trials -----------------------------------------------------------------------------------------


def pair_trial(backbone: str | None = None, **settings: Any) -> Trial:
    pytest.importorskip("sklearn")
    usual: dict[str, Any] = {"lr": 1e-3, "optimizer": "adamw", "head": Entry(name="fitted")}
    options = {"iterations": settings.pop("iterations", 1), **settings.pop("options", {})}
    name = text_backbone() if backbone is None else backbone
    return make_trial("setfit", options=options, backbone=name, **{**usual, **settings})


def trained(trial: Trial) -> Outcome:
    return train(tiny_training(trial), lambda _: None)


def test_batches_hold_whole_pairs_that_are_keyed_by_seed_and_epoch() -> None:
    training = tiny_training(pair_trial(batch_size=7))
    labels, orders = training.data.labels, [batch_order(training, epoch) for epoch in (0, 1, 0)]
    assert {len(batch) for batch in orders[0]} == {6}
    joined = [np.concatenate(order) for order in orders]
    assert (joined[0] == joined[2]).all()
    assert (joined[0] != joined[1]).any()
    same = labels[joined[0][0::2]] == labels[joined[0][1::2]]
    assert same.mean() == 0.5
    other = tiny_training(pair_trial(batch_size=7, seed=1))
    assert (joined[0] != np.concatenate(batch_order(other, 0))).any()


def test_the_head_is_fitted_to_what_each_epoch_has_made_of_the_features() -> None:
    training = tiny_training(pair_trial(epochs=3))
    assert training.network.fitted_head is not None
    prefix, head = training.network.fitted_head
    seen: list[dict[str, Tensor]] = []
    branch = Branch(training=training)
    with isolated(1):
        training.load({})
        for _ in range(3):
            branch.train_epoch()
            seen.append({name: each.clone() for name, each in head.held().items()})
        state = branch.state()
    assert set(seen[0]) == {"weight", "bias"}
    assert not torch.equal(seen[0]["weight"], seen[1]["weight"])
    assert torch.equal(state.model[f"{prefix}weight"], seen[2]["weight"])
    moved = {training.network.group_of(name).name for name in state.model}
    assert moved == {"embeddings", "block1", "block2", HEAD}
    assert [record.lr for record in state.records] == [1e-3] * 3


def test_pieces_of_batches_and_shares_of_devices_hold_whole_pairs() -> None:
    training = tiny_training(pair_trial(micro_batch=5))
    inputs = EpochInputs(
        training, None, training.views, 0, among=training.splits.train, pristine=False
    )
    step = Step(inputs=inputs, samples=batch_order(training, 0)[0], number=0)
    assert pieces_of(training, step) == [slice(0, 4), slice(4, 8)]
    shards = [Ranks(rank, 2).shard(slice(4, 10), together=2).rows for rank in (0, 1)]
    assert shards == [slice(4, 8), slice(8, 10)]
    assert Ranks(3, 4).shard(slice(4, 8), together=2).size == 2
    assert not Ranks(3, 4).shard(slice(4, 8), together=2).counts


@pytest.mark.campaign
def test_images_have_pairs_too() -> None:
    found = trained(pair_trial("timm/test_vit", augmentation="flip_crop"))
    assert len(found.records) == 2
    assert found.trainable_params == found.total_params
