"""Equal work is timed once."""

from __future__ import annotations

from typing import Any

import pytest

from bench.runs.resolve import ResolvedTrial, resolve_run
from bench.runs.time_estimate import Timings

SUITE: dict[str, Any] = {
    "name": "timed", "dataset": {"name": "fractals", "train_per_class": 4, "val_per_class": 2},
    "backbone": "resnet18", "weights": "fractals", "image_size": 32, "epochs": 4,
    "precision": "fp32", "head": "linear",
}  # fmt: skip


def _measured(monkeypatch: pytest.MonkeyPatch, **more: Any) -> int:
    """How many kinds of work are measured for all stages of all trials."""
    asked: list[str] = []

    def measure(_: Timings, resolved: ResolvedTrial) -> tuple[float, float]:
        asked.append(resolved.trial.label)
        return 1.0, 1.0

    monkeypatch.setattr(Timings, "_measure", measure)
    resolved_run = resolve_run({**SUITE, **more}, device="cpu")
    timings = Timings(resolved_run.dataset, resolved_run.device)
    for resolved in resolved_run.trials:
        for stage in resolved.plan.stages:
            timings.seconds_per_sample(resolved, stage)
    return len(asked)


@pytest.mark.parametrize(
    ("more", "kinds"),
    [
        ({"strategy": ["from_scratch", "full_finetune", "two_rates", "layerwise_decay"]}, 1),
        ({"strategy": ["full_finetune", "linear_probe", "lp_ft"]}, 2),
        ({"strategy": "full_finetune", "lr": [0.1, 0.01], "seed": [0, 1]}, 1),
        ({"strategy": "full_finetune", "shots": [2, 3]}, 1),
        ({"strategy": "full_finetune", "schedule": ["constant", "cosine"]}, 1),
        ({"strategy": "full_finetune", "batch_size": [4, 8]}, 2),
        ({"strategy": "full_finetune", "augmentation": ["flip", "standard"]}, 2),
        ({"strategy": ["linear_probe", "lora", {"name": "lora", "r": 2}, "side_tuning"]}, 4),
        ({"strategy": [{"name": "two_rates", "backbone_multiplier": m} for m in (0.0, 0.5)]}, 2),
    ],
)
@pytest.mark.campaign
def test_work_that_takes_equally_long_is_measured_once(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], kinds: int
) -> None:
    assert _measured(monkeypatch, **more) == kinds
