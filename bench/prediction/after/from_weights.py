"""Children that need networks: soups, WiSE-FT, views of test images, statistics of target data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from bench.data.inputs import Preprocessing
from bench.data.splits import Samples
from bench.data.target_data import SAY_WITHOUT_LABELS
from bench.methods.after import PROBE, Interpolation, Soup, TargetStatistics, Views
from bench.methods.plan import FITTED
from bench.models.adapters import merge
from bench.models.averaging import (
    State,
    averaged,
    batch_norms,
    moved_norms,
    recompute_statistics,
)
from bench.models.checkpoints import ModelSpec
from bench.models.evaluation import EVALUATION_BATCH, Evaluation
from bench.models.fitted_head import linear_of
from bench.models.heads import ZERO_SHOT_HEAD
from bench.models.network import Network
from bench.prediction.after.finished import (
    OF_INPUTS,
    CannotBeError,
    Finished,
    Made,
    Planned,
    TrialData,
    of_val,
    refused,
)
from bench.prediction.combine import Probabilities, mean_of
from bench.prediction.model import TrainedModel
from bench.results.analysis.predicted import Predicted
from bench.results.grid import is_missing
from bench.suite import Entry

if TYPE_CHECKING:
    import pandas as pd

ALIKE = ("backbone", "weights", "head", *OF_INPUTS, "seed")
"""Columns in which trials agree that start from the same values."""
_BUT_HEAD = [name for name in ALIKE if name != "head"]

Batches = Callable[[Samples], Iterable[Tensor]]


def children_of_weights(
    recipe: Soup | Interpolation | Views | TargetStatistics, name: str, finished: Finished
) -> Iterator[Planned]:
    """The children of one entry, in the order of trials."""
    match recipe:
        case Soup():
            yield from _soups(recipe, name, finished)
        case Interpolation():
            yield from _interpolations(recipe, name, finished)
        case Views():
            for trial, planned in _of_reported(name, finished):
                yield replace(planned, make=partial(_viewed, recipe, finished, trial))
        case TargetStatistics():
            for trial, planned in _of_reported(name, finished):
                yield replace(planned, make=partial(_normalised_anew, finished, trial))


def _of_reported(name: str, finished: Finished) -> Iterator[tuple[str, Planned]]:
    """A child of each trial of the configs that are reported, still without what makes it."""
    for choice in finished.reported:
        for seed, trial in finished.of_config(choice.config).items():
            yield (
                trial,
                Planned(
                    name=name,
                    of=finished.grid.labels[choice.config],
                    config=choice.config,
                    seed=seed,
                    candidates=(trial,),
                    base=trial,
                    make=_nothing,
                ),
            )


def _nothing() -> Made:
    raise AssertionError("a plan that nothing was put into")


# Soups ------------------------------------------------------------------------------------------


def _soups(recipe: Soup, name: str, finished: Finished) -> Iterator[Planned]:
    """One of each seed's trials that start from the same values; what is fitted has no start."""
    trained = finished.trials[finished.trials["head"] != FITTED]
    groups = trained.groupby(list(ALIKE), sort=False, dropna=False)
    found = [own for _, own in groups if len(own) > 1]
    for own in found:
        trials = tuple(map(str, own["trial"]))
        first = own.iloc[0]
        labels = [str(first[axis]) for axis in ALIKE[:3]]
        length, side = first["max_length"], first["image_size"]
        size = f"{side:.0f} px" if is_missing(length) else f"{length:.0f} tokens"
        vals = own[finished.run.metric.val].astype(float) * finished.run.metric.sign
        best = trials[int(np.argmax(vals.fillna(-np.inf).to_numpy()))]
        yield Planned(
            name=name,
            of=f"trials of {' · '.join(labels)} · {size}",
            seed=int(first["seed"]),
            candidates=trials,
            base=best,
            make=partial(_soup, recipe, finished, trials),
        )
    if not found:
        yield Planned(
            name=name,
            of="trials of a seed",
            seed=None,
            candidates=(),
            make=partial(refused, "no two trials of a seed start from the same values"),
        )


def _soup(recipe: Soup, finished: Finished, trials: Sequence[str]) -> Made:
    if not recipe.greedy:
        return _Kitchen(finished, trials).made(trials, [1.0] * len(trials))
    merits = {trial: _merit(finished, finished.val(trial)) for trial in trials}
    order = sorted(trials, key=lambda trial: -merits[trial])  # equals stay in order
    kitchen = _Kitchen(finished, order)
    members, best = order[:1], merits[order[0]]
    for trial in order[1:]:
        merit = _merit(finished, kitchen.val([*members, trial], [1.0] * (len(members) + 1)))
        if merit > best:
            members, best = [*members, trial], merit
    return kitchen.made(members, [1.0] * len(members))


def _merit(finished: Finished, predicted: Predicted) -> float:
    return finished.merit(predicted.labels, predicted.probabilities)


class _Kitchen:
    """Trials whose weights are joined: they must have started from the same values.

    With `at_texts` the last one is the zero-shot classifier that the others started at, as the
    linear layer that gives its logits.
    """

    def __init__(
        self, finished: Finished, trials: Sequence[str], *, at_texts: bool = False
    ) -> None:
        self._finished = finished
        self._models = {trial: finished.open(trial) for trial in trials}
        for model in self._models.values():
            merge(model.network.model)  # factors of a product have no mean that means anything
        self._states: dict[str, State] = {
            trial: {name: each.detach().cpu().clone() for name, each in _state(model).items()}
            for trial, model in self._models.items()
        }
        first, *others = (
            _kin(model, self._states[trial], with_head=not at_texts)
            for trial, model in self._models.items()
        )
        if any(other != first for other in others):
            raise CannotBeError(
                "its trials do not start from the same values, or have different inputs"
            )
        self._data = finished.data(trials[0])
        self._network = self._models[trials[0]].network
        self._joined: list[tuple[str, float]] = []

    def val(self, members: Sequence[str], weights: Sequence[float]) -> Predicted:
        """What the joined network predicts of the validation split."""
        stored = self._finished.val(members[0])
        return stored.having(self._predict(members, weights, stored.samples))

    def made(self, members: Sequence[str], weights: Sequence[float], **chosen: float) -> Made:
        """The joined network as a child."""
        test = self._finished.test(members[0])
        used = [trial for trial, weight in zip(members, weights, strict=True) if weight]
        return Made(
            val=of_val(lambda: self.val(members, weights)),
            test=test.having(self._predict(members, weights, test.samples)),
            members=dict.fromkeys(used, 1),
            passes=1,
            chosen=chosen,
        )

    def _predict(
        self, members: Sequence[str], weights: Sequence[float], samples: Sequence[str]
    ) -> Probabilities:
        used = {trial: weight for trial, weight in zip(members, weights, strict=True) if weight}
        model = self._models[next(iter(used))]
        self._join(used)
        plain = _plain(self._data, model)
        # One trial is evaluated as it was, what is joined as a network that trained as a whole.
        boundary = model.spec.boundary if len(used) == 1 else None
        return _probabilities(self._network, model, plain(_places(self._data, samples)), boundary)

    def _join(self, used: Mapping[str, float]) -> None:
        """Give the network the mean of these weights, if it has not got it already."""
        if self._joined == [*used.items()]:
            return
        states = [self._states[trial] for trial in used]
        self._network.load(averaged(states, [*used.values()]))
        moved = moved_norms(states)
        if moved:
            recompute_statistics(self._network, self._training_batches(), moved)
        self._joined = [*used.items()]

    def _training_batches(self) -> Iterator[Tensor]:
        plain = _plain(self._data, next(iter(self._models.values())))
        return _even_batches(plain, self._data.splits.train)


def _state(model: TrainedModel) -> State:
    """The tensors of a network, with a linear layer in the place of directions of texts."""
    state: State = dict(model.network.model.state_dict())
    if model.network.fitted_head is None:
        return state
    prefix, head = model.network.fitted_head
    held = head.held()
    if held.keys() != {"directions"}:
        return state
    rest = {name: own for name, own in state.items() if not name.startswith(prefix)}
    return {**rest, **{f"{prefix}{name}": own for name, own in linear_of(held).items()}}


def _kin(model: TrainedModel, held: State, *, with_head: bool) -> tuple[Any, ...]:
    """What networks share that start from the same values and see the same inputs."""
    spec: ModelSpec = model.spec
    head = (spec.head, dict(spec.head_options)) if with_head else None
    options = json.dumps(head, sort_keys=True, default=str)
    names = (
        "backbone", "num_classes", "weights", "start", "seed", "image_size", "task",
        "standardised", "described",
    )  # fmt: skip
    own = tuple(getattr(spec, name) for name in names)
    tensors = frozenset((name, tensor.shape) for name, tensor in held.items())
    return (*own, options, spec.weights_classes, model.preprocessing, tensors)


# WiSE-FT ----------------------------------------------------------------------------------------


def _interpolations(recipe: Interpolation, name: str, finished: Finished) -> Iterator[Planned]:
    """Between the start of each trial that is reported, and the trial.

    That is the zero-shot classifier where its head started there, if the suite has that, else the
    probe of the seed that starts alike.
    """
    trials = finished.trials.set_index("trial", drop=False)
    probes = trials[trials["strategy"].str.partition("(")[0] == PROBE]
    vals = probes[finished.run.metric.val].astype(float) * finished.run.metric.sign
    probes = probes.loc[vals.sort_values(ascending=False, kind="stable").index]
    for trial, planned in _of_reported(name, finished):
        zero = _zero_shot_of(trials, trial)
        if zero is not None:
            make = partial(_interpolated, recipe, finished, zero, trial, at_texts=True)
            yield replace(planned, candidates=(zero, trial), make=make)
            continue
        if trial in probes.index:
            continue
        fitting = probes[_alike(trials, trial, probes, ALIKE)]
        if fitting.empty:
            reason = (
                f"the suite has no complete {PROBE} of this seed with the same backbone, weights "
                "and head, so there is no trained head to start from"
            )
            yield replace(planned, make=partial(refused, reason))
            continue
        probe = str(fitting["trial"].iloc[0])
        yield replace(
            planned,
            candidates=(probe, trial),
            make=partial(_interpolated, recipe, finished, probe, trial),
        )


def _alike(
    trials: pd.DataFrame, trial: str, among: pd.DataFrame, names: Sequence[str]
) -> pd.Series:
    """Which rows agree with those of `trial`; what a kind of samples lacks is alike too."""
    own, those = trials.loc[trial, list(names)], among[list(names)]
    return ((those == own) | (those.isna() & own.isna())).all(axis=1)


def _zero_shot_of(trials: pd.DataFrame, trial: str) -> str | None:
    """The zero-shot classifier at which the head of a trial started: of the same words."""
    head = str(trials.loc[trial, "head"])
    if head.partition("(")[0] != ZERO_SHOT_HEAD:
        return None
    alike = _alike(trials, trial, trials, _BUT_HEAD)
    found = trials[alike & (trials["strategy"] == head)]  # their labels have the same options
    return None if found.empty else str(found["trial"].iloc[0])


def _interpolated(
    recipe: Interpolation, finished: Finished, probe: str, trial: str, *, at_texts: bool = False
) -> Made:
    kitchen = _Kitchen(finished, (trial, probe) if at_texts else (probe, trial), at_texts=at_texts)

    def merit(alpha: float) -> tuple[float, float]:
        val = kitchen.val((probe, trial), (1 - alpha, alpha))
        return _merit(finished, val), -finished.loss(val.labels, val.probabilities)

    merits = {alpha: merit(alpha) for alpha in recipe.alphas}
    alpha = max(recipe.alphas, key=lambda each: merits[each])
    return kitchen.made((probe, trial), (1 - alpha, alpha), alpha=alpha)


# Views ------------------------------------------------------------------------------------------


def _viewed(recipe: Views, finished: Finished, trial: str) -> Made:
    model, data = finished.open(trial), finished.data(trial)
    views = _views(recipe, data, model)

    def predicted(stored: Predicted) -> Predicted:
        places = _places(data, stored.samples)
        # The plain view is evaluated as it was.
        first = [_probabilities(model.network, model, views[0](places), model.spec.boundary)]
        others = [_probabilities(model.network, model, view(places), None) for view in views[1:]]
        return stored.having(mean_of([*first, *others]))

    val = of_val(lambda: predicted(finished.val(trial)))
    test = predicted(finished.test(trial))
    return Made(val=val, test=test, members={trial: 1}, passes=len(views), chosen={})


def _views(recipe: Views, data: TrialData, model: TrainedModel) -> list[Batches]:
    """The plain view and those beside it."""
    if (kind := model.preprocessing.kind) != "image":
        raise CannotBeError(f"its samples are {kind}s, which have one view only")
    plain = _plain(data, model)
    if recipe.kind == "random":
        keyed = Entry(name="flip_crop", options={"mix": None, "min_scale": 0.7})
        preprocessing, seed = model.preprocessing, model.spec.seed
        numbers = range(1, recipe.count)
        return [plain, *(_of(data, preprocessing, keyed, seed=seed, epoch=n) for n in numbers)]
    if recipe.kind == "flip":
        return [plain, lambda samples: (batch.flip(-1) for batch in plain(samples))]
    side, size = model.preprocessing.resized_to, model.preprocessing.size
    if side is None or side <= size:
        raise CannotBeError(
            f"its images are stored with {size} × {size} pixels, which is all that the network "
            "sees: corners need `resize: crop`"
        )
    whole = replace(model.preprocessing, size=side)
    stored = _of(data, whole, Entry(name="none"), seed=0)
    rest = side - size
    corners = [(y, x) for y in (0, rest) for x in (0, rest)]

    def corner(y: int, x: int, samples: Samples) -> Iterable[Tensor]:
        return (batch[..., y : y + size, x : x + size] for batch in stored(samples))

    return [plain, *(partial(corner, y, x) for y, x in corners)]


# Statistics of target data ----------------------------------------------------------------------


def _normalised_anew(finished: Finished, trial: str) -> Made:
    """The trial with batch norms that have seen unlabelled target data alone, each batch alike."""
    data, model = finished.data(trial), finished.open(trial)
    unlabelled, norms = data.splits.unlabelled, batch_norms(model.network)
    if len(unlabelled) < 2:
        raise CannotBeError(
            "it takes statistics of target data without labels, and there are none: "
            f"{SAY_WITHOUT_LABELS}"
        )
    if not norms:
        raise CannotBeError("it changes statistics of batch norms, and its network has none")
    plain = _plain(data, model)
    recompute_statistics(model.network, _even_batches(plain, unlabelled), norms)

    def predicted(stored: Predicted) -> Predicted:
        batches = plain(_places(data, stored.samples))
        return stored.having(_probabilities(model.network, model, batches, None))

    return Made(
        val=of_val(lambda: predicted(finished.val(trial))),
        test=predicted(finished.test(trial)),
        members={trial: 1},
        passes=1,
        chosen={},
    )


def _even_batches(batches: Batches, samples: Samples) -> Iterator[Tensor]:
    """All samples, in batches of about one size."""
    for part in np.array_split(samples, -(-len(samples) // EVALUATION_BATCH)):
        yield from batches(part)


def _plain(data: TrialData, model: TrainedModel) -> Batches:
    """The view without variation, as evaluation sees it."""
    return _of(data, model.preprocessing, Entry(name="none"), seed=0)


def _of(
    data: TrialData, preprocessing: Preprocessing, augmentation: Entry, *, seed: int, epoch: int = 0
) -> Batches:
    """Batches of an augmentation's views; those of an epoch are drawn with a key of their own."""
    cpu = torch.device("cpu")
    inputs = data.data.inputs(augmentation, preprocessing, seed=seed, device=cpu)

    def batches(samples: Samples) -> Iterator[Tensor]:
        edges = range(EVALUATION_BATCH, len(samples), EVALUATION_BATCH)
        return (inputs.batch(part, epoch) for part in np.split(samples, edges) if len(part))

    return batches


def _places(data: TrialData, samples: Sequence[str]) -> Samples:
    index = {name: place for place, name in enumerate(data.data.sample_ids)}
    return np.array([index[name] for name in samples], dtype=np.int64)


def _probabilities(
    network: Network, model: TrainedModel, batches: Iterable[Tensor], boundary: str | None
) -> Probabilities:
    """What a network predicts, as a trial keeps it: of logits in single precision."""
    logits = Evaluation(
        network,
        boundary=boundary,
        precision=model.spec.precision,
        threads=model.spec.threads,
        parallel_batches=model.parallel_batches,
    )(batches)
    return model.outputs.of_logits(torch.cat(list(logits))).astype(np.float64)
