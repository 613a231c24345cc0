"""What a run that grows while it is looked at pays for, and what leads in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.results.analysis import Contender, Verdict, reach_verdict
from bench.results.analysis.choice import ONE_BLOCK, Choice
from bench.results.analysis.intervals import UNKNOWN
from bench.results.analysis.verdict import with_recommended
from bench.results.folder import Run
from bench.results.grid import read_grid
from bench.results.metric import ACCURACY
from tests.made_up_run import made_up_run

NAMES = ("from_scratch", "full_finetune", "freeze_backbone")


def of(run: Run, seeds: dict[str, Sequence[int]]) -> list[str]:
    rows = run.trials[["strategy", "seed", "trial"]].itertuples(index=False)
    return [trial for name, seed, trial in rows if seed in seeds.get(name, ())]


def times(run: Run, *looks: dict[str, Sequence[int]]) -> dict[tuple[str, ...], int]:
    own = run.trials[run.trials["trial"].isin([t for look in looks for t in of(run, look)])]
    found = reach_verdict(
        own, read_grid(own), run.predictions, looks=[of(run, look) for look in looks]
    )
    return {tuple(sorted(pair)): count for pair, count in found.looks.items()}


def test_a_pair_pays_for_looks_at_the_seeds_that_both_have(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "run", strategies=NAMES, schedules=("cosine",), seeds=6, epochs=2)
    scratch, full, freeze = NAMES
    first = dict.fromkeys(NAMES, range(3))
    assert set(times(run, first).values()) == {1}
    two = {full: (3,), freeze: (3,)}
    alone = {full: (4, 5)}
    behind = {freeze: (4, 5)}
    back = {scratch: (3,)}

    def paid(*looks: dict[str, Sequence[int]]) -> tuple[int, ...]:
        counts = times(run, first, *looks)
        pairs = ((full, freeze), (full, scratch), (freeze, scratch))
        return tuple(counts[tuple(sorted(pair))] for pair in pairs)

    assert paid(two) == (2, 1, 1)
    assert paid(two, alone) == (2, 1, 1)
    assert paid(two, alone, behind) == (3, 1, 1)
    assert paid(two, back) == (2, 2, 2)


def test_easy_validation_splits_do_not_lead() -> None:
    """The second is behind in every seed that both have; its further seeds were easy ones."""
    vals = {"a": [0.80, 0.82, 0.81], "b": [0.79, 0.81, 0.80, 0.95, 0.95, 0.95]}
    contenders = tuple(
        Contender(
            name=name,
            choices={
                ONE_BLOCK: Choice(
                    config=name, candidates=1, trials={}, configs={}, val=dict(enumerate(own))
                )
            },
            seeds=tuple(range(len(own))),
            figure=0.8,
            interval=UNKNOWN,
            val=sum(own) / len(own),
            costs={},
        )
        for name, own in vals.items()
    )
    found = Verdict(
        metric=ACCURACY,
        axis="strategy",
        contenders=contenders,
        comparisons=(),
        margin=0.01,
        cost="train_seconds",
        samples=400,
        train_samples=None,
        look=1,
    )
    assert with_recommended(found, (ONE_BLOCK,)).recommended == "a"
