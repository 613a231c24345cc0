"""The LR range test: what it trains, what it leaves alone, what its losses suggest."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

import bench.training.lr_range
from bench.errors import BenchError, PlanError
from bench.methods.plan import Plan, Rule, Stage
from bench.suite import Trial
from bench.training.frozen_features import FeatureStore
from bench.training.loop import isolated, train, train_step
from bench.training.lr_range import (
    LrRange,
    _longest_fall,
    diverged,
    exponential_means,
    local_lines,
    lr_range_test,
    smoothed,
    steepest,
    valley,
)
from bench.training.trial import Training, batch_order
from tests.tiny import make_trial, tiny_training

LRS = np.geomspace(1e-6, 10, 100).tolist()
DECADE = 99 / 7
"""Steps of `LRS` from a learning rate to its tenfold."""

STEPS = 20
SMALL = "shufflenet_v2_x0_5"


def _trial(*arguments: Any, **changes: Any) -> Trial:
    return make_trial(*arguments, **{"backbone": SMALL, **changes})


def steps_apart(found: float | None, expected: float) -> float:
    assert found is not None
    return abs(math.log10(found / expected)) * DECADE


def short_test(training: Training, *, low: float = 1e-4, high: float = 1e-2) -> LrRange:
    return lr_range_test(training, low=low, high=high, steps=STEPS)


# Suggestions ----------------------------------------------------------------------------------


def logistic(
    centre: float, *, width: float = 0.4, top: float = 0.7, end: float = 0.1
) -> list[float]:
    """A fall that is steepest at the learning rate `centre`."""
    return [end + (top - end) / (1 + math.exp(math.log10(lr / centre) / width)) for lr in LRS]


def exploding(losses: list[float], lr: float) -> list[float]:
    """The losses up to a learning rate, then two that a broken network has."""
    return [loss for loss, at in zip(losses, LRS, strict=True) if at < lr] + [80.0, 1e6]


@pytest.mark.parametrize("centre", [1e-4, 1e-3, 1e-2])
def test_the_steepest_point_of_a_logistic_fall_is_its_centre(centre: float) -> None:
    assert steps_apart(steepest(LRS, logistic(centre)), centre) <= 1


@pytest.mark.parametrize("centre", [1e-4, 1e-3])
def test_what_comes_after_the_least_loss_does_not_matter(centre: float) -> None:
    losses = exploding(logistic(centre), 1.0)
    assert diverged(losses)
    assert steps_apart(steepest(LRS, losses), centre) <= 1
    assert steps_apart(steepest(LRS, [*losses, math.nan]), centre) <= 1
    assert steps_apart(valley(LRS, [*losses, math.inf]), valley(LRS, losses) or 0) == 0


@pytest.mark.parametrize("lowest", [1e-3, 1e-1])
def test_the_valley_is_two_thirds_into_a_steady_fall(lowest: float) -> None:
    losses = [0.2 + 0.05 * abs(math.log10(lr / lowest)) for lr in LRS]
    expected = LRS[0] * (lowest / LRS[0]) ** (2 / 3)
    assert steps_apart(valley(LRS, losses), expected) <= 1


def test_noise_moves_the_suggestions_by_less_than_half_a_decade() -> None:
    for seed in range(20):
        noise = np.random.default_rng(seed).normal(0, 0.05, len(LRS))
        losses = exploding((np.array(logistic(1e-3)) + noise).tolist(), 1.0)
        assert steps_apart(steepest(LRS, losses), 1e-3) < DECADE / 2
        found = valley(LRS, losses)
        assert found is not None
        assert 3e-4 < found < 3e-2


@pytest.mark.parametrize(
    "losses",
    [
        [0.7] * 100,
        [0.7 + 0.01 * step for step in range(100)],
        (0.7 + np.random.default_rng(3).normal(0, 0.1, 100)).tolist(),
        [math.nan] * 3,
        [0.7, math.inf],
        [],
    ],
    ids=["constant", "rising", "noise", "nan", "one", "none"],
)
def test_without_a_fall_nothing_is_suggested(losses: list[float]) -> None:
    lrs = LRS[: len(losses)]
    assert steepest(lrs, losses) is None
    assert valley(lrs, losses) is None


def test_means_are_those_of_their_definition() -> None:
    losses = np.linspace(1.0, 0.4, 30) + np.random.default_rng(0).uniform(0, 0.1, 30)
    for index, mean in enumerate(exponential_means(losses)):
        moment = sum(0.1 * 0.9 ** (index - i) * losses[i] for i in range(index + 1))
        assert mean == pytest.approx(moment / (1 - 0.9 ** (index + 1)))


def scattered(count: int = 60, noise: float = 0.1) -> np.ndarray[Any, Any]:
    steps = np.linspace(-2, 2, count)
    return 1 / (1 + np.exp(3 * steps)) + np.random.default_rng(1).normal(0, noise, count)


def line_at(
    losses: np.ndarray[Any, Any], step: int, bandwidth: float, *, without: int | None = None
) -> tuple[float, float]:
    """Value and slope at a step of the line that NumPy fits to the losses around it."""
    away = np.arange(len(losses)) - step
    used = np.abs(away) <= 4 * bandwidth
    if without is not None:
        used[without] = False
    weights = np.exp(-(away[used] ** 2) / (2 * bandwidth**2))
    slope, value = np.polyfit(away[used], losses[used], 1, w=np.sqrt(weights))
    return float(value), float(slope)


@pytest.mark.parametrize("bandwidth", [5.0, 7.0, 14.0])
def test_lines_are_those_of_a_weighted_least_squares_fit(bandwidth: float) -> None:
    losses = scattered()
    fit = local_lines(losses, bandwidth)
    expected = [line_at(losses, step, bandwidth) for step in range(len(losses))]
    np.testing.assert_allclose(fit.values, [value for value, _ in expected], atol=1e-9)
    np.testing.assert_allclose(fit.slopes, [slope for _, slope in expected], atol=1e-9)
    left_out = [line_at(losses, s, bandwidth, without=s)[0] for s in range(len(losses))]
    assert fit.error == pytest.approx(float(np.mean((losses - left_out) ** 2)))


def test_the_bandwidth_is_the_one_that_predicts_best_what_is_left_out() -> None:
    for noise in (0.0, 0.1, 0.5):
        losses = scattered(100, noise)
        errors = {width: local_lines(losses, width).error for width in (5.0, 7.0, 10.0, 14.0, 20.0)}
        best = min(errors, key=errors.__getitem__)
        np.testing.assert_array_equal(smoothed(losses), local_lines(losses, best).values)
        assert (best > 5) == (noise > 0.2)


def test_smoothing_leaves_a_line_as_it_is_to_both_ends() -> None:
    """Means of neighbours alone, on one side or both, bend away from the data at the ends."""
    losses = np.linspace(1.04, 0.4, 40)
    np.testing.assert_allclose(smoothed(losses), losses, rtol=1e-12)


@pytest.mark.parametrize("steps", [50, 100])
def test_the_smoothed_curve_lies_near_the_one_without_noise(steps: int) -> None:
    """Plateau, fall, rise: as near at the bottom and at the ends as anywhere."""
    at = np.linspace(0, 1, steps)
    truth = 0.83 - 0.6 / (1 + np.exp(-20 * (at - 0.5))) + 0.5 * np.maximum(0, at - 0.8)
    rows = [
        smoothed(truth + np.random.default_rng(seed).normal(0, 0.05, steps)) for seed in range(40)
    ]
    bias = np.mean(rows, axis=0) - truth
    assert np.abs(bias).max() < 0.07
    assert np.abs(bias[[0, -1]]).max() < 0.05


def test_behind_a_divergence_losses_are_as_they_are() -> None:
    # The loss of 9 is the first behind the least mean that is far above all in front of it.
    losses = np.append(scattered(30, 0.02), [9.0, 0.5, 0.2])
    np.testing.assert_array_equal(smoothed(losses)[30:], losses[30:])
    np.testing.assert_array_equal(smoothed(losses)[:30], smoothed(losses[:30]))


def test_a_hard_batch_is_no_divergence() -> None:
    losses = np.array(logistic(1e-3))
    losses[80] = 0.75  # above all in front
    assert np.abs(smoothed(losses)[85:] - losses[85:]).max() < 0.05
    assert smoothed(losses)[80] < 0.3


@pytest.mark.parametrize("losses", [[], [0.5], [0.5, 0.4]])
def test_too_few_losses_are_as_they_are(losses: list[float]) -> None:
    assert smoothed(losses).tolist() == losses


def test_losses_that_only_scatter_suggest_nothing() -> None:
    found = 0
    for seed in range(100):
        losses = (0.7 + np.random.default_rng(seed).normal(0, 0.1, 100)).tolist()
        found += valley(LRS, losses) is not None
    assert found <= 2


@pytest.mark.parametrize("steps", [20, 100])
def test_a_fall_of_four_times_the_scatter_is_found(steps: int) -> None:
    lrs = np.geomspace(1e-6, 10, steps)
    truth = np.interp(np.log(lrs), np.log(LRS), logistic(1e-3))
    for seed in range(20):
        losses = truth + np.random.default_rng(seed).normal(0, 0.15, steps)
        found = valley(lrs.tolist(), losses.tolist())
        assert found is not None
        assert 1e-4 < found < 1


def test_smoothing_does_not_lag() -> None:
    losses = np.linspace(2.0, 0.1, 100)
    np.testing.assert_allclose(smoothed(losses)[45:55], losses[45:55], rtol=1e-2)


def test_a_low_first_loss_is_no_divergence_of_the_others() -> None:
    losses = [0.1, *logistic(1e-3)[1:]]
    assert steps_apart(steepest(LRS, losses), 1e-3) <= 1


def test_smoothing_does_not_see_a_divergence_ahead() -> None:
    losses = logistic(1e-3)
    assert smoothed([*losses, 80.0, 1e6])[:100].tolist() == smoothed(losses).tolist()


def test_a_loss_that_is_not_finite_ends_the_smoothed_ones() -> None:
    found = LrRange(lrs=(0.1, 0.2, 0.3), losses=(1.0, 0.9, math.nan))
    assert len(found.smoothed) == 3
    assert all(map(math.isfinite, found.smoothed[:2]))
    assert math.isnan(found.smoothed[2])


def test_the_longest_fall_is_that_of_the_quadratic_search() -> None:
    for seed in range(50):
        values = np.random.default_rng(seed).integers(0, 12, 25).tolist()
        lengths: list[int] = []
        for index, value in enumerate(values):
            before = [n for n, v in zip(lengths, values[:index], strict=True) if v > value]
            lengths.append(1 + max(before, default=0))
        assert _longest_fall(values) == (lengths.index(max(lengths)), max(lengths))


# Training -------------------------------------------------------------------------------------


class Recorder:
    """Sees every step of a test: the rates of its groups, and the network after the last one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rates: list[dict[bool, set[float]]] = []
        self.state: dict[str, Tensor] = {}
        monkeypatch.setattr(bench.training.lr_range, "train_step", self._step)

    def _step(self, training: Training, *arguments: Any, **options: Any) -> tuple[Tensor, Tensor]:
        result = train_step(training, *arguments, **options)
        rates: dict[bool, set[float]] = {}
        for group in training.optimizer.param_groups:
            rates.setdefault(group["head"], set()).add(group["lr"])
        self.rates.append(rates)
        self.state = copies(training)
        return result


def copies(training: Training) -> dict[str, Tensor]:
    return {name: t.clone() for name, t in training.network.model.state_dict().items()}


def plain_images(training: Training, samples: np.ndarray[Any, Any]) -> Tensor:
    images = torch.from_numpy(training.data.images[samples]).permute(0, 3, 1, 2).float() / 255
    mean, std = (
        torch.tensor(values).view(1, 3, 1, 1)
        for values in (training.preprocessing.mean, training.preprocessing.std)
    )
    return (images - mean) / std


def plain_model(training: Training) -> nn.Module:
    model = torchvision.models.resnet18(num_classes=2)
    model.load_state_dict(training.network.model.state_dict())
    return model


def plain_losses(
    training: Training, step: Callable[[float, Tensor, Tensor], Tensor]
) -> list[float]:
    """The losses of `step(lr, images, labels)` over the batches of the trial's epochs."""
    batches = [batch for epoch in range(STEPS) for batch in batch_order(training, epoch)]
    losses = []
    for lr, batch in zip(np.geomspace(1e-4, 1e-2, STEPS).tolist(), batches, strict=False):
        labels = torch.from_numpy(training.data.labels[batch])
        losses.append(step(lr, plain_images(training, batch), labels).item())
    return losses


def test_losses_are_those_of_a_plain_loop_with_two_rates() -> None:
    training = tiny_training(
        make_trial(
            "two_rates",
            options={"backbone_multiplier": 0.1},
            augmentation="none",
            momentum=0.9,
            weight_decay=0.01,
        )
    )
    found = short_test(training)
    model = plain_model(training).train()
    head = [p for name, p in model.named_parameters() if name.startswith("fc.")]
    body = [p for name, p in model.named_parameters() if not name.startswith("fc.")]
    groups: list[dict[str, Any]] = [{"params": head}, {"params": body}]
    optimizer = torch.optim.SGD(groups, lr=1.0, momentum=0.9, weight_decay=0.01)

    def step(lr: float, images: Tensor, labels: Tensor) -> Tensor:
        for group, multiplier in zip(optimizer.param_groups, (1.0, 0.1), strict=True):
            group["lr"] = lr * multiplier
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    with isolated(1):
        expected = plain_losses(training, step)
    # Rounding that differs in the first steps grows with the rate.
    assert found.losses[:15] == pytest.approx(expected[:15], rel=1e-3)
    assert found.lrs == pytest.approx([1e-4 * 100 ** (i / (STEPS - 1)) for i in range(STEPS)])


def test_losses_of_a_frozen_trunk_are_those_of_a_plain_head_on_its_features() -> None:
    training = tiny_training(make_trial("linear_probe", augmentation="none", momentum=0.9))
    found = short_test(training)
    model = plain_model(training).eval()
    head, model.fc = model.fc, nn.Identity()
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0, momentum=0.9)

    def step(lr: float, images: Tensor, labels: Tensor) -> Tensor:
        optimizer.param_groups[0]["lr"] = lr
        with torch.no_grad():
            features = model(images)
        loss = F.cross_entropy(head(features), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    assert found.losses == pytest.approx(plain_losses(training, step), rel=1e-4)


@pytest.mark.parametrize(
    ("strategy", "options", "groups"),
    [
        ("linear_probe", {}, {"head"}),
        ("partial_finetune", {"top": 1}, {"last_conv", "head"}),
        ("gradual_unfreeze", {"every": 1}, {"head"}),
        ("lp_ft", {}, {"head"}),
    ],
)
def test_what_the_first_stage_freezes_keeps_every_bit(
    strategy: str, options: dict[str, Any], groups: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    training = tiny_training(_trial(strategy, options=options, weight_decay=0.1, momentum=0.9))
    before, recorder = copies(training), Recorder(monkeypatch)
    short_test(training)
    moved = {name for name in before if not torch.equal(before[name], recorder.state[name])}
    assert {training.network.group_of(name).name for name in moved} == groups


def test_a_multiplier_of_zero_stays_zero_and_fixed_statistics_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = {"backbone_multiplier": 0.0, "norm": "fixed"}
    training = tiny_training(_trial("two_rates", options=options))
    before, recorder = copies(training), Recorder(monkeypatch)
    found = short_test(training)
    moved = {name for name in before if not torch.equal(before[name], recorder.state[name])}
    assert moved == {"fc.weight", "fc.bias"}
    assert recorder.rates == [{True: {lr}, False: {0.0}} for lr in found.lrs]


@pytest.mark.parametrize(
    "changes",
    [
        {"strategy": "full_finetune", "momentum": 0.9},
        {"strategy": "linear_probe"},
        {"strategy": "full_finetune", "backbone": "mobilenet_v3_small", "mix": "mixup"},
    ],
    ids=["everything", "head", "dropout and mixup"],
)
def test_a_test_repeats_bit_by_bit_and_leaves_no_trace(changes: dict[str, Any]) -> None:
    trial = _trial(**changes)
    expected = train(tiny_training(trial), lambda _: None)
    training = tiny_training(trial)
    start = copies(training)
    first = short_test(training, high=100.0)
    after = copies(training)
    assert all(torch.equal(start[name], after[name]) for name in start)
    trained = train(training, lambda _: None)
    assert [(r.train, r.val) for r in trained.records] == [
        (r.train, r.val) for r in expected.records
    ]
    assert short_test(training, high=100.0) == first
    assert short_test(tiny_training(trial), high=100.0) == first


def test_kept_features_give_the_same_losses(tmp_path: Path) -> None:
    training = tiny_training(_trial("linear_probe"))
    alone = short_test(training)
    training.features, training.trunk_key = FeatureStore(tmp_path), "trunk"
    assert short_test(training) == alone
    assert any((tmp_path / "features").iterdir())
    assert short_test(training) == alone


def test_it_ends_when_the_loss_diverges() -> None:
    found = lr_range_test(tiny_training(_trial()), low=1e-3, high=1e12, steps=50)
    assert len(found.lrs) == len(found.losses) < 50
    assert diverged(found.losses)
    assert not any(diverged(found.losses[:n]) for n in range(1, len(found.losses)))
    assert found.lrs == tuple(np.geomspace(1e-3, 1e12, 50)[: len(found.lrs)].tolist())


@pytest.mark.campaign
@pytest.mark.usefixtures("two_threads")
def test_it_leaves_the_callers_random_state_and_threads() -> None:
    training = tiny_training(_trial())
    threads = torch.get_num_threads()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    short_test(training)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"low": 0.0}, "low must be above 0 and below high, got low 0 and high 1"),
        ({"low": 2.0}, "low must be above 0 and below high, got low 2 and high 1"),
        ({"high": math.inf}, "got low 0.1 and high inf"),
        ({"low": math.nan}, "got low nan"),
        ({"steps": 5}, "steps must be at least 20, got 5"),
    ],
)
def test_an_impossible_range_is_refused(options: dict[str, Any], message: str) -> None:
    values: dict[str, Any] = {"low": 0.1, "high": 1.0, "steps": 20, **options}
    with pytest.raises(BenchError, match=message):
        lr_range_test(tiny_training(_trial()), **values)


@pytest.mark.parametrize(
    "plan",
    [Plan(stages=()), Plan(stages=(Stage(epochs=1, rules=(Rule(pattern="*", lr=0.0),)),))],
    ids=["no stage", "no rate"],
)
def test_a_plan_that_trains_nothing_is_refused(plan: Plan) -> None:
    training = tiny_training(_trial())
    training.plan = plan
    with pytest.raises(PlanError, match="trains something in its first stage"):
        short_test(training)
