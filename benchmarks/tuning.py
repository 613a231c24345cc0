"""Measure `bench tune`: its time against a plain Optuna script, TPE against random search.

python benchmarks/tuning.py time --data FOLDER --work FOLDER
python benchmarks/tuning.py samplers --work FOLDER --plot FILE
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from processes import BENCH, cold_cache, timed
from workload import Workload, prepare

from bench.execution.executors import Where
from bench.results.folder import read_tuning
from bench.runs.check import check_suite
from bench.runs.options import RunOptions
from bench.runs.reporter import SilentReporter
from bench.runs.resolve import open_suite
from bench.system.machine import usable_cores
from bench.tuning.search import Search

SUITE = Path(__file__).parent / "tune_photos.yaml"
SAMPLERS = ("tpe", "random")
EMBEDDED = Path(__file__).parents[1] / "suites" / "resnet18_binary_tuned.yaml"
TRIALS = 24
COMPARED = (
    "strategy=[linear_probe, mlp_probe]",
    "schedule=constant",
    "seed=0",
    f"tune={{objective: val_loss, trials: {TRIALS}, "
    "space: {lr: {low: 1e-4, high: 10, log: true}, "
    "weight_decay: {low: 1e-6, high: 1, log: true}, momentum: {low: 0.0, high: 0.99}, "
    "label_smoothing: {low: 0.0, high: 0.3}}}",
)
"""Four settings of two frozen strategies; the loss, because accuracies of 100 images tie."""


def time_a_study(given: argparse.Namespace) -> None:
    """Seconds of the search of one study, and of the epochs that the plain script would train."""
    workload = prepare(
        SUITE, model=given.model, data=given.data, work=given.work, overrides=given.overrides
    )
    with TemporaryDirectory(dir=given.work) as out, cold_cache(given.work) as cache:
        finished = timed(
            _tune_command(workload.suite, Path(out), workload.overrides),
            environment={"BENCH_CACHE": str(cache)},
        )
        trials = _trials(Path(out))
    search = (trials["finished"].max() - trials["started"].min()).total_seconds()
    epochs = int(trials["images"].sum()) // workload.train_images
    per_epoch = _naive_epoch(workload)
    print(f"{len(trials)} trials, {epochs} epochs: {dict(trials['state'].value_counts())}")
    print(f"the search: {search:.1f} s; the whole command: {finished.seconds:.1f} s")
    print(f"the plain script: {epochs} × {per_epoch:.2f} s = {epochs * per_epoch:.0f} s")
    print(f"ratio: {epochs * per_epoch / search:.1f}")
    print(f"ratio, whole command: {epochs * per_epoch / finished.seconds:.1f}")


def _naive_epoch(workload: Workload) -> float:
    """Mean seconds of an epoch of the plain script, of two trials with one seed and one epoch."""
    ((model, mode, augmented),) = workload.naive_epochs
    script = str(Path(__file__).with_name("naive_tune.py"))
    command = [sys.executable, script, "--data", str(workload.images), "--model", model]
    command += ["--mode", mode, "--trials", "2", "--seeds", "1"]
    output = timed(command if augmented else [*command, "--no-augmentation"]).output
    return statistics.mean(json.loads(output.strip().splitlines()[-1])["epoch_seconds"])


def compare_samplers(given: argparse.Namespace) -> None:
    """The best value so far by trial, of each sampler over several study seeds."""
    asked = [(seed, sampler) for seed in range(given.seeds) for sampler in SAMPLERS]
    found: dict[tuple[str, str], list[np.ndarray]] = {}
    with ProcessPoolExecutor(usable_cores(), multiprocessing.get_context("spawn")) as pool:
        searches = pool.map(_searched, repeat(given.work), *zip(*asked, strict=True))
        for (seed, sampler), losses in zip(asked, searches, strict=True):
            for study, values in losses.items():
                found.setdefault((study, sampler), []).append(np.minimum.accumulate(values))
            print(f"study seed {seed}, {sampler}: done", file=sys.stderr, flush=True)
    for study in dict.fromkeys(name for name, _ in found):
        print(f"{study}: lowest validation loss after so many trials, mean ± sd over study seeds")
        curves = {sampler: np.array(found[study, sampler]) for sampler in SAMPLERS}
        for sampler, values in curves.items():
            shown = [
                f"{n}: {values[:, n - 1].mean():.4f} ± {values[:, n - 1].std(ddof=1):.4f}"
                for n in (4, 8, 12, 16, 24)
            ]
            print(f"  {sampler:7} {'  '.join(shown)}")
        ends = curves["tpe"][:, -1] - curves["random"][:, -1]
        print(f"  tpe is lower in {(ends < 0).sum()} of {len(ends)}, mean {ends.mean():+.4f}")
    _plot(found, given.plot)


def _searched(work: Path, seed: int, sampler: str) -> dict[str, list[float]]:
    """The losses of each study of the embedded task, in order: the search without its grids."""
    overrides = [*COMPARED, f"tune.sampler={sampler}", f"tune.seed={seed}"]
    opened = open_suite(check_suite(EMBEDDED, RunOptions(overrides=overrides)), device="cpu")
    assert opened.loaded.suite.tune is not None
    with TemporaryDirectory(dir=work) as folder:
        search = Search(
            opened,
            opened.loaded.suite.tune,
            folder=Path(folder),
            storage=None,
            where=Where(name="in-process"),
            reporter=SilentReporter(),
        )
        with closing(search):
            search.run()
        return {
            study.cell.label: [
                np.inf if row["val_loss"] is None else row["val_loss"] for row in study.rows()
            ]
            for study in search.studies
        }


def _tune_command(suite: Path, out: Path, overrides: Sequence[str]) -> list[str]:
    sets = [text for override in overrides for text in ("--set", override)]
    return [BENCH, "tune", str(suite), "--out", str(out), "--device", "cpu", *sets]


def _trials(out: Path) -> pd.DataFrame:
    (folder,) = (path.parent for path in out.glob("*/tuning.parquet"))
    tuning = read_tuning(folder)
    assert tuning is not None
    return tuning.trials


def _plot(found: dict[tuple[str, str], list[np.ndarray]], path: Path) -> None:
    from matplotlib.figure import Figure

    studies = list(dict.fromkeys(name for name, _ in found))
    figure = Figure(figsize=(4 * len(studies), 3.6), layout="constrained")
    for axes, study in zip(
        figure.subplots(1, len(studies), squeeze=False)[0], studies, strict=True
    ):
        for sampler, colour in zip(SAMPLERS, ("#0072B2", "#D55E00"), strict=True):
            values = np.array(found[study, sampler])
            numbers, mean, sd = (
                np.arange(values.shape[1]) + 1,
                values.mean(0),
                values.std(0, ddof=1),
            )
            axes.plot(numbers, mean, color=colour, label=sampler)
            axes.fill_between(numbers, mean - sd, mean + sd, color=colour, alpha=0.2)
        axes.set(title=study, xlabel="trials", ylabel="lowest validation loss (nats)", yscale="log")
        axes.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Run the chosen measurement."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    time = kinds.add_parser("time", help="a study against a plain Optuna script")
    time.add_argument("--data", type=Path, required=True, help="with train/ and val/")
    time.add_argument("--model", default="resnet18", help="a torchvision classifier")
    time.add_argument("--set", dest="overrides", metavar="KEY=VALUE", action="append", default=[])
    samplers = kinds.add_parser("samplers", help="TPE against random search")
    samplers.add_argument("--seeds", type=int, default=10, help="of the studies")
    samplers.add_argument("--plot", type=Path, required=True, help="the figure (.png)")
    for each in (time, samplers):
        each.add_argument("--work", type=Path, required=True, help="cache and passing files")
    given = parser.parse_args()
    given.work = given.work.expanduser().resolve()
    if given.kind == "time":
        given.data = given.data.expanduser().resolve()
        time_a_study(given)
    else:
        compare_samplers(given)


if __name__ == "__main__":
    main()
