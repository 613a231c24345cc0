"""The head of a plan that fits one: features of the frozen backbone, candidates, what validation
chooses among them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from bench.data import Samples
from bench.errors import DataError
from bench.keys import derive_seed
from bench.methods.metrics import ACCURACY, metric
from bench.models.evaluation import evaluation_batch
from bench.models.fitted_head import Columns, FittedHead, linear_of_rows, ngram_tensors
from bench.models.text.ngrams import NGrams, Vocabulary, chosen_for, texts_of
from bench.training import fits
from bench.training.fits import FITS, Candidate, prepare
from bench.training.state import Scores
from bench.training.trial import EpochInputs, Training, forward, score, start_of


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A head: `tensors` by the library's names, what was `chosen`, and how long all of it took.

    `train` are the scores of the training split, behind an epoch.
    """

    tensors: Mapping[str, Tensor]
    chosen: Mapping[str, float]
    train: Scores | None
    seconds: float


def fit_head(training: Training, *, epoch: int | None = None) -> Fitted:
    """Fit the head of the training's plan; the network gives features meanwhile, and afterwards.

    That are those of the network as it stands behind `epoch`; None: as it starts. Raises
    `DataError` where validation has to choose and there is none.
    """
    fit, own = training.plan.fit, training.network.fitted_head
    assert fit is not None, "the plan fits no head"
    assert own is not None, "the network has another head"
    prepare(fit)
    started = time.perf_counter()
    own[1].hold({})
    train = training.splits.train
    weights = training.sample_weights
    features, vocabulary = _features(training, train, epoch), None
    if own[1].ngrams is not None:
        texts = texts_of(features.numpy())
        vocabulary = _vocabulary(own[1].ngrams, texts)
        features = vocabulary.weighted(texts)
    samples = fits.Samples(
        features=features,
        targets=training.targets[train],
        outputs=len(training.data.classes),
        task=training.target_task,
        weights=None if weights is None else _of_mean_one(weights[train]),
        seed=derive_seed(training.settings.seed, fit.name) % 2**32,
        parts=tuple(_part(columns, own[1].features) for columns in own[1].columns),
    )
    with threadpool_limits(1):  # no number depends on how many there are
        candidates = list(FITS[fit.name](samples, **dict(fit.options)))
    several = len(candidates) > 1
    chosen = _best(training, candidates, fit.name, epoch, vocabulary) if several else candidates[0]
    read = {} if vocabulary is None else ngram_tensors(vocabulary)
    prefix, _ = own
    return Fitted(
        tensors={f"{prefix}{name}": each for name, each in {**read, **chosen.tensors}.items()},
        chosen=chosen.chosen,
        train=None if epoch is None else _train_scores(training, samples, chosen),
        seconds=time.perf_counter() - started,
    )


def _part(columns: Columns, features: int) -> fits.Part:
    """Some columns of so many features."""
    average = {} if columns.average is None else {"average": float(columns.average)}
    pieces = [np.arange(start, features if end is None else end) for start, end in columns.pieces]
    return fits.Part(chosen={"blocks": columns.blocks, **average}, columns=np.concatenate(pieces))


def _train_scores(training: Training, samples: fits.Samples, candidate: Candidate) -> Scores:
    """What is recorded of the training split with the candidate's head."""
    head = FittedHead(samples.features.shape[1], samples.outputs)
    head.hold(candidate.tensors)
    found = score(training, head(samples.features), training.splits.train)
    return Scores(loss=found.loss, metrics={ACCURACY: found.metrics[ACCURACY]})


def _vocabulary(ngrams: NGrams, texts: list[str]) -> Vocabulary:
    """Raises `DataError` where the training texts have no n-grams."""
    try:
        return Vocabulary.of(chosen_for(ngrams, texts), texts)
    except ValueError as error:
        raise DataError(
            f"{error}: the texts are empty, or too short for these n-grams; use a backbone such as "
            "tfidf/characters"
        ) from error


def _best(
    training: Training,
    candidates: list[Candidate],
    name: str,
    epoch: int | None,
    vocabulary: Vocabulary | None,
) -> Candidate:
    """By the suite's metric on validation; of equals the first, which is the most regularised."""
    val = training.splits.val
    if not val.size:
        options = ", ".join(candidates[0].chosen)
        raise DataError(
            f"strategy {name!r} chooses {options} on validation, and there is no validation split: "
            f"give the strategy a value of {options}, or the data set a val_fraction above 0"
        )
    features = _features(training, val, epoch)
    rows = None if vocabulary is None else vocabulary.weighted(texts_of(features.numpy()))
    head = FittedHead(features.shape[1], len(training.data.classes))
    primary = training.settings.metric
    merit = metric(primary).merit
    merits = []
    for candidate in candidates:
        if rows is None:
            head.hold(candidate.tensors)
            logits = head(features)
        else:
            logits = linear_of_rows(candidate.tensors, rows)
        found = merit(score(training, logits, val).metrics[primary])
        merits.append(-math.inf if math.isnan(found) else found)
    return candidates[int(np.argmax(merits))]


def _features(training: Training, samples: Samples, epoch: int | None) -> Tensor:
    """What flows into the classifier `[n, features]`, in fp32 on the CPU; kept as in training."""
    training.network.eval()
    boundary, pristine = start_of(training, epoch)
    inputs = EpochInputs(
        training, boundary, training.central, epoch or 0, among=samples, pristine=pristine
    )
    size = evaluation_batch(training.device)
    with torch.no_grad():
        pieces = [
            forward(training, inputs.of(samples[at : at + size]), start=boundary)[0].cpu()
            for at in range(0, len(samples), size)
        ]
    return torch.cat(pieces)


def _of_mean_one(weights: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    wide = weights.double().numpy()
    return np.asarray(wide / wide.mean())
