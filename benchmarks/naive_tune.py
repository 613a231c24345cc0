"""A plain Optuna script over the plain loop: what `bench tune` is compared with.

One study of a learning rate, one trial after the other, each trained once for every seed.

    python benchmarks/naive_tune.py --data FOLDER --mode probe --trials 2 --epochs 1
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import optuna
from naive import epoch_seconds

RANGE = (1e-4, 1e-1)


def study_seconds(
    model: str, mode: str, augment: bool, data: Path, *, trials: int, seeds: int, epochs: int
) -> list[float]:
    """Seconds of each epoch of a study that maximises validation accuracy, with halving."""
    seconds: list[float] = []

    def objective(trial: optuna.Trial) -> float:
        lr = trial.suggest_float("lr", *RANGE, log=True)
        best = [0.0] * seeds

        def note(seed: int, epoch: int, accuracy: float) -> None:
            best[seed] = max(best[seed], accuracy)
            if seed == seeds - 1:  # only now all seeds have been this far
                trial.report(statistics.fmean(best), epoch)
                if trial.should_prune():
                    raise optuna.TrialPruned

        for seed in range(seeds):
            seconds.extend(
                epoch_seconds(
                    model,
                    mode,
                    augment,
                    data,
                    epochs,
                    lr=lr,
                    on_epoch=lambda epoch, accuracy, seed=seed: note(seed, epoch, accuracy),
                )
            )
        return statistics.fmean(best)

    pruner = optuna.pruners.SuccessiveHalvingPruner(
        min_resource=max(1, epochs // 9), reduction_factor=3
    )
    sampler = optuna.samplers.TPESampler(seed=0)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=trials)
    return seconds


def main() -> None:
    """Print one JSON line: the settings and the seconds of each epoch that was finished."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with train/ and val/")
    parser.add_argument("--model", default="resnet18", help="a torchvision classifier")
    parser.add_argument("--mode", default="full", help="full, probe, or topN such as top1")
    parser.add_argument("--no-augmentation", action="store_true", help="train on central views")
    parser.add_argument("--trials", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=1)
    given = parser.parse_args()
    seconds = study_seconds(
        given.model,
        given.mode,
        not given.no_augmentation,
        given.data,
        trials=given.trials,
        seeds=given.seeds,
        epochs=given.epochs,
    )
    print(json.dumps({"model": given.model, "mode": given.mode, "epoch_seconds": seconds}))


if __name__ == "__main__":
    main()
