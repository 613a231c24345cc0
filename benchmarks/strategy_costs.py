"""Time or memory of every strategy, relative to full fine-tuning.

`time`: the mean seconds of an epoch with its validation, over all epochs of a trial, as strategies
in stages do different work in each; of a head that is fitted the seconds of the whole fit. Both are
divided by the seconds of an epoch of full fine-tuning, and are the processor's, which other work on
the machine disturbs least. `memory`: the peak while the trial is built, trained and tested, over
what the process had before.

Each trial is measured alone, with every frozen pass its own; and, where a part of the network is
frozen in front of all that trains, with the features of this part kept, as trials of a grid have
them from the second learning rate on.

In turns, in each round all strategies in an order drawn anew. Time is measured in one process,
memory in a fork for each trial, so that nothing is left of the others. Medians of ratios within a
round; smallest and largest. One thread, weights and images at random. Finished rounds stay in the
folder `--work`: a call that was cut short goes on.

    python benchmarks/strategy_costs.py time resnet18:64 timm/vit_tiny_patch16_224:96
    python benchmarks/strategy_costs.py memory resnet18:224 timm/vit_tiny_patch16_224:224 \\
        --train 4 --epochs 2
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from bench.system.cache import cache_root
from bench.system.machine import keep_large_buffers

if TYPE_CHECKING:
    from bench.execution.jobs import Job

BASELINE = "full_finetune"
CLASSES, VAL_PER_CLASS, TEST_PER_CLASS = 4, 2, 2


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one trial: seconds of an epoch or of a fit, MiB above the process's before, how many
    parameters train."""

    seconds: float
    mebibytes: float
    parameters: int


@dataclass(kw_only=True)
class Case:
    """A backbone at a size: the jobs of its strategies, why others have none, and what they cost.

    Costs are those of each round by strategy and by whether features were kept.
    """

    backbone: str
    pixels: int
    jobs: dict[str, Job] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    costs: dict[tuple[str, bool], list[Cost]] = field(default_factory=dict)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all cases, and print one table of them and what a backbone has no place for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["time", "memory"])
    parser.add_argument("cases", nargs="+", help="BACKBONE:PIXELS")
    parser.add_argument("--work", type=Path, default=Path("results/strategy_costs"))
    parser.add_argument("--train", type=int, default=8, help="training images of each class")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    keep_large_buffers()
    os.environ["BENCH_CACHE"] = str(given.work / "cache")
    cases = []
    for text in given.cases:
        backbone, _, pixels = text.rpartition(":")
        case = Case(backbone=backbone, pixels=int(pixels))
        add_jobs(case, train=given.train, batch=given.batch, epochs=given.epochs)
        sizes = f"{given.train}-{given.batch}-{given.epochs}"
        record = given.work / f"{given.what}-{text.replace('/', '-')}-{sizes}.jsonl"
        measure(case, given.what, record, given.rounds)
        cases.append(case)
    print("\n".join(table(cases, given.what)))


# Measuring --------------------------------------------------------------------------------------


def add_jobs(case: Case, *, train: int, batch: int, epochs: int) -> None:
    """A trial of each strategy with its options at their defaults."""
    from bench.errors import BenchError
    from bench.methods.strategies import STRATEGIES
    from bench.runs.catalogue import catalogue
    from bench.suite.grid import normal_form
    from tests.tiny import make_job, make_trial

    of_each_class = {"train": train, "val": VAL_PER_CLASS, "test": TEST_PER_CLASS}
    images = {f"{split}_per_class": count for split, count in of_each_class.items()}
    for name in STRATEGIES:
        traits = STRATEGIES.get(name).traits
        if not traits.trains and not traits.fits:
            case.missing[name] = "nothing is trained or fitted"
            continue
        trial = make_trial(
            name,
            backbone=case.backbone,
            data={"classes": CLASSES, "image_size": case.pixels, **images},
            epochs=epochs,
            batch_size=batch,
            lr=1e-3,
            image_size=case.pixels,
            threads=1,
        )
        try:
            job = make_job(normal_form(trial, catalogue()), trial_id=name)
        except BenchError as error:
            case.missing[name] = str(error)
            continue
        case.jobs[name] = replace(job, views_key="")


def measure(case: Case, what: str, record: Path, rounds: int) -> None:
    """The costs of all strategies of a case in so many rounds, those of the record among them."""
    run = cost_of if what == "time" else cost_in_fork
    shares = {name: shares_features(job) for name, job in case.jobs.items()}
    lines = record.read_text().splitlines() if record.exists() else []
    if len(lines) < rounds:
        for name, job in case.jobs.items():
            if shares[name] or name == BASELINE:
                run(job, cache_root())
    while len(lines) < rounds:
        print(f"{record.stem}: round {len(lines) + 1} of {rounds}", file=sys.stderr, flush=True)
        costs = []
        for name in random.Random(len(lines)).sample(list(case.jobs), len(case.jobs)):
            for keeps in (False, True) if shares[name] else (False,):
                cost = run(case.jobs[name], cache_root() if keeps else None)
                costs.append({"name": name, "keeps": keeps, **asdict(cost)})
        lines.append(json.dumps(costs))
        record.write_text("\n".join(lines))
    for line in lines[:rounds]:
        for values in json.loads(line):
            side = values.pop("name"), values.pop("keeps")
            case.costs.setdefault(side, []).append(Cost(**values))


def shares_features(job: Job) -> bool:
    """Whether some epoch starts from features that other trials have too."""
    from bench.training.freezing import epoch_start

    epochs = range(job.plan.epochs)
    starts = (epoch_start(job.outline, job.plan, epoch) for epoch in epochs)
    return job.plan.fit is not None or any(pristine for _, pristine in starts)


def cost_in_fork(job: Job, folder: Path | None) -> Cost:
    """`cost_of` in a process that holds nothing of an earlier trial."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as process:
        return process.submit(cost_of, job, folder).result()


def cost_of(job: Job, folder: Path | None) -> Cost:
    """Build the network and train the job, or fit its head; features are kept in the `folder`."""
    from bench.data import open_data
    from bench.execution.engine import make_training
    from bench.execution.jobs import trial_splits
    from bench.system.machine import PeakMemory
    from bench.training.fitted import fit_head
    from bench.training.frozen_features import FeatureStore
    from bench.training.loop import isolated, train, trainable_parameters

    data = open_data(job.data)
    splits = trial_splits(job.trial, data)
    gc.collect()
    memory = PeakMemory(job.device)
    before = memory.mebibytes()
    training = make_training(job, data, splits, features=FeatureStore(folder))
    ends = [time.process_time()]
    if job.plan.fit is None:
        train(training, lambda _: ends.append(time.process_time()))
    else:
        with isolated(job.trial.settings.cpu_threads, job.device):
            training.load(fit_head(training).tensors)
        ends.append(time.process_time())
    peak = memory.mebibytes()
    if before is None or peak is None:
        raise SystemExit("this system tells no peak of memory")
    return Cost(
        seconds=(ends[-1] - ends[0]) / (len(ends) - 1),
        mebibytes=peak - before,
        parameters=trainable_parameters(training.network, job.plan),
    )


# The table --------------------------------------------------------------------------------------


def table(cases: Sequence[Case], what: str) -> list[str]:
    """Markdown: a row a strategy, columns for each case; below it, what does not exist and why."""
    titles = [f"{case.backbone}, {case.pixels} px" for case in cases]
    columns = [
        f"{title}: parameters that train | alone | features kept"
        if what == "time"
        else f"{title}: alone | features kept"
        for title in titles
    ]
    width = 3 if what == "time" else 2
    lines = [f"| strategy | {' | '.join(columns)} |", f"| --- |{' ---: |' * width * len(cases)}"]
    names = dict.fromkeys(name for case in cases for name in case.jobs)
    for name in names:
        cells = [cell for case in cases for cell in cells_of(case, name, what)]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    lines.append("")
    for case in cases:
        lines += [f"{case.backbone}: no `{name}`: {why}" for name, why in case.missing.items()]
    return lines


def cells_of(case: Case, name: str, what: str) -> list[str]:
    """How many parameters train, where time is measured; the ratio alone, and with features kept.

    The baseline's are no ratios.
    """
    if name in case.missing:
        return ["–"] * (3 if what == "time" else 2)
    sides = [figures(case, (name, keeps), what) for keeps in (False, True)]
    alone, kept = (shown(each, unit="") for each in sides)
    if name == BASELINE:
        unit = " s" if what == "time" else " MiB"
        alone = shown([value_of(cost, what) for cost in case.costs[name, False]], unit=unit)
    parameters = f"{case.costs[name, False][0].parameters:,}"
    return [parameters, alone, kept] if what == "time" else [alone, kept]


def figures(case: Case, side: tuple[str, bool], what: str) -> list[float]:
    """Ratios to the baseline of the same round; none where the strategy has no such side."""
    if side not in case.costs:
        return []
    pairs = zip(case.costs[side], case.costs[BASELINE, False], strict=True)
    return [value_of(own, what) / value_of(base, what) for own, base in pairs]


def value_of(cost: Cost, what: str) -> float:
    """What is measured."""
    return cost.seconds if what == "time" else cost.mebibytes


def shown(values: Sequence[float], *, unit: str) -> str:
    """The median, the smallest and the largest."""
    if not values:
        return "–"
    median, low, high = statistics.median(values), min(values), max(values)
    digits = 0 if median >= 100 else 2 if median >= 0.095 else 3
    return f"{median:.{digits}f}{unit} ({low:.{digits}f}–{high:.{digits}f})"


if __name__ == "__main__":
    main()
