"""What training text backbones costs beside plain code, and what sharing a frozen one gains.

`tune`: epochs of full fine-tuning, as a trial of `bench` trains them (batches, gradients, records;
without validation), beside a plain loop over the bare model of transformers: the same
texts, order, batch size and AdamW, rows padded to the longest of their batch, in fp32.

`probes`: so many linear probes that share a frozen backbone, stacked, beside the same trials one
after the other, each with a backbone pass of its own.

In turns; medians, smallest and largest of ratios within a round. Seconds of `tune` are those of the
processor, which other work on the machine disturbs least.

    python benchmarks/texts.py tune --data reviews.csv
    python benchmarks/texts.py probes --data reviews.csv --trials 32
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from adapter_stacks import in_turns, ratio

BACKBONE = "minilm_l6"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("what", choices=["tune", "probes"])
    parser.add_argument("--data", type=Path, required=True, help="a table with text and label")
    parser.add_argument("--shots", type=int, default=200)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--trials", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    if given.what == "tune":
        print(fine_tuning(given.data.absolute(), given.shots, given.batch, given.rounds))
    else:
        print(probes(given.data.absolute(), given.shots, given.trials, given.rounds))


def suite(data: Path, shots: int, **changes: Any) -> dict[str, Any]:
    """A suite of the table, with few texts to evaluate."""
    return {
        "name": "texts",
        "dataset": {"name": "text", "path": str(data), "val_fraction": 0.01, "test_fraction": 0.01},
        "backbone": BACKBONE,
        "strategy": "full_finetune",
        "optimizer": "adamw",
        "lr": 5e-5,
        "precision": "fp32",
        "max_length": 128,
        "shots": shots,
        "seed": [0],
        **changes,
    }


def fine_tuning(data: Path, shots: int, batch: int, rounds: int) -> str:
    """Seconds of an epoch of plain code over those of `bench`."""
    import torch

    from bench.data import open_data
    from bench.execution.engine import make_training
    from bench.execution.jobs import trial_splits
    from bench.runs.prepare import PreparedSets, StartingWeights, make_job
    from bench.runs.resolve import resolve_run
    from bench.system.machine import keep_large_buffers
    from bench.training.loop import _train_epoch
    from bench.training.trial import batch_order

    keep_large_buffers()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as out:
        run = resolve_run(suite(data, shots, batch_size=batch, epochs=rounds + 1), out=Path(out))
        (resolved,) = run.trials
        job = make_job(run, resolved, StartingWeights(run, None), PreparedSets(run, None))
        opened = open_data(job.data)
        training = make_training(job, opened, trial_splits(job.trial, opened))
    plain = PlainLoop(training.data.tokens, training.data.labels)
    orders = iter([batch_order(training, epoch) for epoch in range(rounds + 1)])
    epochs = iter(range(rounds + 1))
    sides = {
        "plain": lambda: plain.epoch(next(orders)),
        "bench": lambda: _train_epoch(training, next(epochs), []),
    }
    seconds = in_turns(sides, rounds, time.thread_time)
    each = len(training.splits.train) / sorted(seconds["bench"])[rounds // 2]
    return (
        f"{BACKBONE}, {len(training.splits.train)} texts, batches of {batch}: {each:.1f} texts a "
        f"second; plain over bench {ratio(seconds['plain'], seconds['bench'])}, n = {rounds}"
    )


class PlainLoop:
    """The bare model with a linear layer on the mean of its tokens, as tutorials train it."""

    def __init__(self, tokens: Any, labels: Any) -> None:
        import torch
        from transformers import AutoModel

        from bench.models.text.minilm import folder

        self.tokens, self.labels = torch.from_numpy(tokens[:]), torch.from_numpy(labels)
        self.body = AutoModel.from_pretrained(folder(), add_pooling_layer=False)
        self.head = torch.nn.Linear(self.body.config.hidden_size, 2)
        both = torch.nn.ModuleList([self.body, self.head]).train()
        self.optimizer = torch.optim.AdamW(both.parameters(), lr=5e-5)

    def epoch(self, order: Sequence[Any]) -> None:
        """One pass over the texts."""
        import torch
        import torch.nn.functional as F

        for samples in order:
            ids = self.tokens[samples]
            mask = ids >= 0
            longest = int(mask.sum(dim=1).max())
            ids, mask = ids[:, :longest].clamp_min(0).long(), mask[:, :longest]
            states = self.body(input_ids=ids, attention_mask=mask.long()).last_hidden_state
            weights = mask[..., None].float()
            features = (states * weights).sum(dim=1) / weights.sum(dim=1)
            loss = F.cross_entropy(self.head(features), self.labels[samples])
            self.optimizer.zero_grad()
            torch.autograd.backward(loss)
            self.optimizer.step()


def probes(data: Path, shots: int, trials: int, rounds: int) -> str:
    """Seconds of trials one after the other over those of the stacked ones."""
    import bench

    rates = [1e-4 * 1.2**number for number in range(trials)]

    def run(lr: Sequence[float], *, reuse: bool) -> float:
        with tempfile.TemporaryDirectory() as work:
            os.environ["BENCH_CACHE"] = str(Path(work) / "cache")
            grid = suite(data, shots, strategy="linear_probe", lr=lr, epochs=12)
            started = time.perf_counter()
            bench.run(grid, out=Path(work) / "out", workers=1, reuse=reuse)
            return time.perf_counter() - started

    run(rates[:1], reuse=False)  # what a process does once
    seconds: dict[str, list[float]] = {"apart": [], "stacked": []}
    for _ in range(rounds):
        for side, taken in seconds.items():
            taken.append(run(rates, reuse=side == "stacked"))
            print(f"{side}: {taken[-1]:.1f} s", file=sys.stderr, flush=True)
    found = ratio(seconds["apart"], seconds["stacked"])
    return f"{trials} linear probes on {BACKBONE}: apart over stacked {found}, n = {rounds}"


if __name__ == "__main__":
    main()
