"""Run folders with a made-up search for settings, for tests of what stands behind the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.results.folder import Run, copy_untuned, write_tuning
from tests.made_up_run import START, STRATEGIES, made_up_run
from tests.results.scored_run import with_predictions

SPACE: Mapping[str, Any] = {
    "lr": {"low": 1e-5, "high": 1.0, "log": True},
    "weight_decay": {"low": 0.0, "high": 0.01, "log": False},
    "optimizer": {"choices": ["sgd", "adamw"]},
}
SUITE: Mapping[str, Any] = {"lr": 0.001, "weight_decay": 0.001, "optimizer": "sgd"}
ACCURACY = {"name": "val_accuracy", "direction": "maximize"}
SECONDS = {"name": "seconds", "direction": "minimize"}
EVALUATION_SEEDS = 8

Right = Mapping[str, npt.NDArray[np.bool_]]
"""By strategy, `[seeds, samples]`."""

ChangeTrial = Callable[[dict[str, Any]], None]
ChangeRun = Callable[[dict[str, Any], dict[str, Any]], None]


def made_up_tuning(
    folder: Path,
    *,
    strategies: Sequence[str] = tuple(STRATEGIES),
    schedules: Sequence[str] = ("cosine",),
    seeds: int = EVALUATION_SEEDS,
    trials: int = 12,
    spaces: Mapping[str, Mapping[str, Any]] | None = None,
    objectives: Sequence[Mapping[str, str]] = (ACCURACY,),
    change: ChangeTrial | None = None,
    change_untuned: ChangeRun | None = None,
    change_tuned: ChangeRun | None = None,
    describe: Callable[[dict[str, Any]], None] | None = None,
    right: tuple[Right, Right] | None = None,
    **options: Any,
) -> Run:
    """Write a tuned run to `folder`, the untuned one beside it, and read the tuned one back.

    `spaces` are the searched settings by strategy, `SPACE` for those that are not named. The
    changes alter rows in place before they are written: those of the search, of the untuned and of
    the tuned run; `describe` alters the description. `right` are the test predictions of the
    untuned and of the tuned run. Further options are those of `made_up_run`.
    """
    grid = {"strategies": strategies, "schedules": schedules, "seeds": seeds, "epochs": 2}
    untuned = made_up_run(
        folder.with_name(f"{folder.name}_before"), **{**grid, **options}, change=change_untuned
    )

    def tune(row: dict[str, Any], curves: dict[str, Any]) -> None:
        row["trial"], row["config"] = f"t{row['trial']}", f"t{row['config']}"
        row["lr"] = 0.0123
        row["test_accuracy"] = min(1.0, row["test_accuracy"] + 0.02)
        if change_tuned is not None:
            change_tuned(row, curves)

    run = made_up_run(folder, **{**grid, **options}, change=tune)
    if right is not None:
        untuned, run = (with_predictions(*each) for each in zip((untuned, run), right, strict=True))
    before, after = _configs(untuned), _configs(run)
    cells = [(s, c) for s in strategies for c in schedules]
    names = [" · ".join(cell if len(schedules) > 1 else cell[:1]) for cell in cells]
    rows = []
    studies: dict[str, Any] = {}
    for name, cell in zip(names, cells, strict=True):
        space = (spaces or {}).get(cell[0], SPACE)
        own = [_trial(name, cell, space, number) for number in range(trials)]
        for row in own:
            if change is not None:
                change(row)
        done = [r for r in own if r["state"] == "complete" and r["val_accuracy"] is not None]
        best = max(done, key=lambda r: r["val_accuracy"])["number"] if done else None
        rows += own
        studies[name] = {
            "space": space,
            "best": best,
            "untuned_config": before[cell],
            "tuned_config": after[cell],
        }
    description = {
        "suite": folder.name,
        "objectives": list(objectives),
        "sampler": "TPESampler(seed=0)",
        "pruner": "none",
        "seeds": [1000, 1001],
        "budget": {"trials": trials},
        "studies": studies,
    }
    if describe is not None:
        describe(description)
    write_tuning(folder, rows, description)
    copy_untuned(untuned.folder, folder)
    return run


def _configs(run: Run) -> dict[tuple[str, str], str]:
    """strategy and schedule → config."""
    rows = run.trials.drop_duplicates("config").to_dict("records")
    return {(str(r["strategy"]), str(r["schedule"])): str(r["config"]) for r in rows}


def _trial(
    name: str, cell: tuple[str, str], space: Mapping[str, Any], number: int
) -> dict[str, Any]:
    """A trial whose accuracy is highest at a learning rate of the strategy's own."""
    strategy, schedule = cell
    rng = np.random.default_rng([*strategy.encode(), *schedule.encode(), number])
    values = {
        setting: SUITE[setting] if number == 0 and setting in SUITE else _drawn(about, rng)
        for setting, about in space.items()
    }
    _, last, _, seconds = STRATEGIES.get(strategy, (0.5, 0.85, 1.0, 1.0))
    lr = values.get("lr", 0.01)
    ideal = 10 ** -(2 + sum(strategy.encode()) % 3 / 2)
    accuracy = last - 0.03 * abs(np.log10(lr / ideal)) - 3 * values.get("weight_decay", 0.0)
    accuracy -= 0.0 if number else 0.03  # the suite's own values are rarely the best
    accuracy = float(np.clip(accuracy + 0.004 * rng.normal(), 0.02, 0.98))
    state = "complete" if number in (0, 1) or accuracy > last - 0.11 else "pruned"
    return {
        "study": name,
        "dataset": "hymenoptera",
        "backbone": "resnet18",
        "weights": "imagenet",
        "strategy": strategy,
        "schedule": schedule,
        "augmentation": "flip",
        "number": number,
        "state": state,
        "origin": "sampler" if number else "suite",
        "val_accuracy": accuracy,
        "val_accuracy_sd": abs(0.01 * rng.normal()),
        "val_loss": float(-np.log(accuracy)),
        "seconds": 20 * seconds * (1 + 0.1 * rng.random()),
        "epochs": 10,
        "images": 2 * 196 * 10,
        "error": None,
        "started": START + timedelta(minutes=number),
        "finished": START + timedelta(minutes=number + 1),
        **{f"param_{setting}": value for setting, value in values.items()},
    }


def _drawn(about: Mapping[str, Any], rng: np.random.Generator) -> Any:
    if "choices" in about:
        return about["choices"][int(rng.integers(len(about["choices"])))]
    low, high = about["low"], about["high"]
    if about["log"]:
        return float(10 ** rng.uniform(np.log10(low), np.log10(high)))
    return float(rng.uniform(low, high))
