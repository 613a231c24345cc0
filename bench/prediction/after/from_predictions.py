"""Children that need nothing but stored predictions: ensembles, votes and temperatures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from bench.methods.after import Ensemble, Vote
from bench.methods.temperature import fit_temperature, tempered
from bench.prediction.after.finished import (
    CannotBeError,
    Finished,
    Made,
    Planned,
    of_val,
    refused,
)
from bench.prediction.combine import Probabilities, mean_of, select_greedily, votes_of
from bench.results.analysis.predicted import Predicted
from bench.results.folder.columns import CELL_COLUMNS
from bench.results.grid import SEPARATOR

if TYPE_CHECKING:
    import pandas as pd

LEAST_MEMBERS = 2

RATE = "lr"
BUT_FOR_RATE = [each for each in CELL_COLUMNS if each not in ("config", "seed", "device")]
"""Columns in which the trials of a vote agree."""


def ensembles(recipe: Ensemble, name: str, finished: Finished) -> Iterator[Planned]:
    """The seeds of each config that is reported, or a greedy choice among a seed's trials.

    Seeds may draw validation splits of their own, so that the training images of one are the
    validation images of another: only trials of one seed can be chosen among on validation.
    """
    if not recipe.greedy:
        for choice in finished.reported:
            trials = tuple(finished.of_config(choice.config).values())
            yield Planned(
                name=name,
                of=finished.grid.labels[choice.config],
                config=choice.config,
                seed=None,
                candidates=trials,
                make=partial(_joined, finished, dict.fromkeys(trials, 1)),
            )
        return
    for seed, own in finished.trials.groupby("seed"):
        trials = tuple(map(str, own["trial"]))
        yield Planned(
            name=name,
            of="all configs",
            seed=int(str(seed)),
            candidates=trials,
            make=partial(_chosen, finished, trials),
        )


def votes(recipe: Vote, name: str, finished: Finished) -> Iterator[Planned]:
    """Within each seed, the trials of configs that differ in the learning rate alone.

    They are compared with the one that validation prefers; without validation, with the middle
    rate, which nobody had to choose either.
    """
    for _, own in finished.trials.groupby(BUT_FOR_RATE, sort=False, dropna=False):
        rates = sorted(own[RATE].dropna().unique().tolist())
        of = _but_for_rate(str(own["config"].iloc[0]), finished)
        if len(rates) < LEAST_MEMBERS:
            reason = "it joins the learning rates of a config, and there is one rate"
            yield Planned(name=name, of=of, seed=None, candidates=(), make=partial(refused, reason))
            continue
        for seed, of_seed in own.groupby("seed"):
            ordered = of_seed.sort_values(RATE)
            trials = tuple(map(str, ordered["trial"]))
            missing = [f"{rate:g}" for rate in rates if rate not in set(ordered[RATE])]
            reason = f"its trial with lr {', '.join(missing)} is not complete"
            make = partial(_voted, finished, trials, majority=recipe.majority)
            yield Planned(
                name=name,
                of=f"{of}{SEPARATOR}lr {', '.join(f'{rate:g}' for rate in rates)}",
                seed=int(str(seed)),
                candidates=trials,
                base=trials[_preferred(ordered, finished)],
                make=partial(refused, reason) if missing else make,
            )


def _but_for_rate(config: str, finished: Finished) -> str:
    """The label of a config without its learning rate."""
    grid = finished.grid
    keys = [key for key in grid.keys if key != RATE] or ["strategy"]
    return SEPARATOR.join(grid.cells[config][key] for key in keys)


def _preferred(trials: pd.DataFrame, finished: Finished) -> int:
    """The place of the best on validation, of equals the least rate; the middle without any."""
    metric = finished.run.metric
    merits = trials[metric.val].astype(float) * metric.sign
    if merits.notna().any():
        return int(merits.fillna(-np.inf).to_numpy().argmax())
    return (len(trials) - 1) // 2


def temperatures(name: str, finished: Finished) -> Iterator[Planned]:
    """Each trial with the temperature of least validation loss."""
    for trial, config, seed in finished.trials[["trial", "config", "seed"]].itertuples(index=False):
        yield Planned(
            name=name,
            of=finished.grid.labels[str(config)],
            config=str(config),
            seed=int(seed),
            candidates=(str(trial),),
            base=str(trial),
            make=partial(_tempered, finished, str(trial)),
        )


def _joined(finished: Finished, members: Mapping[str, int]) -> Made:
    if sum(members.values()) < LEAST_MEMBERS:
        raise CannotBeError("an ensemble of seeds needs two complete trials of a config")
    val = of_val(lambda: _mean({trial: finished.val(trial) for trial in members}, members))
    test = _mean({trial: finished.test(trial) for trial in members}, members)
    if test is None:
        raise CannotBeError("its trials were tested on no common image")
    return Made(val=val, test=test, members=members, passes=len(members), chosen={})


def _voted(finished: Finished, trials: tuple[str, ...], *, majority: bool) -> Made:
    members = dict.fromkeys(trials, 1)
    join = votes_of if majority else mean_of
    val = of_val(lambda: _together([finished.val(trial) for trial in trials], join))
    test = _together([finished.test(trial) for trial in trials], join)
    if test is None:
        raise CannotBeError("its trials were tested on no common image")
    return Made(val=val, test=test, members=members, passes=len(trials), chosen={})


def _chosen(finished: Finished, trials: tuple[str, ...]) -> Made:
    sides = [finished.val(trial) for trial in trials]
    samples = sides[0].samples
    aligned = [side.at(samples) for side in sides]
    found = select_greedily(
        [side.probabilities for side in aligned],
        sides[0].labels,
        finished.merit,
        loss=finished.loss,
    )
    counts = zip(trials, found.counts, strict=True)
    members = {trial: count for trial, count in counts if count}
    test = _mean({trial: finished.test(trial) for trial in members}, members)
    assert test is not None
    val = _mean({trial: finished.val(trial) for trial in members}, members)
    return Made(val=val, test=test, members=members, passes=len(members), chosen={})


def _tempered(finished: Finished, trial: str) -> Made:
    val, test = finished.val(trial), finished.test(trial)
    temperature = fit_temperature(val.probabilities, val.labels)
    return Made(
        val=val.having(tempered(val.probabilities, temperature)),
        test=test.having(tempered(test.probabilities, temperature)),
        members={trial: 1},
        passes=1,
        chosen={"temperature": temperature},
    )


def _mean(predicted: Mapping[str, Predicted], members: Mapping[str, int]) -> Predicted | None:
    """The mean on the samples that all have; None without any."""
    counts = [members[trial] for trial in predicted]
    return _together([*predicted.values()], partial(mean_of, weights=counts))


def _together(
    sides: Sequence[Predicted], join: Callable[[Sequence[Probabilities]], Probabilities]
) -> Predicted | None:
    """Joined on the samples that all have; None without any."""
    others = [set(side.samples) for side in sides[1:]]
    samples = tuple(
        sample for sample in sides[0].samples if all(sample in other for other in others)
    )
    if not samples:
        return None
    aligned = [side.at(samples) for side in sides]
    return aligned[0].having(join([side.probabilities for side in aligned]))
