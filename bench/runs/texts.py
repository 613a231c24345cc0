"""What a finished run keeps of its test texts: lengths, and the texts that are predicted worst."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bench.data import PreparedData
from bench.data.text.prepared import TextData
from bench.data.text.tokens import row_lengths
from bench.errors import BenchError
from bench.prediction import Chosen, chosen_trial
from bench.prediction.load import open_trial
from bench.results.analysis import Mistake, confident_mistakes
from bench.results.folder import Run
from bench.results.folder.texts import (
    MAX_TEXT,
    MAX_WORD,
    LeftOut,
    ShownText,
    TestTexts,
    beginning,
    write_texts,
)

if TYPE_CHECKING:
    from bench.prediction.model import TrainedModel

SHOWN = 10
"""Texts that are shown."""
MOST_PARTS = 32
"""So many parts of a text are left out, each once; of longer texts a part is of several words."""
NAMED = 4
"""Parts that are told of each text."""

_WORD = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
    r"|(?:(?![\u3040-\u30ff\u3400-\u9fff])[\w'’-])+"
)
"""A word; of scripts that put no space between words, a character."""


def keep_test_texts(run: Run, data: PreparedData, *, device: str) -> None:
    """Write what the report shows of test texts, as the trial to use sees them.

    Words are left out one by one where the trial's checkpoint is there, and classes are predicted.
    """
    if not isinstance(data, TextData):
        return
    try:
        chosen = chosen_trial(run)
    except BenchError:  # no trial is complete
        return
    own = run.judged[run.judged["trial"] == chosen.id]
    place = {sample: at for at, sample in enumerate(data.sample_ids)}
    samples = [sample for sample in own["sample"] if sample in place]
    texts = [data.texts[place[sample]] for sample in samples]
    model = _model(run, chosen, device)
    if model is None:
        ids = data.tokens[[place[sample] for sample in samples]]
        cut = np.zeros(len(samples), np.bool_)
    else:
        found = model.tokens(texts)
        ids, cut = found.ids, found.cut
    mistakes: Sequence[Mistake] = ()
    if run.target_task == "classification":
        mistakes = confident_mistakes(run.judged, [chosen.id], count=SHOWN)
    write_texts(
        run.folder,
        TestTexts(
            trial=chosen.id,
            most=int(ids.shape[1]),
            tokens=dict(zip(samples, row_lengths(ids).tolist(), strict=True)),
            cut=tuple(sample for sample, own in zip(samples, cut, strict=True) if own),
            shown=tuple(
                _shown(each, data.texts[place[each.sample]], model)
                for each in mistakes
                if each.sample in place
            ),
        ),
    )


def _model(run: Run, chosen: Chosen, device: str) -> TrainedModel | None:
    try:
        return open_trial(run, chosen, device=device)
    except BenchError:  # checkpoints were not asked for, or are of a plugin that is gone
        return None


def _shown(mistake: Mistake, text: str, model: TrainedModel | None) -> ShownText:
    parts = () if model is None else tuple(_left_out(model, text, mistake.predicted))
    return ShownText(sample=mistake.sample, text=beginning(text, MAX_TEXT), parts=parts)


def _left_out(model: TrainedModel, text: str, predicted: str) -> Iterator[LeftOut]:
    """The parts without which the probability of the class changes most."""
    spans = list(parts_of(text))
    if len(spans) < 2 or predicted not in model.classes:
        return
    variants = [text, *(text[:start] + text[end:] for start, end in spans)]
    column = model.classes.index(predicted)
    found: npt.NDArray[np.float32] = model.probabilities(variants)[:, column]
    falls = found[0] - found[1:]
    for at in np.argsort(-np.abs(falls), kind="stable")[:NAMED]:
        start, end = spans[at]
        yield LeftOut(part=beginning(text[start:end], MAX_WORD), falls=float(falls[at]))


def parts_of(text: str) -> Iterator[tuple[int, int]]:
    """Where the words of a text begin and end, or groups of them: `MOST_PARTS` at most."""
    words = [match.span() for match in _WORD.finditer(text)]
    size = -(-len(words) // MOST_PARTS)
    for at in range(0, len(words), size or 1):
        own = words[at : at + size]
        yield own[0][0], own[-1][1]
