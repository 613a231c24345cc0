"""Every schedule against torch's own scheduler, step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from bench.methods.schedules import SCHEDULES, Progress, lr_factor
from bench.suite import Entry

STEPS_PER_EPOCH, EPOCHS = 5, 12
STEPS = STEPS_PER_EPOCH * EPOCHS
VAL_LOSSES = (1.0, 0.9, 0.95, 0.93, 0.92, 0.91, 0.95, 0.5, 0.6, 0.6, 0.6, 0.49999)

Reference = Callable[[torch.optim.Optimizer], Any]

# One line a schedule: options, torch's scheduler, and whether that one steps per epoch.
REFERENCES: dict[str, list[tuple[dict[str, Any], Reference, bool]]] = {
    "constant": [({}, lambda o: lr_scheduler.ConstantLR(o, factor=1.0), False)],
    "step": [
        ({"step_size": 7, "gamma": 0.1}, lambda o: lr_scheduler.StepLR(o, 7, 0.1), True),
        ({"step_size": 1, "gamma": 0.5}, lambda o: lr_scheduler.StepLR(o, 1, 0.5), True),
    ],
    "multistep": [
        (
            {"milestones": (3, 4, 9), "gamma": 0.3},
            lambda o: lr_scheduler.MultiStepLR(o, [3, 4, 9], 0.3),
            True,
        )
    ],
    "exponential": [({"gamma": 0.9}, lambda o: lr_scheduler.ExponentialLR(o, 0.9), True)],
    "linear": [
        ({"end": 0.1}, lambda o: lr_scheduler.LinearLR(o, 1.0, 0.1, total_iters=STEPS), False)
    ],
    "cosine": [
        ({"end": 0.0}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS), False),
        ({"end": 0.2}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS, eta_min=0.2), False),
    ],
    "one_cycle": [
        (
            {"warm_fraction": 0.25, "start_divisor": 10.0, "final_divisor": 100.0},
            lambda o: lr_scheduler.OneCycleLR(
                o,
                max_lr=1.0,
                total_steps=STEPS,
                pct_start=0.25,
                div_factor=10.0,
                final_div_factor=100.0,
                cycle_momentum=False,
            ),
            False,
        )
    ],
    "plateau": [
        (
            {"gamma": 0.2, "patience": 2, "threshold": 0.01},
            lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=0.2, patience=2, threshold=0.01),
            True,
        )
    ],
}


def _entry(name: str, **options: Any) -> Entry:
    return Entry(name=name, options=SCHEDULES.get(name).options(**options).model_dump())


def _ours(entry: Entry) -> list[float]:
    return [
        lr_factor(
            entry,
            Progress(
                step=step,
                steps_per_epoch=STEPS_PER_EPOCH,
                num_epochs=EPOCHS,
                val_losses=VAL_LOSSES[: step // STEPS_PER_EPOCH],
            ),
        )
        for step in range(STEPS)
    ]


def _torchs(reference: Reference, *, per_epoch: bool) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = reference(optimizer)
    factors = []
    for step in range(STEPS):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        last_of_epoch = (step + 1) % STEPS_PER_EPOCH == 0
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            if last_of_epoch:
                scheduler.step(VAL_LOSSES[step // STEPS_PER_EPOCH])
        elif (not per_epoch or last_of_epoch) and step + 1 < STEPS:
            scheduler.step()
    return factors


def test_every_schedule_has_a_reference() -> None:
    assert set(REFERENCES) == set(SCHEDULES)


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, case) for name, cases in REFERENCES.items() for case in range(len(cases))],
)
def test_equals_torch(name: str, case: int) -> None:
    options, reference, per_epoch = REFERENCES[name][case]
    expected = _torchs(reference, per_epoch=per_epoch)
    assert _ours(_entry(name, **options)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_plateau_drops_in_the_test_sequence() -> None:
    factors = _ours(_entry("plateau", gamma=0.2, patience=2, threshold=0.01))
    assert len(set(factors)) > 1


def test_warmup_equals_torchs_chained_scheduler() -> None:
    warmup_steps = 2 * STEPS_PER_EPOCH

    def reference(optimizer: torch.optim.Optimizer) -> lr_scheduler.ChainedScheduler:
        ramp = lr_scheduler.LinearLR(optimizer, 1 / warmup_steps, 1.0, total_iters=warmup_steps - 1)
        cosine = lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        return lr_scheduler.ChainedScheduler([ramp, cosine])

    entry = _entry("cosine", warmup_epochs=2.0)
    expected = _torchs(reference, per_epoch=False)
    assert _ours(entry) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_factors_are_in_the_unit_interval(name: str) -> None:
    options = {"milestones": (2, 5)} if name == "multistep" else {}
    factors = _ours(_entry(name, warmup_epochs=1.5, **options))
    assert all(0 <= factor <= 1 for factor in factors)
    assert max(factors) > 0.5
