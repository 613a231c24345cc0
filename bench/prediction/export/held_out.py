"""What an export is checked on: the test split of its trial, or where that is not to be had,
generated samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from bench.data.dataset import DATASETS, TEST, Converted, DecodeFailure, open_dataset
from bench.data.images.channels import in_form
from bench.data.target_data import open_with_target
from bench.data.text.reading import plain_text
from bench.data.text.tokens import load_tokenizer
from bench.errors import BenchError, DataError, MachineError
from bench.results.analysis.predicted import output_arrays
from bench.results.folder import target_task_of
from bench.system.checked_json import first_misfit

if TYPE_CHECKING:
    from bench.data.dataset import Dataset, Pixels
    from bench.data.inputs import Preprocessing
    from bench.prediction.choice import Chosen
    from bench.results.folder import Run

GENERATED = 48
"""Samples that are generated where the data cannot be had."""


@dataclass(frozen=True, kw_only=True, eq=False)
class HeldOut:
    """So many samples: `read` gives some of them, RGB images of any size, vectors or texts.

    `truth` and `predicted` (what the run's own evaluation said) are indices of classes; of other
    tasks targets or labels, and values or probabilities, both `[n, outputs]`. They are None for
    samples that were generated, and `missing` then says why.
    """

    count: int
    read: Callable[[range], Sequence[Pixels] | npt.NDArray[np.float32]]
    truth: npt.NDArray[Any] | None = None
    predicted: npt.NDArray[Any] | None = None
    missing: str | None = None


def held_out(run: Run, chosen: Chosen, preprocessing: Preprocessing) -> HeldOut:
    """The test split of the trial, read again from the data set of its run."""
    try:
        return _test_split(run, chosen, preprocessing)
    except (BenchError, OSError) as error:
        said = str(MachineError(error) if isinstance(error, OSError) else error)
        return generated(preprocessing, missing=said)


def test_rows(run: Run, trial: str) -> Any:
    """The trial's rows of the table of predictions that are of the test split."""
    own = run.judged[run.judged["trial"] == trial]
    return own[own["split"] == "test"] if "split" in own else own


test_rows.__test__ = False  # type: ignore[attr-defined]


def _test_split(run: Run, chosen: Chosen, preprocessing: Preprocessing) -> HeldOut:
    rows = test_rows(run, chosen.id)
    if rows.empty:
        raise DataError("the run kept no predictions of the trial")
    name, options = _data_set(run.suite.get("dataset"))
    _refuse_downloads(name, options)
    if (target := options.get("target_data")) is not None:
        _refuse_downloads(target["name"], target)
    dataset = open_with_target(name, options)
    if (dataset.classes, dataset.kind) != (preprocessing.classes, preprocessing.kind):
        raise DataError(f"the data set {name} no longer has the classes of the run")
    places = {sample: place for place, sample in enumerate(dataset.sample_ids)}
    lost = next((sample for sample in rows["sample"] if sample not in places), None)
    if lost is not None:
        raise DataError(f"the data set {name} no longer has the sample {lost}")
    index = np.array([places[sample] for sample in rows["sample"]])
    truth, predicted = _stored(rows, preprocessing.classes)
    if not np.array_equal(_now(dataset, index), truth):
        raise DataError(f"the data set {name} has changed since the run: labels differ")
    found: Any = dataset

    def read(some: range) -> Any:
        own = index[some.start : some.stop]
        if preprocessing.kind == "vector":
            return found.vectors[own]
        if preprocessing.kind == "text":
            return np.array([plain_text(found.texts[at]) for at in own], object)
        return [_pixels(each) for each in found.read(own.tolist())]

    read(range(1))  # where the files are gone, it is known now
    return HeldOut(count=len(index), read=read, truth=truth, predicted=predicted)


def _stored(rows: Any, classes: Sequence[str]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """What is true of the samples, and what the run predicted of them."""
    if target_task_of(rows) != "classification":
        return output_arrays(rows)
    codes = {label: code for code, label in enumerate(classes)}
    labels, predicted = (
        rows[each].map(codes).to_numpy(np.int64) for each in ("label", "predicted")
    )
    return labels, predicted


def _now(dataset: Dataset, index: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """What the data set says of the samples."""
    if dataset.targets is None:
        return dataset.labels[index]
    return dataset.targets.values[index].astype(np.float64)


def _refuse_downloads(name: str, options: Mapping[str, Any]) -> None:
    """Where a run's suite says that data goes, nothing is written: it may be anybody's."""
    root = options.get("root")
    if name == "torchvision" and root is not None:
        from bench.data.images.torchvision_sets import is_there

        if not is_there(options["dataset"], root):
            raise DataError(f"the data set {options['dataset']} is not in {root}")


def _data_set(described: Any) -> tuple[str, dict[str, Any]]:
    """Name and checked options: the suite of a run folder may be anybody's."""
    named = dict(described) if isinstance(described, Mapping) else {"name": described}
    name = str(named.pop("name", None))
    try:
        options = DATASETS.get(name).options.model_validate(named).model_dump()
        # Which samples were tested is known: no expression from elsewhere is looked for.
        return name, {**options, "split": None, "group": None}
    except ValidationError as error:
        raise DataError(
            f"the suite in the run folder describes no valid data set: {first_misfit(error)}"
        ) from None


def _pixels(decoded: Any) -> Pixels:
    if isinstance(decoded, DecodeFailure):
        raise DataError(f"an image of the test split cannot be read any more: {decoded.reason}")
    pixels: Pixels = decoded.pixels if isinstance(decoded, Converted) else decoded
    return pixels


def generated(preprocessing: Preprocessing, *, missing: str) -> HeldOut:
    if preprocessing.kind == "vector":
        shape = (GENERATED, preprocessing.size)
        vectors = np.random.default_rng(0).normal(size=shape).astype(np.float32)
        return HeldOut(
            count=GENERATED, read=lambda some: vectors[some.start : some.stop], missing=missing
        )
    if preprocessing.tokenizer is not None:
        texts = _generated_texts(preprocessing.tokenizer, preprocessing.size)
        return HeldOut(
            count=GENERATED, read=lambda some: texts[some.start : some.stop], missing=missing
        )
    images = generated_images(preprocessing, GENERATED)
    return HeldOut(
        count=GENERATED, read=lambda some: images[some.start : some.stop], missing=missing
    )


def _generated_texts(tokenizer: str, length: int) -> npt.NDArray[Any]:
    """Words of the vocabulary in any order, of all lengths, too long ones among them."""
    known = sorted(each for each in load_tokenizer(tokenizer).get_vocab() if each.isalpha())
    draws = np.random.default_rng(0)
    lengths = draws.integers(1, 2 * length, GENERATED)
    texts = [" ".join(draws.choice(known or ["a"], size=own)) for own in lengths]
    return np.array(texts, object)


def generated_images(preprocessing: Preprocessing, count: int) -> list[Pixels]:
    """Fractals of many sizes: wide, tall, smaller and larger than what training kept."""
    assert preprocessing.resized_to is not None
    form = preprocessing.form
    colours = np.arange(form.depth) % 3
    side = min(512, max(16, round(1.5 * preprocessing.resized_to)))
    options = {"classes": 2, "test_per_class": -(-count // 2), "image_size": side}
    dataset: Any = open_dataset("fractals", options)
    squares = dataset.read(np.flatnonzero(dataset.splits == TEST)[:count].tolist())
    shares = [(1.0, 1.0), (1.0, 0.7), (0.6, 1.0), (0.9, 0.25), (0.45, 0.5)]
    cut = []
    for number, square in enumerate(squares):
        high, wide = shares[number % len(shares)]
        cut.append(square[: max(1, round(high * side)), : max(1, round(wide * side))].copy())
    return [in_form(pixels[:, :, colours], form) for pixels in cut]
