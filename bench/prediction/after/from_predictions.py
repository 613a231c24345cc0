"""Children that need nothing but stored predictions: ensembles and temperatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from bench.methods.after import Ensemble
from bench.methods.temperature import fit_temperature, tempered
from bench.prediction.after.finished import CannotBeError, Finished, Made, Planned, of_val
from bench.prediction.combine import mean_of, select_greedily
from bench.results.analysis.predicted import Predicted

LEAST_MEMBERS = 2


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
    sides = list(predicted.values())
    others = [set(side.samples) for side in sides[1:]]
    samples = tuple(
        sample for sample in sides[0].samples if all(sample in other for other in others)
    )
    if not samples:
        return None
    aligned = [side.at(samples) for side in sides]
    counts = [members[trial] for trial in predicted]
    return aligned[0].having(mean_of([side.probabilities for side in aligned], counts))
