"""What to distrust in a run, each in a few words: for the last line of its verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from bench.errors import counted
from bench.results.analysis import Verdict, edges, read_studies
from bench.results.analysis.test_sets import TestSets
from bench.results.folder import Run, Tuning

VALIDATION_ERROR = 0.03
"""From this standard error of validation accuracy on, much of the choosing is chance."""

IMBALANCE = 5.0
MAX_DOUBTS = 3

LEAKAGE = "leakage"
"""Kinds of issues of a data set that begin so."""


def doubts(
    run: Run, found: Verdict, tuning: Tuning | None, sets: TestSets | None = None
) -> list[str]:
    """The most important first, at most `MAX_DOUBTS`."""
    return [
        *_leakage(run.data),
        *_groups(run),
        *_turns(sets),
        *_validation(run.images("val"), found),
        *_edges(tuning),
        *_imbalance(run.data, found),
        *_chosen(found),
    ][:MAX_DOUBTS]


def _leakage(data: Any) -> Iterator[str]:
    count = sum(
        int(issue["count"])
        for issue in data.get("issues", ())
        if str(issue["kind"]).startswith(LEAKAGE)
    )
    if count:
        images = "test image looks" if count == 1 else "test images look"
        yield f"{count} {images} like training images"


def _groups(run: Run) -> Iterator[str]:
    """An earlier version judged image by image what comes in groups, and so claimed too much."""
    if "group" in run.judged or "group" not in run.predictions:
        return
    test = run.predictions[["sample", "group"]].drop_duplicates("sample")
    groups = test["group"].nunique()
    if 0 < groups < len(test):
        yield (
            f"the test images come in {counted(groups, 'group')} and are counted one by one, as "
            "the version of bench that made the run did: too much is claimed"
        )


def _turns(sets: TestSets | None) -> Iterator[str]:
    """Which of two is better depends on the test set."""
    shown = [] if sets is None else [turn for turn in sets.turns if turn.shown]
    if shown:
        first = shown[0]
        more = f", and so for {counted(len(shown) - 1, 'more pair')}" if len(shown) > 1 else ""
        yield (
            f"{first.first} is better on {first.first_ahead[0]}, {first.second} on "
            f"{first.second_ahead[0]}{more}"
        )


def _validation(size: int, found: Verdict) -> Iterator[str]:
    """`size` is that of the validation split."""
    best = next((each for each in found.contenders if each.name == found.leader), None)
    if not size or best is None or not found.metric.is_accuracy or math.isnan(best.val):
        return
    # Half an image is added to each side, or a perfect figure would seem certain.
    share = (best.val * size + 0.5) / (size + 1)
    error = math.sqrt(share * (1 - share) / size)
    if error >= VALIDATION_ERROR:
        yield (
            f"the validation split that chooses has {counted(size, 'image')}, so its accuracy is "
            f"known to ± {100 * error:.0f} points"
        )


def _edges(tuning: Tuning | None) -> Iterator[str]:
    if tuning is None:
        return
    names = sorted({edge.study for edge in edges(read_studies(tuning))})
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"the best settings of {names[0]}{more} lie at the edge of what was tried"


def _imbalance(data: Any, found: Verdict) -> Iterator[str]:
    counts = [count for count in data.get("counts", {}).get("test", {}).values() if count]
    if found.metric.is_accuracy and len(counts) > 1 and max(counts) >= IMBALANCE * min(counts):
        ratio = max(counts) / min(counts)
        yield (
            f"the largest class has {ratio:.0f} times as many test images as the smallest, so "
            "accuracy tells little of the small ones"
        )


def _chosen(found: Verdict) -> Iterator[str]:
    """With one seed a config was chosen on the luck that it is reported with."""
    most = max(
        (
            choice.candidates
            for each in found.contenders
            for choice in each.choices.values()
            if len(choice.configs) == 1
        ),
        default=1,
    )
    if most > 1:
        yield f"with one seed the best of up to {most} configs also had the best luck"
