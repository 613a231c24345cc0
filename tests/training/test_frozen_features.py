"""Frozen prefixes: the same bits in any company, from memory and from disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.methods.plan import HEAD, Rule
from bench.models.evaluation import FROZEN_BATCH, Trunk
from bench.training.frozen_features import (
    FeatureStore,
    gather,
    positions,
)
from bench.training.loop import Branch, isolated
from bench.training.trial import EpochInputs, Training
from tests.damage import DAMAGES, damage
from tests.tiny import make_trial, tiny_training

ALL = Rule(pattern="*", lr=1.0)
NOTHING = Rule(pattern="*", lr=None)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    with isolated(1):
        yield


def _training(strategy: str = "linear_probe", **changes: Any) -> Training:
    training = tiny_training(make_trial(strategy, **changes))
    training.network.eval()
    return training


# Bits -----------------------------------------------------------------------------------------

TRUNKS = [
    ("resnet18", 32, "fp32", HEAD),
    ("resnet18", 64, "bf16", HEAD),
    ("resnet18", 32, "fp32", "layer3"),
    ("mobilenet_v2", 32, "fp32", HEAD),
    ("mobilenet_v2", 64, "bf16", HEAD),
    ("efficientnet_b0", 64, "fp32", HEAD),
    ("efficientnet_b0", 32, "bf16", HEAD),
    ("shufflenet_v2_x0_5", 32, "fp32", HEAD),
    ("shufflenet_v2_x0_5", 64, "bf16", HEAD),
]


@pytest.mark.parametrize(("backbone", "size", "precision", "boundary"), TRUNKS)
@pytest.mark.campaign
def test_activations_have_the_same_bits_in_any_company(
    backbone: str, size: int, precision: str, boundary: str
) -> None:
    changes: dict[str, Any] = {"backbone": backbone, "precision": precision}
    network = _training(**changes).network
    images = torch.randn(70, 3, size, size, generator=torch.Generator().manual_seed(0))

    def activations(*batches: Tensor, parallel_batches: int = 1) -> Tensor:
        trunk = Trunk(network, boundary, precision=precision, parallel_batches=parallel_batches)
        return torch.cat(list(trunk(batches)))

    expected = activations(images)
    assert len(expected) == 70
    assert expected.dtype == (torch.float32 if precision == "fp32" else torch.bfloat16)
    order = torch.randperm(70, generator=torch.Generator().manual_seed(1))
    ways = {
        "alone": lambda: torch.cat([activations(images[i : i + 1]) for i in (0, 33, 69)]),
        "position": lambda: activations(images[order])[order.argsort()],
        "small batches": lambda: activations(*images.split(7)),
        "parallel_batches": lambda: activations(*images.split(16), parallel_batches=2),
        "many parallel_batches": lambda: activations(images, parallel_batches=5),
    }
    for name, way in ways.items():
        found = way()
        wanted = expected[[0, 33, 69]] if name == "alone" else expected
        assert torch.equal(found, wanted), name


def test_a_view_is_what_a_batch_computes_for_itself(tmp_path: Path) -> None:
    views = []
    for folder in (None, tmp_path):
        training = _training("partial_finetune")
        training.features = FeatureStore(folder)
        samples = training.splits.train
        for among in (samples, samples[3:9]):
            inputs = EpochInputs(training, "layer4", training.views, 1, among=among, pristine=True)
            views.append(inputs.of(samples[3:9]))
        views.append(inputs.through_trunk(inputs.batch(samples[3:9])))
    assert all(torch.equal(views[0], view) for view in views)
    assert all(view.is_contiguous(memory_format=torch.channels_last) for view in views)


def test_the_view_of_all_images_serves_every_split(tmp_path: Path) -> None:
    training = _training(augmentation="none", backbone="shufflenet_v2_x0_5")
    training.features = FeatureStore(tmp_path)
    for split in training.splits.named().values():
        inputs = EpochInputs(training, HEAD, training.central, 0, among=split, pristine=True)
        assert torch.equal(inputs.of(split), inputs.through_trunk(inputs.batch(split)))
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_each_epoch_and_seed_has_a_view_of_its_own(tmp_path: Path) -> None:
    seen = []
    for seed in (0, 1):
        training = _training(seed=seed, backbone="shufflenet_v2_x0_5")
        training.features = FeatureStore(tmp_path)
        samples = np.arange(4)
        for epoch in (0, 1):
            inputs = EpochInputs(
                training, HEAD, training.views, epoch, among=samples, pristine=True
            )
            seen.append(inputs.of(samples))
    assert len(list((tmp_path / "features").iterdir())) == 4
    assert not any(torch.equal(a, b) for i, a in enumerate(seen) for b in seen[:i])


# The store ------------------------------------------------------------------------------------


class Computation:
    def __init__(self, view: Tensor) -> None:
        self.view = view
        self.times = 0

    def __call__(self) -> Iterator[Tensor]:
        self.times += 1
        yield from self.view.split(FROZEN_BATCH)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(40, 5), (40, 2, 3, 5), (33, 7, 5)])
def test_a_view_from_disk_has_the_same_bits(
    dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path
) -> None:
    compute = Computation(torch.randn(shape).to(dtype))
    for store in (FeatureStore(tmp_path), FeatureStore(tmp_path)):
        assert store.shares
        for _ in range(2):
            found = store.view("key", compute, count=shape[0])
            assert found is not None
            assert found.dtype == dtype
            assert torch.equal(found, compute.view)
    assert compute.times == 1
    assert FeatureStore(tmp_path).view("other", compute, count=shape[0]) is not None
    assert compute.times == 2


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_view_is_computed_again(how: str, tmp_path: Path) -> None:
    compute = Computation(torch.randn(40, 6))
    FeatureStore(tmp_path).view("key", compute, count=40)
    (path,) = (tmp_path / "features").iterdir()
    damage(path, how)
    for times in (2, 2):
        found = FeatureStore(tmp_path).view("key", compute, count=40)
        assert found is not None
        assert torch.equal(found, compute.view)
        assert compute.times == times


def test_a_file_of_something_else_is_computed_again(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    compute = Computation(torch.randn(40, 6))
    (tmp_path / "features").mkdir()
    save_file({"weights": torch.zeros(3)}, tmp_path / "features" / "key")
    found = FeatureStore(tmp_path).view("key", compute, count=40)
    assert found is not None
    assert torch.equal(found, compute.view)


def test_a_view_that_is_too_large_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = Computation(torch.randn(40, 6))
    monkeypatch.setattr("bench.training.frozen_features.MAX_VIEW_BYTES", 40 * 6 * 4 - 1)
    for store in (FeatureStore(tmp_path), FeatureStore()):
        assert store.view("key", compute, count=40) is None
    monkeypatch.setattr("bench.training.frozen_features.MAX_VIEW_BYTES", 40 * 6 * 4)
    for store in (FeatureStore(tmp_path), FeatureStore()):
        assert store.view("key", compute, count=40) is not None


def test_views_that_are_too_large_change_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    curves = []
    for limit in (2**30, 0):
        monkeypatch.setattr("bench.training.frozen_features.MAX_VIEW_BYTES", limit)
        branch = Branch(training=_training("partial_finetune", backbone="shufflenet_v2_x0_5"))
        curves.append([(r.train, r.val) for r in (branch.train_epoch(), branch.train_epoch())])
    assert curves[0] == curves[1]


def test_without_a_folder_nothing_is_kept() -> None:
    compute = Computation(torch.randn(40, 6))
    store = FeatureStore()
    assert not store.shares
    for times in (1, 2):
        assert store.view("key", compute, count=40) is not None
        assert compute.times == times


def test_gather_takes_rows_channels_second() -> None:
    view = torch.arange(4 * 2 * 3 * 5).reshape(4, 2, 3, 5)
    rows = positions(np.array([10, 20, 30, 40]), np.array([40, 10]))
    assert rows.tolist() == [3, 0]
    found = gather(view, rows)
    assert found.shape == (2, 5, 2, 3)
    assert torch.equal(found[0], view[3].permute(2, 0, 1))
    assert gather(torch.arange(8).reshape(4, 2), rows).tolist() == [[6, 7], [0, 1]]
