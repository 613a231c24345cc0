"""`bench predict`: many files through a trained network, in constant memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, without_secrets
from bench.prediction.load import load
from bench.prediction.outputs import Outputs
from bench.prediction.samples import Predicted, Sample
from bench.prediction.table import check_name, row_of, to_frame, writing
from bench.system.object_store import is_url

if TYPE_CHECKING:
    import pandas as pd

    from bench.prediction.choice import Chosen
    from bench.prediction.model import TrainedModel

MAX_KEPT = 10_000
"""Rows that are kept in memory where they go to a file; of unreadable files the first ones too."""

OnCount = Callable[[int], None]
"""Told how many files are done."""


@dataclass(kw_only=True)
class Predictions:
    """What `bench predict` found.

    `chosen` is the trial that was used. `first` are the first samples (all of them, where no file
    was asked for), `count` how many there were, `by_class` how often each class was predicted (or
    `unsure`; of several labels a sample, how often each was given), `failed` the first of those
    that could not be read and `failures` how many these are. Of `cut` texts the end was not seen.
    Where folders are named like classes, `labelled` counts (folder, predicted) pairs. `outputs` say
    what is predicted.
    """

    chosen: Chosen
    outputs: Outputs
    min_confidence: float
    out: Path | None
    first: list[Predicted] = field(default_factory=list)
    count: int = 0
    by_class: Counter[str] = field(default_factory=Counter)
    failed: list[Predicted] = field(default_factory=list)
    failures: int = 0
    cut: int = 0
    labelled: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return self.outputs.names

    @property
    def table(self) -> pd.DataFrame:
        """A row a sample, with the columns of `outputs`."""
        return to_frame(self.first, self.outputs, min_confidence=self.min_confidence)

    @property
    def right(self) -> int:
        """How many samples in folders named like classes were predicted as their folder says."""
        return sum(n for (label, predicted), n in self.labelled.items() if label == predicted)

    @property
    def accuracy(self) -> float | None:
        """The share of them; None where no folder is named like a class."""
        total = self.labelled.total()
        return self.right / total if total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Where the accuracy on other such images lies, in 95 of 100 samples (Wilson, 1927)."""
        from bench.results.analysis import wilson_interval

        total = self.labelled.total()
        return wilson_interval(self.right, total) if total else None


def predict(
    run: str | Path,
    what: Any,
    *,
    trial: str | None = None,
    column: str | None = None,
    out: str | Path | None = None,
    min_confidence: float = 0.0,
    device: str = "auto",
    progress: OnCount | None = None,
) -> Predictions:
    """Classify files with a trained trial of a run: see `bench.predict`."""
    if not 0 <= min_confidence <= 1:
        raise BenchError(f"min_confidence must lie in [0, 1], got {min_confidence:g}")
    if out is not None:
        check_out(out, run, what)
    model = load(run, trial, device=device)
    model.outputs.check_confidence("min_confidence", min_confidence)
    return classify(
        model,
        model.samples(what, column=column),
        out=out,
        min_confidence=min_confidence,
        progress=progress,
    )


def check_out(out: str | Path, run: str | Path, what: Any) -> None:
    """Raise `BenchError` if a file of this name would take the place of something else.

    That is, of what is to be classified, of a file of the run, or of what is no file.
    """
    if is_url(out):
        raise BenchError(f"--out must be a file on this machine, got {without_secrets(str(out))}")
    path = Path(out).expanduser()
    check_name(path)
    given = what if isinstance(what, list | tuple) else [what]
    named = (each for each in given if isinstance(each, str | os.PathLike))
    if path.exists() and any(_is_same(path, Path(os.path.expanduser(each))) for each in named):
        raise BenchError(f"--out must not be what is to be classified, got {path}")
    if not is_url(run) and _lies_in(path, run):
        raise BenchError(
            f"--out must lie outside of the run folder, which has tables of its own, got {path}"
        )


def _lies_in(path: Path, run: str | Path) -> bool:
    folder = Path(os.path.expanduser(run)).resolve()
    return path.absolute().parent.resolve().is_relative_to(folder)


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


def classify(
    model: TrainedModel,
    samples: Iterable[Sample],
    *,
    out: str | Path | None = None,
    min_confidence: float = 0.0,
    progress: OnCount | None = None,
) -> Predictions:
    """Classify samples one after the other; with `out`, rows go to that file."""
    path = None if out is None else Path(out).expanduser()
    found = Predictions(
        chosen=model.chosen, outputs=model.outputs, min_confidence=min_confidence, out=path
    )
    with ExitStack() as open_files:
        writer = None
        if path is not None:
            writer = open_files.enter_context(writing(path, model.outputs))
        for each in model.stream(_at_least_one(samples)):
            row = row_of(each, model.outputs, min_confidence=min_confidence)
            _note(found, each, row.get("predicted"), keep=writer is None)
            if writer is not None:
                writer.add(row)
            if progress is not None:
                progress(found.count)
    return found


def _at_least_one(samples: Iterable[Sample]) -> Iterator[Sample]:
    none = True
    for sample in samples:
        none = False
        yield sample
    if none:
        raise BenchError("there is nothing to classify: nothing was named")


def _note(found: Predictions, each: Predicted, predicted: str | None, *, keep: bool) -> None:
    found.count += 1
    if keep or len(found.first) < MAX_KEPT:
        found.first.append(each)
    if each.failure is not None:
        found.failures += 1
        if len(found.failed) < MAX_KEPT:
            found.failed.append(each)
        return
    found.cut += each.cut
    if not found.outputs.task.has_classes:
        assert each.probabilities is not None
        if predicted is not None:
            found.by_class.update(found.outputs.labels(each.probabilities))
        return
    assert predicted is not None
    found.by_class[predicted] += 1
    if each.folder in found.classes:
        assert each.folder is not None
        found.labelled[each.folder, predicted] += 1


def ranked(each: Predicted, classes: Sequence[str], top: int) -> list[tuple[str, float]]:
    """The `top` most probable classes of a sample, with their probabilities."""
    assert each.probabilities is not None
    order = (-each.probabilities).argsort(kind="stable")[:top]
    return [(classes[index], float(each.probabilities[index])) for index in order]
