"""What is likely wrong with the data of a run: labels, and images that tell nothing or too much.

Everything here is a suspicion to look at. Label errors are those of confident learning; the rest is
what was noticed when the images were prepared, which the run folder keeps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from bench.errors import BenchError
from bench.results.analysis.held_out import HeldOut, held_out
from bench.results.analysis.label_errors import ConfidentJoint, confident_joint, margins
from bench.results.analysis.outliers import LEAST_FACTOR
from bench.results.folder import read_outliers
from bench.results.sample_words import SampleWords, words_of

if TYPE_CHECKING:
    import pandas as pd

    from bench.results.folder import Run

Reason = Literal[
    "label error",
    "same image, other label",
    "similar image, other label",
    "unlike all others",
    "nearly one colour",
    "low contrast",
    "unreadable",
]

OUTLIER: Reason = "unlike all others"

PAIRS: Mapping[str, Reason] = {
    "label-conflict": "same image, other label",
    "leakage-exact": "same image, other label",
    "label-conflict-near": "similar image, other label",
    "leakage-near": "similar image, other label",
}
"""Kinds of issues whose samples are pairs. Those of leakage count where their labels differ: runs
of earlier versions tell of conflicts of nearly equal images in no other way."""

_SINGLE: Mapping[str, Reason] = {
    "uniform": "nearly one colour",
    "narrow-range": "low contrast",
    "unreadable": "unreadable",
}


NOT_AUDITED: Mapping[str, str] = {
    "regression": "confident learning finds labels of another class, and numbers have no classes; "
    "the report shows the images that are predicted worst",
    "multi_label": "confident learning, as it is defined, takes one class a sample, and here a "
    "sample has several labels; the report shows the labels that are most confidently wrong",
}
"""Why label errors are not looked for, by task."""


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A sample to look at, and why.

    `given` is its label, None where the run folder does not tell it. Of a label error `suggested`
    is the class that confident learning takes for the true one, and `score` in [-1, 1] how much
    more probable the best other class is than the given one. Of what is unlike all others `score`
    is its local outlier factor. `like` is the other sample of a pair with its label.
    """

    sample: str
    reason: Reason
    given: str | None
    suggested: str | None = None
    score: float | None = None
    like: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Audited:
    """What the audit of a run has found: `suspects`, the worst label errors first.

    `unnamed` counts, by reason, what the run folder tells the number of but does not name.
    `measured` is of how many samples it is known how unlike the others they are, None of none.
    `words` say what samples are called.
    """

    held_out: HeldOut
    joint: ConfidentJoint
    suspects: tuple[Suspect, ...]
    unnamed: Mapping[Reason, int]
    words: SampleWords
    measured: int | None = None


def find_suspects(run: Run) -> Audited:
    """Audit a run from its files; raises `BenchError` as `held_out` does, and for one class.

    Also for a run of another task than classification.
    """
    check_audited(run.target_task, str(run.folder))
    found = held_out(run)
    if len(found.classes) < 2:
        raise BenchError(
            f"{run.folder / 'predictions.parquet'} cannot be audited: label errors need two "
            f"classes or more, got {len(found.classes)}"
        )
    joint = confident_joint(found.labels, found.probabilities)
    labels = _labels(run)
    factors = read_outliers(run.folder)
    suspects = (
        *_label_errors(found, joint),
        *_outliers(factors or {}, labels),
        *_conflicts(run, labels),
        *_of_images(run, labels),
    )
    return Audited(
        held_out=found,
        joint=joint,
        suspects=suspects,
        unnamed=_unnamed(run),
        measured=None if factors is None else len(factors),
        words=words_of(run),
    )


def to_picture(suspects: Sequence[Suspect], limit: int) -> list[Suspect]:
    """So many of them, in their order: label errors leave a quarter to what is unlike the others.

    Of unreadable images there is no picture.
    """
    known = [each for each in suspects if each.reason != "unreadable"]
    odd = sum(each.reason == OUTLIER for each in known)
    before = [each for each in known if each.reason == "label error"]
    return [*before[: limit - min(odd, limit // 4)], *known[len(before) :]][:limit]


def check_audited(task: str, name: str) -> None:
    """Raise `BenchError` if what is called `name` predicts no classes, so that no label errs."""
    if task in NOT_AUDITED:
        raise BenchError(f"{name} cannot be audited (task: {task}): {NOT_AUDITED[task]}")


def _label_errors(found: HeldOut, joint: ConfidentJoint) -> list[Suspect]:
    """The samples off the diagonal of the confident joint, the largest margin first."""
    scores = margins(found.labels, found.probabilities)
    suspects = [
        Suspect(
            sample=found.samples[row],
            reason="label error",
            given=found.classes[found.labels[row]],
            suggested=found.classes[joint.confident[row]],
            score=float(scores[row]),
        )
        for row in np.flatnonzero(joint.off_diagonal)
    ]
    return sorted(suspects, key=lambda each: (-(each.score or 0.0), each.sample))


def _outliers(factors: Mapping[str, float], labels: Mapping[str, str]) -> list[Suspect]:
    """The largest factor first."""
    suspects = [
        Suspect(sample=sample, reason=OUTLIER, given=labels.get(sample), score=factor)
        for sample, factor in factors.items()
        if factor >= LEAST_FACTOR
    ]
    return sorted(suspects, key=lambda each: (-(each.score or 0.0), each.sample))


def _labels(run: Run) -> dict[str, str]:
    """The label of every sample that any trial predicted."""
    found: dict[str, str] = {}
    for predictions in (run.predictions, run.val_predictions):
        known: pd.DataFrame = predictions[["sample", "label"]].drop_duplicates("sample")
        found |= dict(zip(map(str, known["sample"]), map(str, known["label"]), strict=True))
    return found


def _conflicts(run: Run, labels: Mapping[str, str]) -> Iterator[Suspect]:
    """Both samples of every pair of which the run folder says that their labels differ."""
    seen: set[frozenset[str]] = set()
    for kind, reason in PAIRS.items():
        samples = _samples(run, kind)
        for pair in zip(samples[::2], samples[1::2], strict=False):
            known = [labels.get(sample) for sample in pair]
            told = kind.startswith("label-conflict")
            differ = None not in known and known[0] != known[1]
            if frozenset(pair) in seen or not (told or differ):
                continue
            seen.add(frozenset(pair))
            for one, other in (pair, pair[::-1]):
                like = (other, labels.get(other, "unknown"))
                yield Suspect(sample=one, reason=reason, given=labels.get(one), like=like)


def _of_images(run: Run, labels: Mapping[str, str]) -> Iterator[Suspect]:
    for kind, reason in _SINGLE.items():
        for sample in _samples(run, kind):
            yield Suspect(sample=sample, reason=reason, given=labels.get(sample))


def _samples(run: Run, kind: str) -> list[str]:
    return [
        sample
        for issue in run.data.get("issues", ())
        if issue["kind"] == kind
        for sample in issue.get("samples", ())
    ]


def _unnamed(run: Run) -> dict[Reason, int]:
    """Of each reason how many are counted and not named; leakage may be of equal labels."""
    kinds = {kind: reason for kind, reason in PAIRS.items() if kind.startswith("label-conflict")}
    found: dict[Reason, int] = {}
    for kind, reason in {**kinds, **_SINGLE}.items():
        counts = [issue["count"] for issue in run.data.get("issues", ()) if issue["kind"] == kind]
        named = len(_samples(run, kind)) // (1 if kind in _SINGLE else 2)
        if sum(counts) > named:
            found[reason] = sum(counts) - named
    return found
