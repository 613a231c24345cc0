"""On an emulated GPU every kind of training has the losses of the CPU and waits once a split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any, Literal

import pytest
import torch

from bench.data import open_data
from bench.execution.engine import make_training
from bench.execution.jobs import trial_splits
from bench.training.loop import Branch, isolated, train
from bench.training.lr_range import READ_EVERY, lr_range_test
from bench.training.one_device import OneDevice
from bench.training.stacked_heads import HeadTrial, train_heads
from bench.training.trial import Step, Training
from tests.emulated_device import Counts, emulated_device
from tests.tiny import make_job, make_trial

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real device")

WAITS_AN_EPOCH = 2
"""For loss and accuracy of the training split, and for the logits of validation."""

Kind = Literal["cuda", "mps"]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A trial; `quick` ones are tested each time."""

    strategy: str = "full_finetune"
    settings: dict[str, Any] = field(default_factory=dict)
    quick: bool = False

    def training(self, device: str, **more: Any) -> Training:
        """Of two epochs by default, of a small network on 16 images of 32 pixels."""
        settings = {"backbone": "shufflenet_v2_x0_5", **self.settings, **more}
        job = replace(make_job(make_trial(self.strategy, **settings)), device=device)
        data = open_data(job.data)
        return make_training(job, data, trial_splits(job.trial, data))

    def losses(self, device: str) -> list[float]:
        """All of its epochs."""
        records = train(self.training(device), lambda record: None).records
        return [loss for record in records for loss in (record.train.loss, record.val.loss)]

    @property
    def stacks(self) -> bool:
        """Whether a head alone is trained, in a stack."""
        return self.strategy.endswith("_probe") and "objective" not in self.settings.get(
            "options", {}
        )


def case(strategy: str = "full_finetune", *, quick: bool = False, **settings: Any) -> Case:
    return Case(strategy=strategy, settings=settings, quick=quick)


L2_SP = {"penalty": {"l2_sp": {"weight": 0.1, "head_weight": 0.01}}}
FOCAL = {"objective": {"name": "focal"}}
FEATURES = {"penalty": {"delta": {"weight": 0.01}, "bss": {"weight": 0.01}}, "stoch_norm": 0.5}
CASES = {
    "from_scratch": case("from_scratch"),
    "linear_probe": case("linear_probe"),
    "linear_probe-fixed-views": case("linear_probe", augmentation="none"),
    "linear_probe-adam": case("linear_probe", optimizer="adam"),
    "linear_probe-mixup": case("linear_probe", mix="mixup"),
    "linear_probe-l2_sp": case("linear_probe", options=L2_SP),
    "linear_probe-focal": case("linear_probe", options=FOCAL),
    "linear_probe-weights": case(
        "linear_probe", class_weights="balanced", label_smoothing=0.1, grad_clip_norm=1.0
    ),
    "mlp_probe-adamw": case("mlp_probe", optimizer="adamw", quick=True),
    "full_finetune": case(),
    "full_finetune-fixed-views": case(augmentation="none"),
    "full_finetune-bf16": case(precision="bf16"),
    "full_finetune-fp16": case(precision="fp16", quick=True),
    "full_finetune-adam": case(optimizer="adam", lr=1e-4),
    "full_finetune-nesterov": case(nesterov=True),
    "full_finetune-balanced": case(sampler="balanced", class_weights="balanced"),
    "full_finetune-matrices": case(weight_decay_on="matrices", optimizer="adamw", lr=1e-4),
    "mixup": case(mix="mixup"),
    "cutmix": case(mix="cutmix"),
    "pieces": case(micro_batch=3, class_weights="balanced", label_smoothing=0.1),
    "pieces-mixup": case(micro_batch=4, mix="mixup", class_weights="balanced", lr=1e-3),
    "l2_sp": case(options=L2_SP),
    "focal": case(options=FOCAL),
    "features": case(options=FEATURES, lr=1e-3),
    "l2_sp-focal-pieces": case(options={**L2_SP, **FOCAL}, micro_batch=4),
    "two_rates-clipping": case("two_rates", grad_clip_norm=1.0),
    "layerwise_decay": case("layerwise_decay"),
    "partial_finetune": case("partial_finetune", augmentation="none"),
    "partial_finetune-views": case("partial_finetune"),
    "gradual_unfreeze": case("gradual_unfreeze", options={"every": 1}, epochs=3),
    "lp_ft": case("lp_ft"),
    "inception": case(backbone="googlenet", grad_clip_norm=1.0),
    "auto_rgn-fp16": case("auto_rgn", options={"batches": 2}, precision="fp16"),
}


def named(*, quick_too: bool = True) -> list[Any]:
    return [
        pytest.param(name, marks=() if each.quick and quick_too else pytest.mark.campaign)
        for name, each in CASES.items()
    ]


@cache
def losses_on_the_cpu(name: str) -> list[float]:
    """In single precision: the emulation casts nothing, and a scale is a power of two."""
    each = CASES[name]
    return replace(each, settings={**each.settings, "precision": "fp32"}).losses("cpu")


@pytest.mark.parametrize("name", named())
def test_a_gpu_gives_the_losses_of_the_cpu_and_waits_for_no_step(name: str) -> None:
    with emulated_device() as counts:
        losses = CASES[name].losses("cuda")
    # A fused optimiser rounds otherwise.
    assert losses == pytest.approx(losses_on_the_cpu(name), abs=1e-4)
    assert not counts.errors
    measures = CASES[name].strategy == "auto_rgn"  # once for its rates
    assert waits_of_an_epoch(CASES[name]).total() <= WAITS_AN_EPOCH + measures


def waits_of_an_epoch(case: Case) -> Counter[str]:
    """Those of the second one, of 4 steps; all but what is done once a training."""
    with emulated_device() as counts, isolated(1, "cuda"):
        training = case.training("cuda", batch_size=4, epochs=3)
        epochs = epochs_of(training, case)
        next(epochs)
        before = counts.syncs.copy()
        next(epochs)
    return counts.syncs - before


def epochs_of(training: Training, case: Case) -> Iterator[Any]:
    if case.stacks:
        yield from train_heads([HeadTrial(training=training, epochs=3)])
        return
    branch = Branch(training=training)
    while True:
        yield branch.train_epoch()


@pytest.mark.parametrize("name", named(quick_too=False))
def test_metal_gives_the_losses_of_the_cpu(name: str) -> None:
    if CASES[name].settings.get("precision") == "fp16":
        pytest.skip("it needs a CUDA device")
    with emulated_device("mps") as counts:
        losses = CASES[name].losses("mps")
    assert losses == pytest.approx(losses_on_the_cpu(name), abs=1e-5)
    assert not counts.errors


def test_many_heads_of_several_seeds_wait_as_one() -> None:
    probe = CASES["linear_probe-fixed-views"]
    with emulated_device() as counts, isolated(1, "cuda"):
        trainings = [
            probe.training("cuda", seed=seed, lr=lr, batch_size=4, optimizer="adam")
            for seed in (0, 1)
            for lr in (0.01, 0.02)
        ]
        epochs = train_heads([HeadTrial(training=own, epochs=2) for own in trainings])
        for _ in trainings:
            next(epochs)
        before = counts.syncs.total()
        next(epochs)
    assert counts.syncs.total() - before <= WAITS_AN_EPOCH
    assert not counts.errors


@pytest.mark.parametrize("optimizer", [pytest.param("sgd", marks=pytest.mark.campaign), "adam"])
def test_a_branch_goes_on_from_a_state(optimizer: str) -> None:
    each = case(optimizer=optimizer)
    with emulated_device() as counts, isolated(1, "cuda"):
        whole = Branch(training=each.training("cuda"))
        whole.train_epoch()
        state = whole.state()
        expected = whole.train_epoch()
        for _ in range(2):  # which leaves the state as it was
            again = Branch(training=each.training("cuda"))
            again.restore(state)
            found = again.train_epoch()
            assert (found.train, found.val) == (expected.train, expected.val)
    assert not counts.errors


def test_the_range_test_waits_once_for_many_steps() -> None:
    # Large rates would make roundings, which differ, as large as losses.
    steps, low, high = READ_EVERY, 1e-6, 1e-3
    expected = lr_range_test(case().training("cpu"), low=low, high=high, steps=steps)
    with emulated_device() as counts:
        training = case().training("cuda")
        training.load({})
        before = counts.syncs.copy()
        found = lr_range_test(training, low=low, high=high, steps=steps)
    waits = Counter(place for place in (counts.syncs - before).elements() if "lr_range" in place)
    assert waits.total() == 1
    assert (counts.syncs - before).total() == waits.total()
    assert found.losses == pytest.approx(expected.losses, abs=1e-4)


# What must not pass ---------------------------------------------------------------------------


class _Waiting(OneDevice):
    """Looks at a number of each step."""

    def add_gradients(self, training: Training, step: Step) -> Any:
        logits, targets = super().add_gradients(training, step)
        assert logits.sum().item() < 1e6
        return logits, targets


class _Mixed(OneDevice):
    """Adds something that is on the CPU."""

    def add_gradients(self, training: Training, step: Step) -> Any:
        logits, targets = super().add_gradients(training, step)
        return logits + torch.zeros(2), targets


class _Double(OneDevice):
    """Computes in double precision."""

    def add_gradients(self, training: Training, step: Step) -> Any:
        logits, targets = super().add_gradients(training, step)
        return logits.double(), targets


def _epoch_with(compute: OneDevice, kind: Kind) -> Counts:
    with emulated_device(kind) as counts, isolated(1, kind):
        training = replace(case(batch_size=4).training(kind), compute=compute)
        branch = Branch(training=training)
        branch.train_epoch()
        counts.syncs.clear()
        branch.train_epoch()
    return counts


def test_a_planted_wait_is_found() -> None:
    waits = _epoch_with(_Waiting(), "cuda").syncs
    assert waits.total() == WAITS_AN_EPOCH + 4
    assert _epoch_with(OneDevice(), "cuda").syncs.total() == WAITS_AN_EPOCH


def test_a_planted_tensor_of_the_cpu_is_found() -> None:
    with pytest.raises(RuntimeError, match="same device"):
        _epoch_with(_Mixed(), "cuda")


def test_planted_double_precision_is_found_on_metal() -> None:
    with pytest.raises(TypeError, match="float64"):
        _epoch_with(_Double(), "mps")
