"""An exported file against the trial that it is of, in the file's own runtime."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.errors import BenchError, DataError
from bench.methods.target_tasks import REGRESSION
from bench.models.evaluation import EVALUATION_BATCH, Evaluation
from bench.prediction.export.deployed import given, kept
from bench.prediction.export.formats import usage_code
from bench.prediction.export.fresh import Fresh, fresh_process
from bench.prediction.export.held_out import HeldOut, generated, generated_images, held_out
from bench.prediction.export.reading import Logits, Reading
from bench.results.analysis.influence import SCORED

if TYPE_CHECKING:
    from bench.prediction.export.formats import Format, Wish
    from bench.prediction.model import TrainedModel
    from bench.results.folder import Run
    from bench.results.metric import Metric

LOGIT_TOLERANCE = 1e-3
"""By so much logits of a file in fp32 may differ from those of the trial."""
PROBABILITY_TOLERANCE = 0.02
"""By so much probabilities of a file in fp16 may differ: a label can change only where the two most
probable classes lie closer together than twice that."""
ALONE = 16
"""So many samples are also given one by one."""
MOST_RESIZED = 200
"""So many images at most are also given in their own size."""


@dataclass(frozen=True, kw_only=True)
class Resized:
    """Images of their own sizes, made ready by the file or by the code of its card, against the
    same images made ready as in training: how far logits and labels differ."""

    images: int
    generated: bool
    logit_difference: float
    changed_labels: int


@dataclass(frozen=True, kw_only=True)
class Check:
    """A file in its own `runtime` and a fresh process, against the opened trial in fp32.

    Differences are the largest ones on equal inputs, over `samples`, of regression in standard
    deviations of the targets; labels have changed where another class is the most probable, or
    other labels are given (None where numbers are predicted). `accuracy` is the file's,
    `trial_accuracy` that of the trial in fp32; where no classes are predicted `figure` and
    `trial_figure` stand in their place, by the run's `metric`. `unlike_run` says for how many
    samples the trial then predicts something else than the run stored (it may have computed in
    another precision). These are None where samples were generated, and `missing` says why. Times
    are milliseconds a sample on this machine's processor, in batches of 64 and alone;
    `trial_milliseconds` are those of the opened trial.
    """

    runtime: str
    samples: int
    missing: str | None
    logit_difference: float
    probability_difference: float
    changed_labels: int | None
    accuracy: float | None
    trial_accuracy: float | None
    unlike_run: int | None
    resized: Resized | None
    milliseconds: float
    milliseconds_alone: float
    trial_milliseconds: float
    metric: str | None = None
    figure: float | None = None
    trial_figure: float | None = None


def check_file(
    run: Run, model: TrainedModel, file: Format, wish: Wish, folder: Path
) -> tuple[Check, str]:
    """Check the file in `folder`; also the code that was run beside it.

    Raises `BenchError` if it does not work, or differs by more than the tolerance.
    """
    code = usage_code(file, model, wish)
    samples = held_out(run, model.chosen, model.preprocessing)
    try:
        found = _check(model, file, wish, folder, code, samples, run.metric)
    except DataError as error:  # of a single image
        samples = generated(model.preprocessing, missing=str(error))
        found = _check(model, file, wish, folder, code, samples, run.metric)
    _refuse(found, file, wish, Reading(outputs=model.outputs))
    return found, code


def _refuse(found: Check, file: Format, wish: Wish, reading: Reading) -> None:
    if wish.dtype == "fp32":
        what, difference, most = reading.function, found.logit_difference, LOGIT_TOLERANCE
    else:
        what, difference, most = (
            reading.compared,
            found.probability_difference,
            PROBABILITY_TOLERANCE,
        )
    if difference <= most:  # a NaN is not
        return
    mend = "" if wish.dtype == "fp32" else "; --dtype fp32 keeps the values as they are"
    labels = (
        "in standard deviations of the targets"
        if found.changed_labels is None
        else f"{found.changed_labels} of {found.samples} labels change"
    )
    raise BenchError(
        f"the exported file was not kept: its {what} in {found.runtime} differ by up to "
        f"{difference:.2g} from those of the trial; the limit is {most:g} (--format {file.name}, "
        f"--dtype {wish.dtype}; {labels}){mend}"
    )


@dataclass
class _Tally:
    """What batches add up to, and samples that were given alone."""

    expected: list[Logits] = field(default_factory=list)
    found: list[Logits] = field(default_factory=list)
    alone_expected: list[Logits] = field(default_factory=list)
    alone_found: list[Logits] = field(default_factory=list)
    alone_seconds: list[float] = field(default_factory=list)
    seconds: float = 0.0
    trial_seconds: float = 0.0
    timed: int = 0


def _check(
    model: TrainedModel,
    file: Format,
    wish: Wish,
    folder: Path,
    code: str,
    samples: HeldOut,
    metric: Metric,
) -> Check:
    reading = Reading(outputs=model.outputs)
    tally, resized = _Tally(), _ResizedTally(reading=reading)
    as_array = model.preprocessing.channels is not None
    with fresh_process(code, folder, name=file.runtime, function=reading.function) as fresh:
        for some in _parts(samples.count):
            _check_part(model, wish, fresh, samples.read(some), tally, resized)
        if model.preprocessing.kind == "image" and not resized.differences:
            resized.generated = True
            for image in generated_images(model.preprocessing, 5):
                expected = _pass(model, model.inputs(kept(model, [image])).numpy())
                answer = fresh.logits_of_image(image, as_array=as_array)
                resized.add(reading.logits(answer), expected)
    expected = np.concatenate(tally.expected)
    found = reading.logits(np.concatenate(tally.found))
    guessed, predicted = reading.said(found), reading.said(expected)
    all_expected = np.concatenate([expected, *tally.alone_expected])
    all_found = np.concatenate([found, *map(reading.logits, tally.alone_found)])
    of_values = reading.outputs.task is REGRESSION
    return Check(
        runtime=file.runtime,
        samples=samples.count,
        missing=samples.missing,
        logit_difference=_largest(all_found - all_expected),
        probability_difference=_largest(
            reading.probabilities(all_found) - reading.probabilities(all_expected)
        ),
        changed_labels=None if of_values else reading.differing(guessed, predicted),
        unlike_run=(
            None
            if samples.predicted is None
            else reading.differing(predicted, reading.stored(samples.predicted))
        ),
        resized=resized.result() if model.preprocessing.kind == "image" else None,
        milliseconds=1000 * tally.seconds / max(1, tally.timed),
        milliseconds_alone=1000 * float(np.median(tally.alone_seconds)),
        trial_milliseconds=1000 * tally.trial_seconds / max(1, tally.timed),
        **_figures(reading, samples.truth, found, expected, metric),
    )


def _figures(
    reading: Reading,
    truth: npt.NDArray[Any] | None,
    found: Logits,
    expected: Logits,
    metric: Metric,
) -> dict[str, Any]:
    """How good the file and the trial are, where it is known what is true."""
    if reading.outputs.task.has_classes:
        sides = [
            None if truth is None else float((reading.said(each) == truth).mean())
            for each in (found, expected)
        ]
        return {"accuracy": sides[0], "trial_accuracy": sides[1]}
    known: dict[str, Any] = {"accuracy": None, "trial_accuracy": None}
    if truth is None or metric.name not in SCORED:
        return known
    own, trial = (reading.figure(metric.name, truth, each) for each in (found, expected))
    return {**known, "metric": metric.label, "figure": own, "trial_figure": trial}


def _check_part(
    model: TrainedModel,
    wish: Wish,
    fresh: Fresh,
    samples: Any,
    tally: _Tally,
    resized: _ResizedTally,
) -> None:
    stored = kept(model, samples)
    inputs, batch = model.inputs(stored).numpy(), given(model, stored, wish.place)
    if not tally.found:  # what takes long the first time counts for nobody
        fresh.logits(batch[:1])
        _pass(model, inputs)
    start = time.perf_counter()
    expected = _pass(model, inputs)
    tally.trial_seconds += time.perf_counter() - start
    if not tally.found:
        for at in range(min(ALONE, len(batch))):
            found, seconds = fresh.logits(batch[at : at + 1])
            tally.alone_found.append(found)
            tally.alone_expected.append(expected[at : at + 1])
            tally.alone_seconds.append(seconds)
    found, seconds = fresh.logits(batch)
    tally.seconds += seconds
    tally.timed += len(batch)
    tally.expected.append(expected)
    tally.found.append(found)
    as_array = model.preprocessing.channels is not None
    if model.preprocessing.kind == "image":
        for image, own, logits in zip(samples, stored, expected, strict=True):
            if len(resized.differences) < MOST_RESIZED and image.shape != own.shape:
                answer = fresh.logits_of_image(np.asarray(image), as_array=as_array)
                resized.add(resized.reading.logits(answer), logits[None])


@dataclass
class _ResizedTally:
    reading: Reading
    generated: bool = False
    differences: list[float] = field(default_factory=list)
    changed: int = 0

    def add(self, found: Logits, expected: Logits) -> None:
        self.differences.append(_largest(found - expected))
        if self.reading.outputs.task is not REGRESSION:
            said = (self.reading.said(each) for each in (found, expected))
            self.changed += self.reading.differing(*said)

    def result(self) -> Resized:
        return Resized(
            images=len(self.differences),
            generated=self.generated,
            logit_difference=float(np.max(self.differences)),
            changed_labels=self.changed,
        )


def _pass(model: TrainedModel, inputs: npt.NDArray[np.float32]) -> Logits:
    """Logits of the opened trial in fp32, on the processor."""
    import torch

    evaluation = Evaluation(
        model.network,
        boundary=model.spec.boundary,
        precision="fp32",
        threads=torch.get_num_threads(),
    )
    return np.asarray(next(iter(evaluation([torch.from_numpy(inputs)]))).numpy())


def _parts(count: int) -> Iterator[range]:
    for at in range(0, count, EVALUATION_BATCH):
        yield range(at, min(count, at + EVALUATION_BATCH))


def _largest(differences: npt.NDArray[np.floating[Any]]) -> float:
    """NaN if one of them is: what compares with it is false."""
    return float(np.abs(differences).max(initial=0.0))
