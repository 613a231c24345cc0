"""Epoch keys name a trial's state after each epoch. Equal keys mean equal state, bit by bit.

A key hashes the key before it and everything that the epoch uses, as it resolves: the rate of each
parameter at each step and not the text of a rule, so that `lp_ft` shares its first stage with
`linear_probe`. What is left out is listed, with the reason; everything else is hashed, also a field
that is added one day. A forgotten field costs sharing, and never makes different trainings one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache
from typing import Any

from pydantic import BaseModel

from bench.data import Splits, samples_digest
from bench.execution.origins import of_inputs, of_training, of_views
from bench.keys import content_hash, known_digest
from bench.methods.penalties import (
    adversarial_epochs,
    aligns,
    discriminators,
    needs_source_head,
)
from bench.methods.plan import Plan, Rule, Stage, Term
from bench.methods.schedules import SCHEDULES, Progress, lr_factor
from bench.models import Outline, Weights, learns, outline
from bench.suite import ADDED_LATER, Entry, Settings, Trial
from bench.suite.registry import remembered
from bench.system.machine import arithmetic, installed_versions
from bench.training.trial import NUMERICS_VERSION, epoch_edges

LIBRARIES = ("transformers", "open_clip_torch", "tokenizers")
"""What builds networks that are described, and cuts texts."""

HASHED: Mapping[type, tuple[str, ...]] = {
    Settings: (
        "optimizer",
        "momentum",
        "nesterov",
        "weight_decay",
        "label_smoothing",
        "grad_clip_norm",
        "batch_size",
        "micro_batch",
        "devices_per_trial",
        "class_weights",
        "sampler",
        "task",
        "metric",  # a state keeps the tensors of the epoch that it has chosen
        "choose",
        "diagnose",  # a state keeps the scores of its epochs
    ),
    # The rates that are measured follow from the state before, the samples and this rule.
    Plan: ("objective", "penalties", "gradient_batches", "stoch_norm", "pairs"),
    Term: ("name", "options"),
    Stage: (),
    # Resolved for each parameter and norm layer.
    Rule: ("lr", "norm", "weight_decay", "vector_decay"),
    Entry: ("name", "options"),  # of an augmentation, and of a schedule that looks at losses
}
"""The fields that an epoch uses, by the class that has them."""

EXEMPT: Mapping[type, Mapping[str, str]] = {
    Settings: {
        "weights": "the start has the fingerprint of what they resolve to",
        "head": "part of the start",
        "lr": "the rate of each parameter at each step is hashed",
        "weight_decay_on": "the multipliers of each parameter's decay are hashed",
        "epochs": "says where the path ends; what a schedule makes of it is in the factors",
        "early_stopping": "says where the path ends",
        "shots": "the start has the samples of every split",
        "folds": "the start has the samples of every split",
        "image_size": "the start has the fingerprint of the prepared data",
        "max_length": "the start has the fingerprint of the prepared data",
        "pooling": "the start has what describes the network",
        "resize": "the start has the fingerprint of the prepared data",
        "precision": "part of the start, resolved",
        "threads": "part of the start",
        "seed": "part of the start",
    },
    Plan: {
        "stages": "the stage of each epoch is hashed as it resolves",
        "adapter": "part of the start",
        "fit": "part of the start",
    },
    Stage: {
        "epochs": "says how long the path stays in the stage",
        "rules": "what they make of each parameter and norm layer is hashed",
    },
    Rule: {"pattern": "which parameters it covers is resolved"},
    Term: {},
    Entry: {"given": "how the suite spells the options, which are all hashed"},
}
"""The fields that keys leave out, with the reason."""


@cache
def unlisted(of: type, kind: type) -> tuple[str, ...]:
    """The fields of the class `of`, a `kind` or derived from it, that stand in neither list."""
    if is_dataclass(of):
        names = [field.name for field in fields(of)]
    else:
        assert issubclass(of, BaseModel)
        names = list(of.model_fields)
    return tuple(name for name in names if name not in {*HASHED[kind], *EXEMPT[kind]})


def _left_over(item: Any, kind: type) -> dict[str, Any]:
    """The fields in neither list, as they stand."""
    return {name: _plain(getattr(item, name)) for name in unlisted(item.__class__, kind)}


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


# A trial's keys -------------------------------------------------------------------------------


def trunk_key(
    trial: Trial,
    weights: Weights,
    *,
    device: str,
    precision: str,
    fingerprint: str,
    plugins: Mapping[str, str],
    splits: Splits,
    adapter: Term | None = None,
) -> str:
    """What the output of a frozen group depends on, beside the view of the samples.

    `fingerprint` is that of the prepared data, `plugins` as `used_plugins` has them; an `adapter`
    changes what groups give. Where buffers depend on the training samples, so does the key.
    """
    return _key(_trunk(trial, weights, device, precision, fingerprint, plugins, splits, adapter))


def views_key(trial: Trial, *, fingerprint: str, plugins: Mapping[str, str]) -> str:
    """What the views of training images depend on, beside augmentation, seed, epoch and sample.

    They are made on the CPU, whatever trains; arguments as of `trunk_key`.
    """
    return _key(
        {
            "numerics": NUMERICS_VERSION,
            "arithmetic": arithmetic("cpu"),
            "threads": trial.settings.cpu_threads,
            "data": fingerprint,
            "code from outside": of_views(plugins),
        }
    )


def outline_of(trial: Trial, plan: Plan) -> Outline:
    """That of the trial's network, with all that its plan adds."""
    return outline(
        trial.backbone.name,
        trial.settings.head,
        plan.adapter,
        source_head=needs_source_head(plan),
        discriminators=discriminators(plan),
    )


def trial_keys(
    trial: Trial,
    plan: Plan,
    weights: Weights,
    *,
    device: str,
    precision: str,
    fingerprint: str,
    plugins: Mapping[str, str],
    splits: Splits,
    classes: Sequence[str],
    class_map: Mapping[str, Sequence[int | str]] | None,
) -> tuple[str, ...]:
    """The epoch keys of a trial; `fingerprint` is that of the prepared data."""
    settings = trial.settings
    start = {
        **_trunk(trial, weights, device, precision, fingerprint, plugins, splits, plan.adapter),
        **({} if plan.fit is None else {"fit": _used_fit(plan.fit, settings)}),
        "plugins": of_training(plugins),
        "seed": settings.seed,
        "head": settings.head.identity(),
        "classes": list(classes),
        "class_map": class_map if settings.head.name == "pretrained" else None,
        "splits": {
            name: samples_digest(part)
            for name, part in splits.named().items()
            # What trains nothing is the same with any number of training samples.
            if plan.epochs or plan.fit is not None or name != "train"
        },
        **({"unlabelled": samples_digest(splits.unlabelled)} if aligns(plan) else {}),
    }
    return epoch_keys(
        start,
        plan=plan,
        settings=settings,
        schedule=trial.schedule,
        augmentation=trial.augmentation,
        outline=outline_of(trial, plan),
        steps_per_epoch=len(epoch_edges(plan, settings, len(splits.train))),
    )


def _trunk(
    trial: Trial,
    weights: Weights,
    device: str,
    precision: str,
    fingerprint: str,
    plugins: Mapping[str, str],
    splits: Splits,
    adapter: Term | None,
) -> dict[str, Any]:
    settings = trial.settings
    return {
        **({"learned from": samples_digest(splits.train)} if learns(weights) else {}),
        **({} if adapter is None else {"adapter": _used_term(adapter)}),
        "numerics": NUMERICS_VERSION,
        "arithmetic": arithmetic(device),
        "precision": precision,
        "threads": settings.cpu_threads,
        "data": fingerprint,
        "backbone": trial.backbone.identity(),
        **({} if weights.described is None else _described(weights.described)),
        "weights": weights.fingerprint,
        # The recipe of weights that are made leaves their last bits open.
        "made": _made_digest(weights),
        # A trunk without weights is drawn from the seed.
        "drawn": settings.seed if weights.path is None else None,
        "normalisation": (weights.mean, weights.std),
        "code from outside": of_inputs(plugins),
    }


def _described(network: str) -> dict[str, Any]:
    """A network that is described by a text, and the versions of what may build it."""
    return {"described": network, "libraries": installed_versions(*LIBRARIES)}


def _made_digest(weights: Weights) -> str | None:
    """Of the file of weights that are made, once there is one."""
    path = weights.path if weights.name in ("fractals", "language") else None
    return known_digest(path) if path is not None and path.is_file() else None


# From epoch to epoch --------------------------------------------------------------------------


def epoch_keys(
    start: Mapping[str, Any],
    *,
    plan: Plan,
    settings: Settings,
    schedule: Entry,
    augmentation: Entry,
    outline: Outline,
    steps_per_epoch: int,
) -> tuple[str, ...]:
    """The keys of a trial's states, from the start (hashed from `start`) to the last epoch.

    `start` must name all that fixes the starting state, the splits, the seed, and the arithmetic.
    """
    keys = [_key(start)]
    fixed = {
        "settings": {**_used_settings(settings), **_left_over(settings, Settings)},
        "minimised": [_used_term(term) for term in (plan.objective, *plan.penalties)],
        **_given(plan, "stoch_norm"),
        **_given(plan, "pairs"),
        "plan": {**_given(plan, "gradient_batches"), **_left_over(plan, Plan)},
        "augmentation": _used_entry(augmentation),
    }
    tables = {stage: _table(outline, stage, settings.lr) for stage in dict.fromkeys(plan.stages)}
    factors = _factors_of(schedule, plan.epochs, steps_per_epoch)
    reversed_over = adversarial_epochs(plan)
    for epoch in range(plan.epochs):
        used = {**fixed, "rates": tables[plan.stage_at(epoch)], "factors": factors(epoch)}
        if epoch in reversed_over:
            used["reversal"] = [epoch - reversed_over.start, len(reversed_over)]
        keys.append(_key([keys[-1], used]))
    return tuple(keys)


def _given(plan: Plan, field: str) -> dict[str, Any]:
    """The field, where it is not None: keys from before it stay what they are."""
    value = getattr(plan, field)
    return {} if value is None else {field: value}


def _key(content: Any) -> str:
    return content_hash(content, digits=32)


def _used_settings(settings: Settings) -> dict[str, Any]:
    """The hashed settings but for those whose value means that they are not there."""
    return {
        name: _plain(getattr(settings, name))
        for name in HASHED[Settings]
        if getattr(settings, name) not in ADDED_LATER.get(name, ())
    }


def _used_entry(entry: Entry) -> dict[str, Any]:
    return {**entry.identity(), **_left_over(entry, Entry)}


def _used_fit(fit: Term, settings: Settings) -> list[Any]:
    """What a head that is fitted at once depends on, beside features and splits."""
    return [_used_term(fit), settings.task, settings.metric]


def _used_term(term: Term | None) -> list[Any] | None:
    return None if term is None else [term.name, term.options, _left_over(term, Term)]


@lru_cache(maxsize=4096)
def _table(outline: Outline, stage: Stage, lr: float) -> str:
    """What the stage does to every parameter (its LR before the schedule) and norm layer."""
    rates, norms, decays, others = [], [], [], []
    for address in outline.parameters:
        rule = stage.rule_for(address)
        rates.append(None if rule.lr is None else lr * rule.lr)
        if rule.lr is not None:
            decays.append((rule.weight_decay, rule.vector_decay))
        others.append(_left_over(rule, Rule))
    for address in outline.norms:
        rule = stage.rule_for(address)
        norms.append(rule.norm_mode)
        others.append(_left_over(rule, Rule))
    return _key([rates, norms, decays, others if any(others) else None, _left_over(stage, Stage)])


def _factors_of(schedule: Entry, epochs: int, steps_per_epoch: int) -> Callable[[int], object]:
    """The schedule's factors at every step of an epoch, hashed.

    A schedule that looks at validation losses is named instead: the key of the epoch before fixes
    those losses, so they and its options fix the factor.
    """
    if SCHEDULES.get(schedule.name).traits.uses_validation:
        named = _key(_used_entry(schedule))
        return lambda epoch: named
    text = schedule.model_dump_json(include=set(Entry.model_fields))
    others = _left_over(schedule, Entry)
    return lambda epoch: [_factors(text, epochs, steps_per_epoch, epoch), others]


@remembered
def _factors(schedule_json: str, epochs: int, steps_per_epoch: int, epoch: int) -> str:
    schedule = Entry.model_validate_json(schedule_json)
    factors = (
        lr_factor(
            schedule,
            Progress(
                step=epoch * steps_per_epoch + step,
                steps_per_epoch=steps_per_epoch,
                num_epochs=epochs,
            ),
        )
        for step in range(steps_per_epoch)
    )
    return _key(list(factors))
