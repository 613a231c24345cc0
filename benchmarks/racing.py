"""What does `bench run --decide` save, and what does it cost, against a fixed number of seeds?

Simulated runs of four strategies on one test split. A test image is classified rightly where a sum
of normal draws is above 0: how good the strategy is, how easy the image is, how easy for this
strategy, how lucky the training was, and what is left. The first strategy is the dearest, and ahead
of the others by known gaps of accuracy. Validation figures have the luck of their split, which all
strategies share, and of their own.

A line for each rule: how many trainings; in how many runs the verdict was decided; a false claim
was made (equals told apart, or the worse called better); something was called as good that is
behind by the margin or more; what was recommended is. Then how often the run was looked at, how
many strategies were left open, and how many runs ended because seeds would not do.

    python benchmarks/racing.py --runs 500
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.results.analysis import Contender, Verdict, compare
from bench.results.analysis.choice import ONE_BLOCK, Choice
from bench.results.analysis.intervals import UNKNOWN
from bench.results.analysis.scores import Scores
from bench.results.analysis.verdict import with_recommended
from bench.results.metric import ACCURACY
from bench.runs.decide import MAX_SEEDS, PATIENCE, doubled, next_step

BEST = 0.9
OF_IMAGE, OF_BOTH, REST = 1.0, 0.5, 0.5
LUCK = 0.07
"""Standard deviations; that of the luck of a training is 1 point of accuracy at 90 %."""

VAL_SHARED, VAL_OWN = 0.025, 0.015
COSTS = (4.0, 3.0, 2.0, 1.0)
MARGIN = 0.01
FIRST = 3

Pairs = dict[frozenset[str], int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Simulated:
    """`right[strategy, seed, image]` and `val[strategy, seed]` of strategies that are `gaps`
    behind the best."""

    gaps: tuple[float, ...]
    right: np.ndarray
    val: np.ndarray

    @property
    def names(self) -> list[str]:
        return [str(index) for index in range(len(self.gaps))]


def simulate(
    rng: np.random.Generator, gaps: Sequence[float], *, images: int, luck: float, seeds: int
) -> Simulated:
    """A run with all seeds that any rule may ask for."""
    spread = statistics.NormalDist(sigma=math.hypot(OF_IMAGE, OF_BOTH, REST, luck))
    level = np.array([spread.inv_cdf(BEST - gap) for gap in gaps])
    lucky = level[:, None] + luck * rng.normal(size=(len(gaps), seeds))
    easy = OF_IMAGE * rng.normal(size=images) + OF_BOTH * rng.normal(size=(len(gaps), images))
    rest = REST * rng.normal(size=(len(gaps), seeds, images))
    known = statistics.NormalDist(sigma=math.hypot(OF_IMAGE, OF_BOTH, REST))
    val = np.vectorize(known.cdf)(lucky) + VAL_SHARED * rng.normal(size=seeds)
    return Simulated(
        gaps=tuple(gaps),
        right=(lucky[:, :, None] + easy[:, None, :] + rest > 0).astype(float),
        val=val + VAL_OWN * rng.normal(size=val.shape),
    )


def judge(run: Simulated, seeds: Sequence[int], looks: Pairs) -> Verdict:
    """The verdict where each strategy has so many seeds, and each pair was seen so often."""
    samples = tuple(map(str, range(run.right.shape[2])))
    scores, contenders = {}, []
    for index, (name, number) in enumerate(zip(run.names, seeds, strict=True)):
        own = tuple(range(number))
        values = run.right[index, :number]
        scores[name] = {ONE_BLOCK: Scores(seeds=own, samples=samples, values=values)}
        val = {seed: float(run.val[index, seed]) for seed in own}
        choice = Choice(config=name, candidates=1, trials={}, configs={}, val=val)
        contenders.append(
            Contender(
                name=name,
                choices={ONE_BLOCK: choice},
                seeds=own,
                figure=float(values.mean()),
                interval=UNKNOWN,
                val=statistics.fmean(val.values()),
                costs={"train_seconds": COSTS[index]},
            )
        )
    found = Verdict(
        metric=ACCURACY,
        axis="strategy",
        contenders=tuple(sorted(contenders, key=lambda each: -each.figure)),
        comparisons=tuple(compare(scores, looks=looks, margin=MARGIN)),
        margin=MARGIN,
        cost="train_seconds",
        samples=len(samples),
        train_samples=None,
        look=max(looks.values(), default=1),
        looks=looks,
    )
    return with_recommended(found, (ONE_BLOCK,))


@dataclass(frozen=True, kw_only=True)
class Outcome:
    verdict: Verdict
    seeds: tuple[int, ...]
    looks: int
    hopeless: bool


Rule = Callable[[Simulated], Outcome]


def fixed(number: int) -> Rule:
    """So many seeds for all, and one look."""

    def rule(run: Simulated) -> Outcome:
        seeds = (number,) * len(run.gaps)
        return Outcome(verdict=judge(run, seeds, {}), seeds=seeds, looks=1, hopeless=False)

    return rule


def racing(grown: Callable[[int], int], patience: int) -> Rule:
    """As `bench run --decide` does it, but for how seeds are added and when it gives up."""

    def rule(run: Simulated) -> Outcome:
        names = run.names
        seeds = dict.fromkeys(names, FIRST)
        pairs = [(one, other) for one in names for other in names if one < other]
        times: Pairs = dict.fromkeys(map(frozenset, pairs), 1)
        looks = 0
        while True:
            looks += 1
            verdict = judge(run, list(seeds.values()), dict(times))
            step = next_step(verdict, seeds, grown=grown, patience=patience)
            if not step.racing:
                hopeless = step.ended == "images"
                number = tuple(seeds.values())
                return Outcome(verdict=verdict, seeds=number, looks=looks, hopeless=hopeless)
            before = dict(seeds)
            seeds |= dict.fromkeys(step.racing, step.seeds)
            for one, other in pairs:
                more = min(seeds[one], seeds[other]) > min(before[one], before[other])
                times[frozenset((one, other))] += more

    return rule


RULES: dict[str, Rule] = {
    "8 seeds": fixed(8),
    "12 seeds": fixed(12),
    "20 seeds": fixed(20),
    "one more": racing(lambda seeds: seeds + 1, PATIENCE),
    "half more": racing(lambda seeds: seeds + seeds // 2, PATIENCE),
    "--decide": racing(doubled, PATIENCE),
    "threefold": racing(lambda seeds: 3 * seeds, PATIENCE),
    "no patience": racing(doubled, FIRST),
    "never gives up": racing(doubled, MAX_SEEDS),
}

CASES: dict[str, tuple[tuple[float, ...], int, float]] = {
    "equal, 400 images": ((0, 0, 0, 0), 400, LUCK),
    "2 points, 400 images": ((0, 0.02, 0.02, 0.02), 400, LUCK),
    "5 points, 400 images": ((0, 0.05, 0.05, 0.05), 400, LUCK),
    "0, 2, 5, 10 points, 400 images": ((0, 0.02, 0.05, 0.1), 400, LUCK),
    "0, 5, 10, 20 points, 400 images": ((0, 0.05, 0.1, 0.2), 400, LUCK),
    "2 points, 2,000 images": ((0, 0.02, 0.02, 0.02), 2000, LUCK),
    "2 points, 400 images, luck of 3 points": ((0, 0.02, 0.02, 0.02), 400, 3 * LUCK),
}


def figures(run: Simulated, outcome: Outcome) -> list[float]:
    """What a line shows the means of."""
    verdict, behind = outcome.verdict, dict(zip(run.names, run.gaps, strict=True))
    false = wrong = False
    for each in verdict.comparisons:
        lead = behind[each.second] - behind[each.first]
        false |= (each.verdict == "better" and lead <= 0) or (each.verdict == "worse" and lead >= 0)
        wrong |= each.verdict == "as_good" and abs(lead) >= MARGIN
    best = verdict.recommended
    poor = best is None or behind[best] >= MARGIN
    return [
        sum(outcome.seeds), verdict.is_decided, false, wrong, poor, outcome.looks,
        len(verdict.open), outcome.hopeless,
    ]  # fmt: skip


HEADINGS = (
    "trainings", "decided", "false", "not as good", "poor choice", "looks", "open", "gave up",
)  # fmt: skip


def main() -> None:
    """Print a table for each kind of run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=500, help="simulated runs of each kind")
    parser.add_argument("--cases", type=int, nargs="*", help="which of the cases, from 0")
    given = parser.parse_args()
    for place, (case, (gaps, images, luck)) in enumerate(CASES.items()):
        if given.cases is not None and place not in given.cases:
            continue
        found: dict[str, list[list[float]]] = {name: [] for name in RULES}
        for number in range(given.runs):
            rng = np.random.default_rng([place, number])
            run = simulate(rng, gaps, images=images, luck=luck, seeds=MAX_SEEDS)
            for name, rule in RULES.items():
                found[name].append(figures(run, rule(run)))
        print(f"\n{case} ({given.runs} runs)\n{'':16}" + "".join(f"{h:>12}" for h in HEADINGS))
        for name, rows in found.items():
            means = np.mean(rows, axis=0)
            shown = [f"{means[0]:12.1f}", *(f"{share:12.1%}" for share in means[1:5])]
            shown += [f"{means[5]:12.1f}", f"{means[6]:12.2f}", f"{means[7]:12.1%}"]
            print(f"{name:16}" + "".join(shown), flush=True)


if __name__ == "__main__":
    main()
