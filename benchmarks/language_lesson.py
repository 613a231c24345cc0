"""The lesson of the embedded language, over seeds of the pretraining too.

    python benchmarks/language_lesson.py OUT

Trains suites/text_binary.yaml from scratch, in full and with LoRA from several pretrainings, prints
the test accuracies, and ends with 1 where some pretraining leaves full fine-tuning less than
15 points above from scratch. A pretraining takes about a minute on one thread, once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import bench

SUITE = Path(__file__).parents[1] / "suites" / "text_binary.yaml"
STRATEGIES = ("from_scratch", "full_finetune", "lora")
LEAST_GAIN = 0.15


def accuracies(out: Path, pretraining: int, seeds: int) -> dict[str, float]:
    """The mean test accuracy of each strategy, from one pretraining."""
    run = bench.run(
        SUITE,
        out=out,
        device="cpu",
        overrides=(
            f"name=text_binary_{pretraining}",
            f"weights={{name: language, language_seed: {pretraining}}}",
            f"seed={list(range(seeds))}",
            "strategy=[from_scratch, full_finetune, {name: lora, lr: 0.01}]",
            "include=[]",
        ),
    )
    by_name = run.trials.groupby(run.trials["strategy"].str.partition("(")[0])
    return {name: float(by_name["test_accuracy"].mean()[name]) for name in STRATEGIES}


def main() -> int:
    """Print a row for each pretraining; 1 where the lesson does not hold."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--pretrainings", type=int, default=3)
    parser.add_argument("--seeds", type=int, default=3, help="trainings from each of them")
    given = parser.parse_args()
    print("| pretraining |", " | ".join(STRATEGIES), "|")
    holds = True
    for pretraining in range(given.pretrainings):
        found = accuracies(given.out, pretraining, given.seeds)
        print(f"| {pretraining} |", " | ".join(f"{100 * each:.1f}" for each in found.values()), "|")
        sys.stdout.flush()
        holds &= found["full_finetune"] - found["from_scratch"] >= LEAST_GAIN
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
