"""A trained trial at work: samples in, what it says of them out."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.data.dataset import Converted, Decoded, DecodeFailure, Pixels
from bench.data.images.inputs import ImageInputs
from bench.data.images.prepared import resize_image
from bench.data.inputs import Preprocessing
from bench.data.text.tokens import Cutter, Tokenised
from bench.errors import BenchError, bounded
from bench.methods.target_tasks import REGRESSION
from bench.models.checkpoints import ModelSpec
from bench.models.evaluation import Evaluation, evaluation_batch
from bench.models.network import Network
from bench.prediction.choice import Chosen
from bench.prediction.outputs import Outputs
from bench.prediction.samples import (
    NO_NUMBERS,
    Predicted,
    Probabilities,
    Sample,
    check_array,
    samples_of,
)
from bench.prediction.table import to_frame
from bench.prediction.texts import as_text, texts_of
from bench.suite import Entry, Interpolation

if TYPE_CHECKING:
    import pandas as pd


Samples: TypeAlias = Sequence[Pixels] | Sequence[str] | npt.NDArray[Any]
"""Images, texts, or vectors [n, length]."""


class TrainedModel:
    """A trained trial, opened.

    It answers as the trial's own evaluation did: the same bits on the same processor, within
    rounding elsewhere.

    `chosen` says which trial it is and why, `preprocessing` how a sample becomes an input, `spec`
    what the network was built from.
    """

    def __init__(
        self,
        *,
        network: Network,
        spec: ModelSpec,
        preprocessing: Preprocessing,
        chosen: Chosen,
        parallel_batches: int = 1,
    ) -> None:
        self.network = network.eval()
        self.spec = spec
        self.outputs = Outputs.of(spec, preprocessing.classes)
        self.preprocessing = preprocessing
        self.chosen = chosen
        self.parallel_batches = parallel_batches
        self._cutter = (
            None
            if preprocessing.tokenizer is None
            else Cutter(preprocessing.tokenizer, length=preprocessing.size)
        )
        evaluation = partial(
            Evaluation,
            network,
            precision=spec.precision,
            threads=spec.threads,
            parallel_batches=parallel_batches,
        )
        self._evaluation = evaluation(boundary=spec.boundary)
        # Frozen groups take full batches, padded if need be: too dear for one image.
        self._quick = evaluation(boundary=None)

    def __repr__(self) -> str:
        return f"<{self.chosen.label}: {self.outputs}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the outputs, in order."""
        return self.preprocessing.classes

    @property
    def module(self) -> nn.Module:
        """The library's plain network, to go on working with; inputs are those of `inputs`.

        With the head `pretrained` its outputs are the classes of the starting weights.
        """
        return self.network.model

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.network.parameters()).device

    def inputs(self, samples: Samples) -> Tensor:
        """What the network takes `[n, ...]`, on the CPU.

        `samples` are images [height, width, channels] of any size, of the form that the
        preprocessing says (RGB in 8 bits, as a rule), vectors [n, length], or texts. Of a text
        these are int32 `[n, length]` of token ids, with `PADDING` behind them.
        """
        return self._inputs(samples).cpu()

    def _inputs(self, samples: Samples) -> Tensor:
        """The same; images are where the network computes."""
        if self.preprocessing.kind == "vector":
            return torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
        if self.preprocessing.kind == "text":
            return torch.from_numpy(self.tokens([_checked_text(each) for each in samples]).ids)
        return self._normalised(np.stack([self.prepared(pixels) for pixels in samples]))

    def tokens(self, texts: Sequence[str]) -> Tokenised:
        """Texts as the tokens that the network was trained on; `cut` says which lose their end."""
        assert self._cutter is not None, "only texts have tokens"
        try:
            return self._cutter(texts)
        except Exception as error:  # of a damaged tokenizer the library raises almost anything
            raise BenchError(
                f"the tokenizer in the trial's checkpoint cannot cut this text: {_reason(error)}"
            ) from error

    def probabilities(self, samples: Samples) -> Probabilities:
        """The probability of each class, or of each label, `[n, outputs]` of what `inputs` takes.

        Raises `BenchError` where numbers are predicted.
        """
        if self.outputs.task is REGRESSION:
            raise BenchError("regression predicts values, which have no probabilities: use values")
        return self._answers(samples)

    def values(self, samples: Samples) -> npt.NDArray[np.float64]:
        """The predicted value of each target `[n, targets]`, in its own units.

        Raises `BenchError` where no numbers are predicted.
        """
        if self.outputs.task is not REGRESSION:
            raise BenchError(
                f"task {self.outputs.task.name} predicts probabilities, no values: use "
                "probabilities"
            )
        return self._answers(samples)

    def _answers(self, samples: Samples) -> npt.NDArray[Any]:
        samples = [samples] if isinstance(samples, str) else samples
        self._check(samples)
        size = evaluation_batch(self.device)
        parts = range(0, len(samples), size)
        batches = (self._inputs(samples[at : at + size]) for at in parts)
        logits = list(self._logits(batches))
        if not logits:
            return np.zeros((0, len(self.classes)), np.float32)
        return self.outputs.of_logits(torch.cat(logits))

    def _logits(self, batches: Iterable[Tensor]) -> Iterator[Tensor]:
        """Those of the trial's own evaluation."""
        try:
            yield from self._evaluation(batches)
        except IndexError as error:
            if self.preprocessing.kind != "text":
                raise
            raise BenchError(
                "the trial's checkpoint is damaged: its network does not know what its tokenizer "
                f"makes of this text ({_reason(error)})"
            ) from error

    def prepared(self, sample: Pixels | str) -> npt.NDArray[Any]:
        """An image as it is kept: resized, not yet normalised; a text as its row of tokens."""
        if isinstance(sample, str):
            row: npt.NDArray[np.int32] = self.tokens([sample]).ids[0]
            return row
        rule = self.preprocessing
        assert rule.resized_to is not None
        assert rule.resize is not None
        interpolation = cast(Interpolation, rule.interpolation)
        return resize_image(np.asarray(sample), rule.resized_to, rule.resize, interpolation)

    def answers_of_prepared(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What is predicted `[n, outputs]` of a few samples of `prepared`, within rounding."""
        pieces = np.array_split(stored, min(self.parallel_batches, len(stored)))
        logits = list(self._quick(map(self._batch, pieces)))
        return self.outputs.of_logits(torch.cat(logits))

    def predict(self, what: Any, *, column: str | None = None) -> pd.DataFrame:
        """A row a sample: `path`, `predicted`, `confidence`, and `probability_CLASS` of each class.

        Of several labels a sample, `predicted` joins those that it gets with "|", and there is no
        `confidence`; of regression there are `predicted_TARGET` of each target alone.

        `what` is a file, a folder, an archive or a list of them; an image (of Pillow, or an array
        [height, width, channels]) or several; vectors; or of texts what `texts_of` takes, with the
        `column` of tables. Samples that cannot be read have a row too, with the reason in the
        column `failure`.
        """
        if self.preprocessing.kind == "vector":
            rows = np.atleast_2d(np.asarray(what, dtype=np.float32))
            found = self._answers(rows)
            named = [Predicted(name=str(i), probabilities=own) for i, own in enumerate(found)]
            return to_frame(named, self.outputs)
        return to_frame(self.stream(self.samples(what, column=column)), self.outputs)

    def samples(self, what: Any, *, column: str | None = None) -> Iterator[Sample]:
        """What `what` names, of the kind that the network takes.

        Raises `BenchError` as `samples_of` and `texts_of`, and for vectors, which no file has.
        """
        if self.preprocessing.kind == "text":
            return texts_of(what, column)
        if column is not None:
            raise BenchError(
                f"column {column!r} would be that of texts in a table, and this trial takes "
                f"{self.preprocessing.kind}s; leave it out"
            )
        if self.preprocessing.kind == "vector":
            raise BenchError("only networks that take images or texts read files; give it vectors")
        return samples_of(what, self.preprocessing.form)

    def stream(self, samples: Iterable[Sample]) -> Iterator[Predicted]:
        """Each sample in its order, in constant memory: files are read ahead in threads."""
        told: deque[list[Predicted]] = deque()
        for logits in self._logits(self._batches(samples, told)):
            rows = iter(self.outputs.of_logits(logits))
            for each in told.popleft():
                yield each if each.failure else _answered(each, next(rows))
        for rest in told:
            yield from rest

    def _batches(self, samples: Iterable[Sample], told: deque[list[Predicted]]) -> Iterator[Tensor]:
        """Full batches of what can be read; `told` gets what each one is of, and what cannot be."""
        size = evaluation_batch(self.device)
        stored: list[npt.NDArray[Any]] = []
        names: list[Predicted] = []
        for sample, found in self._read_ahead(samples):
            known = Predicted(name=sample.name, probabilities=None, folder=sample.folder)
            if isinstance(found, DecodeFailure):
                names.append(replace(known, failure=found.reason))
                continue
            names.append(replace(known, note=found.note, text=found.text, cut=found.cut))
            stored.append(found.stored)
            if len(stored) == size:
                told.append(names)
                yield self._batch(np.stack(stored))
                stored, names = [], []
        if names:
            told.append(names)
        if stored:
            yield self._batch(np.stack(stored))

    def _batch(self, stored: npt.NDArray[Any]) -> Tensor:
        return (
            torch.from_numpy(stored)
            if self.preprocessing.kind == "text"
            else self._normalised(stored)
        )

    def _read_ahead(
        self, samples: Iterable[Sample]
    ) -> Iterator[tuple[Sample, _Prepared | DecodeFailure]]:
        """As they are kept; a few at most wait in memory."""

        def read(sample: Sample) -> _Prepared | DecodeFailure:
            try:
                return self._prepared(sample.read(self.preprocessing.form))
            except MemoryError:
                return DecodeFailure("there is not enough memory for it")

        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            ahead: deque[tuple[Sample, Future[_Prepared | DecodeFailure]]] = deque()
            for sample in samples:
                ahead.append((sample, pool.submit(read, sample)))
                if len(ahead) > 4 * workers:
                    first, future = ahead.popleft()
                    yield first, future.result()
            while ahead:
                first, future = ahead.popleft()
                yield first, future.result()

    def _prepared(self, decoded: Decoded | str) -> _Prepared | DecodeFailure:
        if isinstance(decoded, DecodeFailure):
            return decoded
        if isinstance(decoded, str):
            found = self.tokens([decoded])
            return _Prepared(stored=found.ids[0], text=decoded, cut=bool(found.cut[0]))
        if isinstance(decoded, Converted):
            return _Prepared(stored=self.prepared(decoded.pixels), note=decoded.note)
        return _Prepared(stored=self.prepared(decoded))

    def _normalised(self, stored: Pixels) -> Tensor:
        inputs = ImageInputs(
            stored, _CENTRAL, self.preprocessing, seed=0, device=self.device, resident_bytes=0
        )
        return inputs.batch(np.arange(len(stored)), 0)

    def _check(self, samples: Samples) -> None:
        if self.preprocessing.kind == "text":
            return  # each is checked when it is its turn
        if self.preprocessing.kind == "vector":
            shape = np.shape(samples)
            if len(shape) != 2 or shape[1] != self.preprocessing.size:
                wanted = f"[n, {self.preprocessing.size}]"
                raise BenchError(f"vectors must have the shape {wanted}, got {list(shape)}")
            return
        for pixels in samples:
            check_array(pixels, self.preprocessing.form)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Prepared:
    """A sample as it is kept, and what is told of it: see `Predicted`."""

    stored: npt.NDArray[Any]
    note: str | None = None
    text: str | None = None
    cut: bool = False


def _reason(error: Exception) -> str:
    return bounded(str(error).partition("\n")[0], 200) or type(error).__name__


def _checked_text(given: Any) -> str:
    """A text as data sets keep it; raises `BenchError` for what is none."""
    if not isinstance(given, str):
        raise BenchError(f"a text must be a str, got {type(given).__name__}")
    found = as_text(given)
    if isinstance(found, DecodeFailure):
        raise BenchError(f"a text cannot be classified: {found.reason}")
    return found


def _answered(each: Predicted, probabilities: Probabilities) -> Predicted:
    """With its probabilities, unless a network of damaged values has none."""
    if not np.isfinite(probabilities).all():
        return replace(each, failure=NO_NUMBERS)
    return replace(each, probabilities=probabilities)


_CENTRAL = Entry(name="none", options={"mix": None})
