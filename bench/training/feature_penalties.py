"""Penalties that look at what a network makes of samples, and what they compare that with.

Where a stage trains nothing in front of the head they have no effect, and nothing is computed.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.data import Samples
from bench.keys import derive_seed
from bench.methods.alignment import reversal_strength, reversed_gradient
from bench.methods.objectives import Share
from bench.methods.penalties import (
    PENALTIES,
    Judged,
    StartLayer,
    adversarial_epochs,
    feature_terms,
)
from bench.methods.plan import DISCRIMINATOR, HEAD, Term
from bench.models import Network
from bench.models.companions import is_companion
from bench.models.evaluation import evaluation_batch, one_thread
from bench.models.feature_layers import channels_second, feature_layers, outputs_of
from bench.models.source_head import source_logits
from bench.training.trial import References, Step, Training, epoch_edges, weighted_targets

PROBED, LEAST_PROBED = 1024, 64
"""Which channels matter is found out on at most so many training samples, divided by the outputs,
as each takes a pass; but not on fewer than the least."""
PROBE_STEPS = 100
"""Of L-BFGS: a linear classifier on standardised features is as good as fitted then."""


def held_layers(training: Training) -> dict[str, nn.Module] | None:
    """The layers whose outputs the coming steps hold; None where they have no penalty of features.

    What trains must have been decided. What they are compared with is made when it is first needed.
    """
    terms = feature_terms(training.plan)
    if not terms or not _trains_trunk(training.network):
        return None
    if training.references is None:
        training.references = _references(training, terms)
    needs = {PENALTIES.get(term.name).traits.needs for term in terms}
    return feature_layers(training.network) if "layers" in needs else {}


def _trains_trunk(network: Network) -> bool:
    return any(
        parameter.requires_grad and network.group_of(name).name != HEAD and not is_companion(name)
        for name, parameter in network.model.named_parameters()
    )


class Outputs(NamedTuple):
    """What flows into the head of some samples, and the logits that it gives."""

    features: Tensor
    logits: Tensor


class Rows(NamedTuple):
    """Some rows of a batch as they have passed the network, and what they count.

    `activations` are what flowed in, `outputs` what layers and the trunk (`head`) gave, `dropout`
    is the key of their draws. With `share` they are a part of the batch, whose sum counts `times`.
    `logits` are theirs, and `target` is of samples without labels that have passed together with
    them, if any have.
    """

    activations: Tensor
    outputs: Mapping[str, Tensor]
    targets: Tensor
    dropout: tuple[int | str, ...]
    share: Share | None
    times: int
    logits: Tensor | None = None
    target: Outputs | None = None


def feature_penalty(training: Training, step: Step, rows: Rows) -> Tensor:
    """What the plan's penalties of features add to the loss of these rows."""
    added = []
    for term in feature_terms(training.plan):
        registered = PENALTIES.get(term.name)
        own, reference = _compared(training, step, rows, term)
        value = registered.function(own, reference, **dict(term.options))
        if registered.traits.over_samples == "sum":
            value = value * rows.times
        elif rows.share is not None:
            value = value * rows.share.rows
        added.append(value)
    return torch.stack(added).sum()


Compared = tuple[
    Tensor | dict[str, Tensor] | Judged,
    Tensor | dict[str, StartLayer] | Judged,
]


def _compared(training: Training, step: Step, rows: Rows, term: Term) -> Compared:
    """What a penalty takes, by what it needs."""
    needs = PENALTIES.get(term.name).traits.needs
    if needs == "features":
        return _pooled(rows.outputs[HEAD]), rows.targets
    if needs == "target_domains":
        return _judged(training, step, rows, term.name)
    if needs.startswith("target_"):
        assert rows.target is not None
        assert rows.logits is not None
        if needs == "target_logits":
            return rows.target.logits, rows.logits
        return _pooled(rows.target.features), _pooled(rows.outputs[HEAD])
    if needs == "layers":
        return _layers(training, step, rows)
    references = training.references
    assert references is not None
    assert references.relation is not None
    torch.manual_seed(derive_seed(*rows.dropout, HEAD))  # the masks of the new head
    logits = source_logits(training.network, rows.outputs[HEAD])
    classes, relation = rows.targets, references.relation
    return logits, relation[classes] if classes.ndim == 1 else classes @ relation


def _judged(training: Training, step: Step, rows: Rows, penalty: str) -> tuple[Judged, Judged]:
    """What the penalty's discriminator says of target and source, together in its batch norms."""
    assert rows.target is not None
    assert rows.logits is not None
    features = torch.cat([_pooled(rows.outputs[HEAD]), _pooled(rows.target.features)])
    logits = torch.cat([rows.logits, rows.target.logits])
    strength = reversal_strength(_progress(training, step))
    discriminator = training.network.model.get_submodule(f"{DISCRIMINATOR}.{penalty}")
    domains = discriminator(reversed_gradient(features, strength), logits)
    sources = len(rows.logits)
    return Judged(domains[sources:], logits[sources:]), Judged(domains[:sources], logits[:sources])


def _progress(training: Training, step: Step) -> float:
    """The share of its epochs that the reversed gradient has grown over; 1 after their end, where
    a test of learning rates may go on."""
    epochs = adversarial_epochs(training.plan)
    steps = len(epoch_edges(training.plan, training.settings, len(training.splits.train)))
    done = step.inputs.epoch - epochs.start + step.number / steps
    return min(done / len(epochs), 1.0)


def _layers(
    training: Training, step: Step, rows: Rows
) -> tuple[dict[str, Tensor], dict[str, StartLayer]]:
    references = training.references
    assert references is not None
    assert references.start is not None
    with torch.no_grad(), training.autocast(), outputs_of(references.layers) as before:
        references.start(rows.activations, start=step.inputs.boundary, stop=HEAD)
    own = {name: channels_second(rows.outputs[name].float()) for name in before}
    known = {name: channels_second(each.float()) for name, each in before.items()}
    weights = references.channel_weights
    return own, {
        name: StartLayer(each, weights.get(name, each.new_full(each.shape[1:2], 1 / each.shape[1])))
        for name, each in known.items()
    }


# What is compared with --------------------------------------------------------------------------


def _references(training: Training, terms: tuple[Term, ...]) -> References:
    """A pure function of seed, starting weights and training samples."""
    needs = {PENALTIES.get(term.name).traits.needs for term in terms}
    if not needs & {"layers", "source_head"}:
        return References()
    start = copy.deepcopy(training.network)
    assert training.start is not None
    start.load(training.start)
    start.eval().requires_grad_(False)
    relation = _relation(training, start) if "source_head" in needs else None
    if "layers" not in needs:
        return References(relation=relation)
    attends = any(
        dict(term.options).get("attention", True)
        for term in terms
        if PENALTIES.get(term.name).traits.needs == "layers"
    )
    weights = channel_weights(training, start) if attends else {}
    return References(
        start=start,
        layers=feature_layers(start),
        relation=relation,
        channel_weights=weights,
    )


def _relation(training: Training, start: Network) -> Tensor:
    """p(source class | class) `[classes, source classes]`: means over the training samples."""
    samples = training.splits.train
    found = []
    with torch.no_grad():
        for part in _parts(samples, evaluation_batch(training.device)):
            with training.autocast():
                features = start(training.central.batch(part, 0), stop=HEAD)
            found.append(source_logits(start, features.float()).cpu())
    probabilities = torch.cat(found).double().softmax(dim=1)
    labels = torch.from_numpy(training.data.labels[samples])
    classes = len(training.data.classes)
    sums = torch.zeros(classes, probabilities.shape[1], dtype=torch.float64)
    sums.index_add_(0, labels, probabilities)
    counts = torch.bincount(labels, minlength=classes)[:, None].clamp(min=1)
    return (sums / counts).float().to(training.device)


def channel_weights(training: Training, start: Network) -> dict[str, Tensor]:
    """How much each channel of a layer matters `[channels]`, by layer; they add up to 1.

    The softmax over channels of the rise of the loss when one is set to zero. The loss is the
    trial's own, of a linear classifier that is fitted to the frozen features of the same samples.
    What the other layers make of the missing channel is linearised, as a pass for each channel
    would take longer than the training; behind a last layer that is only averaged this is exact.
    """
    settings, outputs = training.settings, len(training.data.classes)
    draw = np.random.default_rng(derive_seed(settings.seed, "channel weights"))
    count = max(LEAST_PROBED, PROBED // outputs)
    samples = np.sort(draw.permutation(training.splits.train)[:count])
    parts = _parts(samples, settings.micro_batch or settings.batch_size)
    with torch.no_grad():
        pieces = [start(training.central.batch(part, 0), stop=HEAD).float() for part in parts]
    features = torch.cat([_pooled(piece) for piece in pieces])
    targets = weighted_targets(training, samples).to(training.device)
    weight, bias = _fitted(training, features, targets)
    losses: dict[str, Tensor] = {}
    at = 0
    for part in parts:
        rows = slice(at, at := at + len(part))
        logits, own = F.linear(features[rows], weight, bias), targets[rows]
        share = training.objective.share(own, targets)
        for name, shares in _shares(start, training.central.batch(part, 0), weight).items():
            without = (training.objective.loss(logits - each, own, share) for each in shares)
            found = torch.stack(list(without))
            losses[name] = losses[name] + found if name in losses else found
    return {name: found.softmax(dim=0) for name, found in losses.items()}


def _shares(start: Network, images: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """How much of the logits comes from each channel of a layer `[channels, n, outputs]`.

    Σ f · ∂logit/∂f over the positions, by layer.
    """
    start.requires_grad_(True)
    with torch.enable_grad(), outputs_of(feature_layers(start)) as outputs:
        logits = F.linear(_pooled(start(images, stop=HEAD)), weight)
    shares: dict[str, list[Tensor]] = {name: [] for name in outputs}
    for number in range(logits.shape[1]):
        gradients = torch.autograd.grad(
            logits[:, number].sum(), list(outputs.values()), retain_graph=True, allow_unused=True
        )
        for (name, each), gradient in zip(outputs.items(), gradients, strict=True):
            slope = torch.zeros_like(each) if gradient is None else gradient
            shares[name].append(channels_second(slope * each.detach()).sum(dim=2).T)
    start.requires_grad_(False)
    return {name: torch.stack(own, dim=2) for name, own in shares.items()}


def _fitted(training: Training, features: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the linear classifier; its weights are small on standardised features."""
    mean, deviation = features.mean(dim=0), features.std(dim=0, correction=0) + 1e-5
    scaled = (features - mean) / deviation
    outputs = len(training.data.classes)
    weight = features.new_zeros(outputs, features.shape[1]).requires_grad_()
    bias = features.new_zeros(outputs).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=PROBE_STEPS, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        decay = weight.square().sum() / (2 * len(features))
        loss = training.objective.loss(F.linear(scaled, weight, bias), targets) + decay
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with one_thread():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    of_features = weight.detach() / deviation
    return of_features, bias.detach() - of_features @ mean


def _parts(samples: Samples, size: int) -> list[Samples]:
    return np.split(samples, range(size, len(samples), size))


def _pooled(features: Tensor) -> Tensor:
    """One vector a sample `[n, features]`: maps by their means."""
    return features.flatten(2).mean(dim=2) if features.ndim > 2 else features
