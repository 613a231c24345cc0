"""Two runs of the same configs: what changed, and what may be claimed of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from bench.errors import BenchError, bounded
from bench.methods.target_tasks import TARGET_TASKS
from bench.results.analysis.choice import with_all_folds
from bench.results.analysis.comparison import MARGIN, Comparison, compare_pairs
from bench.results.analysis.joint import JointScores, joint_scores
from bench.results.analysis.matching import Cell, differing_axes, match_configs, read_cells
from bench.results.analysis.scores import Scores, folds_of, scores_of_folds
from bench.results.analysis.verdict import margin_of
from bench.results.folder.columns import output_names
from bench.results.folder.inputs import read_inputs
from bench.results.grid import complete_trials, flat, has_folds, read_grid, value_text
from bench.results.metric import ACCURACY, Metric
from bench.results.sample_words import SampleWords, words_of
from bench.system.visible_text import visible

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run

VOLATILE = ("command", "started", "overrides")
"""Parts of the environment that differ between any two runs."""

Judgement = Literal["better", "worse", "as good", "open", "same"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A part of the environment, of the suite or of a config that two runs do not share."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class Change:
    """A config in both runs, over the seeds and test samples that both have.

    `differs` is what tells the config after from the one before. `comparison` is after against
    before, in the family of all configs of the two runs; None, with the `reason`, where nothing
    can be compared. `unchanged` says that every sample was scored the same in every seed.
    """

    label: str
    differs: tuple[Difference, ...]
    seeds: tuple[int, ...]
    before: float
    after: float
    comparison: Comparison | None
    unchanged: bool = False
    reason: str = ""

    @property
    def judgement(self) -> Judgement:
        """What may be claimed of the configs, or that nothing changed at all."""
        if self.unchanged:
            return "same"
        if self.comparison is None:
            return "open"
        verdict = self.comparison.verdict
        return "as good" if verdict == "as_good" else verdict


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """A run against an earlier one by `metric`.

    Where the two chose their epochs by different metrics (`chosen_by`), that is accuracy, of
    other tasks than classification their usual metric.
    `same_data` compares the fingerprints of their data; None where one of them is not known. In
    each of `ambiguous` are labels of configs before and after that could belong together, more than
    one of them; in `only_before` and `only_after` those that have no counterpart.
    `words` say what samples are called.
    """

    metric: Metric
    chosen_by: tuple[Metric, Metric]
    margin: float
    scores: JointScores
    same_data: bool | None
    changes: tuple[Change, ...]
    ambiguous: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    environment: tuple[Difference, ...]
    suite: tuple[Difference, ...]
    words: SampleWords

    @property
    def compared(self) -> tuple[Change, ...]:
        """The changes of which something can be said."""
        return tuple(change for change in self.changes if change.comparison is not None)

    @property
    def of_models(self) -> bool:
        """Whether it speaks of trained models only, for lack of common seeds."""
        known = [change.comparison for change in self.changes if change.comparison is not None]
        return bool(known) and all(comparison.of_models for comparison in known)

    @property
    def regressions(self) -> tuple[Change, ...]:
        """The configs that are shown to be worse."""
        return tuple(change for change in self.changes if change.judgement == "worse")


@dataclass(frozen=True, kw_only=True)
class ScoredPair:
    """What the same config scored before and after."""

    label: str
    before: Scores
    after: Scores
    differs: tuple[Difference, ...] = ()


def compare_runs(before: Run, after: Run) -> RunComparison:
    """What changed from `before` to `after`, config by config, on the same seeds and samples."""
    _check_alike(before, after)
    metric = before.metric if before.metric.name == after.metric.name else _usual_metric(before)
    cells = read_cells(before.trials), read_cells(after.trials)
    labels = read_grid(before.trials).labels, read_grid(after.trials).labels
    matches = match_configs(*cells)
    scores = joint_scores(*_judged(before, after), metric)
    trials = trials_by_config(before, metric), trials_by_config(after, metric)
    if folds_of(before) != folds_of(after) or _other_inputs(before, after):
        trials = {}, {}  # what one run tests in a trial is not what the other does
    words = words_of(before)
    found: list[ScoredPair | Change] = []
    for first, second in matches.joined:
        own = trials[0].get(first, {}), trials[1].get(second, {})
        seeds = tuple(sorted(own[0].keys() & own[1].keys()))
        sides = [
            _scores(run, {seed: own[side][seed] for seed in seeds}, scores, side, metric)
            for side, run in enumerate((before, after))
        ]
        label = labels[0][first]
        differs = tuple(_config_differences(cells[0][first], cells[1][second]))
        if sides[0] is not None and sides[1] is not None:
            found.append(ScoredPair(label=label, before=sides[0], after=sides[1], differs=differs))
        else:
            found.append(
                Change(
                    label=label,
                    differs=differs,
                    seeds=seeds,
                    before=_figure(before, own[0], seeds, metric),
                    after=_figure(after, own[1], seeds, metric),
                    comparison=None,
                    reason=words(_reason(own, seeds, (before, after), scores)),
                )
            )
    margin = margin_of(before, metric)
    judged = iter(
        changes_of(
            [each for each in found if isinstance(each, ScoredPair)],
            margin=margin,
            higher_is_better=metric.higher_is_better,
        )
    )
    return RunComparison(
        metric=metric,
        chosen_by=(before.metric, after.metric),
        margin=margin,
        scores=scores,
        same_data=_same_data(before, after),
        changes=tuple(next(judged) if isinstance(each, ScoredPair) else each for each in found),
        ambiguous=tuple(
            (tuple(labels[0][n] for n in own), tuple(labels[1][n] for n in others))
            for own, others in matches.ambiguous
        ),
        only_before=tuple(labels[0][name] for name in matches.only_first),
        only_after=tuple(labels[1][name] for name in matches.only_second),
        environment=(
            *_differences(before.environment, after.environment),
            *_differing_inputs(before, after),
        ),
        suite=tuple(_differences(before.suite, after.suite)),
        words=words,
    )


def _check_alike(before: Run, after: Run) -> None:
    """Raise `BenchError` unless both predict the same: a figure of one is none of the other."""
    tasks = before.target_task, after.target_task
    if tasks[0] != tasks[1]:
        raise BenchError(
            f"runs must be of the same task to be compared, got task: {tasks[0]} in "
            f"{before.folder} and task: {tasks[1]} in {after.folder}"
        )
    names = [output_names(run.predictions) for run in (before, after)]
    if before.metric.of_classes or not all(names) or names[0] == names[1]:
        return
    first, second = (bounded(", ".join(each), 200) for each in names)
    raise BenchError(
        f"runs must predict the same to be compared, got {first} in {before.folder} and "
        f"{second} in {after.folder}"
    )


def _usual_metric(run: Run) -> Metric:
    """What both runs measured, by whichever metric they chose."""
    name = TARGET_TASKS[run.target_task].metric
    return next((each for each in run.metrics if each.name == name), ACCURACY)


def changes_of(
    pairs: Sequence[ScoredPair], *, margin: float = MARGIN, higher_is_better: bool = True
) -> list[Change]:
    """Each config after against itself before; all of them are one family.

    A pair without a common seed or sample has no comparison.
    """
    compared = compare_pairs(
        [("after", "before", {"": pair.after}, {"": pair.before}) for pair in pairs],
        independent=len(pairs),
        margin=margin,
        higher_is_better=higher_is_better,
    )
    return [_change(pair, comparison) for pair, comparison in zip(pairs, compared, strict=True)]


def _change(pair: ScoredPair, comparison: Comparison) -> Change:
    seeds = comparison.seeds
    known = set(pair.before.samples)
    samples = tuple(sample for sample in pair.after.samples if sample in known)
    if not seeds:
        return Change(
            label=pair.label,
            differs=pair.differs,
            seeds=(),
            before=math.nan,
            after=math.nan,
            comparison=None,
            reason="no common seed and test image",
        )
    before, after = (side.at(seeds, samples) for side in (pair.before, pair.after))
    return Change(
        label=pair.label,
        differs=pair.differs,
        seeds=seeds,
        before=round(float(before.mean()), 12),
        after=round(float(after.mean()), 12),
        comparison=comparison,
        unchanged=np.array_equal(before, after),
    )


def _judged(before: Run, after: Run) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions of both; if groups count in one of the runs, they do for the comparison."""
    if before.groups_count or after.groups_count:
        return before.predictions, after.predictions
    return before.judged, after.judged


Trials = Mapping[int, tuple[str, ...]]
"""The trials of a config by seed: one, or one a fold."""


def trials_by_config(run: Run, metric: Metric) -> Mapping[str, Trials]:
    """config → its trials with a test figure."""
    known = complete_trials(run.trials).dropna(subset=[metric.test, "seed"])
    if has_folds(known):
        known = with_all_folds(known)
    found: dict[str, dict[int, tuple[str, ...]]] = {}
    for config, seed, trial in zip(known["config"], known["seed"], known["trial"], strict=True):
        own = found.setdefault(str(config), {})
        own[int(seed)] = (*own.get(int(seed), ()), str(trial))
    return found


def _scores(
    run: Run, trials: Trials, joint: JointScores, side: int, metric: Metric
) -> Scores | None:
    found = scores_of_folds(run, trials, metric) if trials else None
    return joint.of(side, trials) if found is None else found


def _figure(run: Run, trials: Trials, seeds: Sequence[int], metric: Metric) -> float:
    """The mean test figure of some seeds, as the table of trials has it."""
    used = [trial for seed in seeds for trial in trials[seed]]
    own = run.trials[run.trials["trial"].isin(used)]
    return round(float(own[metric.test].astype(float).mean()), 12) if len(own) else math.nan


def _reason(
    own: tuple[Trials, Trials],
    seeds: Sequence[int],
    runs: tuple[Run, Run],
    scores: JointScores,
) -> str:
    if folds_of(runs[0]) != folds_of(runs[1]):
        return "the two runs were tested on different folds"
    other = _other_inputs(*runs)
    if other:
        return f"images became inputs in different ways ({', '.join(other)})"
    if not seeds:
        return "no common seed" if all(own) else "no complete trial in one of the runs"
    for run, trials, name in zip(runs, own, ("first", "second"), strict=True):
        used = [trial for each in trials.values() for trial in each]
        if not run.predictions["trial"].isin(used).any():
            return f"the {name} run has no predictions of it"
    if not scores.common:
        return "no common test image"
    if scores.scored is None:
        return "the metric is not known here"
    return "no test image that all trials predicted"


def _same_data(before: Run, after: Run) -> bool | None:
    prints = [run.data.get("fingerprint") for run in (before, after)]
    return prints[0] == prints[1] if all(isinstance(each, str) for each in prints) else None


def _config_differences(before: Cell, after: Cell) -> Iterator[Difference]:
    for axis in differing_axes(before, after):
        texts = [visible(value_text(cell[axis])) for cell in (before, after)]
        if texts[0] == texts[1]:
            texts = [visible(repr(cell[axis])) for cell in (before, after)]
        yield Difference(name=axis, before=texts[0], after=texts[1])


def _differing_inputs(before: Run, after: Run) -> Iterator[Difference]:
    """What `resize: auto` came to, where both runs say so: versions differ in it."""
    one, other = (
        ", ".join(
            dict.fromkeys(
                f"{each.size} px by {each.resize}" for each in read_inputs(run) if each.resize
            )
        )
        for run in (before, after)
    )
    if one and other and one != other:
        yield Difference(name="inputs", before=one, after=other)
    for fact, sides in _differing_facts(before, after).items():
        if fact not in ("size", "resize"):
            texts = [", ".join(sorted(map(str, side))) for side in sides]
            yield Difference(name=f"inputs.{fact}", before=texts[0], after=texts[1])


FACTS = ("kind", "size", "resize", "interpolation", "mean", "std", "channels", "deep")
"""The fingerprint of inputs: what turns the same image into another input."""
CHOSEN_BY = ("backbone", "weights", "image_size", "max_length", "resize", "dataset")
"""What a suite says that decides them; what differs there is meant to be compared."""


def _differing_facts(
    before: Run, after: Run
) -> dict[str, tuple[frozenset[object], frozenset[object]]]:
    """The facts on inputs that both runs tell, and that are not the same."""
    found = {}
    for fact in FACTS:
        one, other = (
            frozenset(getattr(rule, fact) for rule in read_inputs(run)) for run in (before, after)
        )
        known = fact in ALWAYS_TOLD or not {None, ()} & (one | other)
        if one and other and known and one != other:
            found[fact] = (one, other)
    return found


ALWAYS_TOLD = ("channels", "deep")
"""Of which nothing says RGB."""


def _other_inputs(before: Run, after: Run) -> tuple[str, ...]:
    """In which facts inputs differ that the suites do not ask for: images are others then."""
    if any(before.suite.get(name) != after.suite.get(name) for name in CHOSEN_BY):
        return ()
    return tuple(_differing_facts(before, after))


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    one, other = (flat(side, separator=".") for side in (before, after))
    for name in dict.fromkeys([*one, *other]):
        if name not in VOLATILE and one.get(name) != other.get(name):
            texts = (value_text(side[name]) if name in side else "–" for side in (one, other))
            first, second = texts
            yield Difference(name=name, before=first, after=second)
