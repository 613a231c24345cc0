"""What every registered strategy, schedule, metric and so on must do, kind by kind."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from bench.data import (
    TEST,
    UNASSIGNED,
    Converted,
    Dataset,
    ImageDataset,
    TextDataset,
    VectorDataset,
    open_dataset,
    strata_names,
)
from bench.data.images.augmentations import AUGMENTATIONS, Augmenter
from bench.data.text.inputs import TextInputs
from bench.errors import BenchError, PlanError, nearest
from bench.execution.origins import REGISTRIES
from bench.methods.metrics import METRICS, metric
from bench.methods.objectives import OBJECTIVES
from bench.methods.penalties import PENALTIES, Judged, StartLayer
from bench.methods.plan import HEAD, LayerGroups, Plan, Rule, Stage
from bench.methods.schedules import Progress, lr_factor
from bench.methods.strategies import STRATEGIES
from bench.methods.target_tasks import CLASSIFICATION, MULTI_LABEL, REGRESSION
from bench.models import HEADS, build_network, describe_weights, sample_shape
from bench.models.heads import build_head
from bench.suite import Entry
from bench.suite.plugins import entries_of, load_plugin

if TYPE_CHECKING:
    import torch

GROUPS = (
    LayerGroups(("stem", "layer1", "layer2", "layer3", "layer4", HEAD)),
    LayerGroups(("patch_embedding", "block1", "block2", "norm", HEAD)),
    LayerGroups(("trunk", HEAD)),
)
PARAMETERS = ("0.conv.weight", "0.conv.bias", "0.bn.weight", "weight")
EPOCHS = (1, 2, 5, 12)
IMAGE_SIDE, STORED_SIDE = 24, 32
ROW_LENGTH = 20


def check(kind: str, name: str, **options: Any) -> None:
    """Check the entry `name` of a kind such as "strategy"; `options` are those that it needs.

    Raises `AssertionError` with what it breaks, `BenchError` if there is no such kind or entry.
    """
    if kind not in _CONTRACTS:
        raise BenchError(f"kind must be a known one, got {kind!r}{nearest(kind, _CONTRACTS)}")
    registered = REGISTRIES[kind].get(name)
    assert registered.summary, f"{kind} {name!r} needs a docstring: what lists and reports show"
    chosen = registered.options(**options).model_dump()
    try:
        registered.options.model_validate(chosen)
    except ValidationError as error:
        raise AssertionError(f"{kind} {name!r} refuses its own defaults: {error}") from None
    _CONTRACTS[kind](name, chosen)


def check_plugin(place: str | Path, options: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Load a plugin and check everything that it registers; `options` by the name of an entry."""
    entries = entries_of(load_plugin(place))
    assert entries, f"the plugin {place} registers nothing"
    for registry, name in entries:
        check(registry.kind, name, **dict((options or {}).get(name, {})))


# Strategies and schedules ---------------------------------------------------------------------


def _strategy(name: str, options: dict[str, Any]) -> None:
    registered = STRATEGIES.get(name)
    own = {key: v for key, v in options.items() if key not in STRATEGIES.shared_options}
    plans = 0
    for groups in GROUPS:
        for epochs in EPOCHS:
            try:
                plan = registered.function(groups, epochs, **own)
            except PlanError:
                continue  # the options do not fit so few groups or epochs
            plans += 1
            _plan(name, plan, groups, epochs if registered.traits.trains else 0)
            again = registered.function(groups, epochs, **own)
            assert plan == again, f"strategy {name!r} gives another plan the second time"
    assert plans, f"strategy {name!r} makes a plan for none of {len(GROUPS)} kinds of backbones"


def _plan(name: str, plan: object, groups: tuple[str, ...], epochs: int) -> None:
    assert isinstance(plan, Plan), f"strategy {name!r} must return a Plan, got {plan!r}"
    assert plan.epochs == epochs, f"strategy {name!r}: {epochs} epochs asked, {plan.epochs} planned"
    parts = (plan, *plan.stages, *(rule for stage in plan.stages for rule in stage.rules))
    # A process unpickles the plan before it loads the plugin, which may be what defines a class.
    assert {type(part) for part in parts} <= {Plan, Stage, Rule}, (
        f"strategy {name!r} must build its plan from Plan, Stage and Rule themselves, not from "
        "subclasses"
    )
    for stage in plan.stages:
        try:
            rules = [stage.rule_for(f"{group}/{own}") for group in groups for own in PARAMETERS]
        except PlanError as error:
            raise AssertionError(f"strategy {name!r}: {error}") from None
        assert any(rule.lr for rule in rules), f"strategy {name!r} has a stage that trains nothing"
    objectives = () if plan.objective is None else (plan.objective,)
    for term in objectives:
        assert term.name in OBJECTIVES, f"strategy {name!r}: no objective {term.name!r} is known"
    for term in plan.penalties:
        assert term.name in PENALTIES, f"strategy {name!r}: no penalty {term.name!r} is known"


def _schedule(name: str, options: dict[str, Any]) -> None:
    entry = Entry(name=name, options=options)
    for epochs in EPOCHS:
        for steps in (1, 7):
            progresses = [
                Progress(
                    step=step,
                    steps_per_epoch=steps,
                    num_epochs=epochs,
                    val_losses=tuple(1 / (1 + e) for e in range(step // steps)),
                )
                for step in range(steps * epochs)
            ]
            factors = [lr_factor(entry, progress) for progress in progresses]
            for factor in factors:
                assert math.isfinite(factor), f"schedule {name!r} gives {factor}"
                assert factor >= 0, f"schedule {name!r} gives the negative factor {factor}"
            backwards = [lr_factor(entry, progress) for progress in reversed(progresses)]
            assert factors == backwards[::-1], (
                f"schedule {name!r} depends on when it is asked, and not on progress alone"
            )


# Metrics and penalties ------------------------------------------------------------------------


def _metric(name: str, options: dict[str, Any]) -> None:
    assert re.fullmatch("[a-z][a-z0-9_]{0,60}", name), (
        f"metric {name!r} must be named by letters, digits and _, as columns are"
    )
    function, merit = METRICS.get(name).function, metric(name).merit
    draw = np.random.default_rng(0)
    for outputs in (2, 5):
        labels, right, guess = _answers(METRICS.get(name).traits.target_task, outputs, draw)
        values = [function(labels, probabilities) for probabilities in (right, guess)]
        for value in values:
            assert isinstance(value, float | int), f"metric {name!r} must return a number"
            assert math.isfinite(value), f"metric {name!r} gives {value}"
        assert merit(values[0]) > merit(values[1]), (
            f"metric {name!r} prefers guesses ({values[1]:g}) to the truth ({values[0]:g}): is "
            "higher_is_better right?"
        )
        order = draw.permutation(len(labels))
        shuffled = function(labels[order], guess[order])
        assert math.isclose(shuffled, values[1], rel_tol=1e-9), (
            f"metric {name!r} depends on the order of samples"
        )


Answers = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]


def _answers(task: str, outputs: int, draw: np.random.Generator) -> Answers:
    """What is true of some samples, and good and bad answers, as metrics of the task take them."""
    if task == REGRESSION.name:
        truth = draw.normal(size=(40, outputs))
        return truth, truth + 0.1 * draw.normal(size=truth.shape), draw.normal(size=truth.shape)
    if task == MULTI_LABEL.name:
        turns = np.arange(40)[:, None] + np.arange(outputs)
        labels = (turns % 3 == 0).astype(float)
        return labels, 0.2 + 0.6 * labels, draw.uniform(size=labels.shape)
    classes = np.concatenate([np.arange(outputs), draw.integers(0, outputs, 40)])
    right = 0.9 * np.eye(outputs)[classes] + 0.1 / outputs
    return classes, right, draw.dirichlet(np.ones(outputs), len(classes))


def _penalty(name: str, options: dict[str, Any]) -> None:
    import torch

    registered = PENALTIES.get(name)
    assert "weight" in registered.options.model_fields, f"penalty {name!r} needs an option weight"
    own, reference = _compared(registered.traits.needs)
    by_name = (
        own
        if isinstance(own, dict)
        else own._asdict()
        if isinstance(own, Judged)
        else {registered.traits.needs: own}
    )
    before = {key: value.detach().clone() for key, value in by_name.items()}
    value = registered.function(own, reference, **options)
    assert value.ndim == 0, f"penalty {name!r} must return a scalar, got shape {tuple(value.shape)}"
    assert bool(torch.isfinite(value)), f"penalty {name!r} gives {value.item()}"
    gradients = torch.autograd.grad(value, list(by_name.values()), allow_unused=True)
    used = any(gradient is not None for gradient in gradients)
    assert used, f"penalty {name!r} depends on no {registered.traits.needs}"
    for gradient in gradients:
        assert gradient is None or bool(torch.isfinite(gradient).all()), (
            f"penalty {name!r} has a gradient that is not finite"
        )
    for key, tensor in by_name.items():
        assert torch.equal(tensor, before[key]), f"penalty {name!r} changes {key}"


def _compared(needs: str) -> tuple[torch.Tensor | dict[str, torch.Tensor] | Judged, Any]:
    """What penalties take that need this, made up."""
    import torch

    draw = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=draw)

    if needs == "features":
        return drawn(6, 4).requires_grad_(), torch.arange(6) % 2
    if needs == "target_domains":
        target, source = (Judged(drawn(6), drawn(6, 4)) for _ in range(2))
        return Judged(*(each.requires_grad_() for each in target)), source
    if needs.startswith("target_"):
        return drawn(6, 4).requires_grad_(), drawn(6, 4)
    if needs == "source_head":
        return drawn(6, 4).requires_grad_(), drawn(6, 4).softmax(dim=1)
    if needs == "layers":
        layers = {"layer1": drawn(6, 4, 9), "layer2": drawn(6, 8, 1)}
        start = {
            name: StartLayer(value + 0.1, drawn(value.shape[1]).softmax(dim=0))
            for name, value in layers.items()
        }
        return {name: value.requires_grad_() for name, value in layers.items()}, start
    shapes = {"stem/conv.weight": (4, 3), "stem/conv.bias": (4,), f"{HEAD}/fc.weight": (2, 4)}
    known = {key: drawn(*shape) for key, shape in shapes.items()}
    return {key: (value + 0.1).requires_grad_() for key, value in known.items()}, known


def _objective(name: str, options: dict[str, Any]) -> None:
    import torch

    objective = OBJECTIVES.get(name).function(None, 0.0, **options)
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(12, 3, generator=draw, dtype=torch.float64)
    has_classes = OBJECTIVES.get(name).traits.target_task == CLASSIFICATION.name
    targets = torch.arange(12) % 3 if has_classes else (torch.arange(36) % 2).view(12, 3).double()
    whole = objective.loss(logits, targets)
    parts = [
        objective.loss(logits[p], targets[p], objective.share(targets[p], targets))
        for p in (slice(0, 5), slice(5, 12))
    ]
    assert torch.isclose(whole, sum(parts, torch.zeros(()))), (
        f"objective {name!r}: the parts of a batch do not add up to its loss"
    )
    if not has_classes:
        return
    soft = objective.loss(logits, torch.eye(3, dtype=torch.float64)[targets])
    assert torch.isclose(whole, soft), (
        f"objective {name!r}: labels as classes and as probabilities have different losses"
    )


# Inputs ---------------------------------------------------------------------------------------


def _augmentation(name: str, options: dict[str, Any]) -> None:
    import torch

    if AUGMENTATIONS.get(name).traits.inputs == "text":
        _text_augmentation(name, options)
        return
    draw = torch.Generator().manual_seed(0)
    shape = (4, 3, STORED_SIDE, STORED_SIDE)
    images = torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8)

    def views(seed: int, samples: list[int]) -> torch.Tensor:
        entry = Entry(name=name, options=options)
        augmenter = Augmenter(entry, size=IMAGE_SIDE, num_classes=2, seed=seed)
        return augmenter.images(images[samples], samples, epoch=1)

    seen = views(0, [0, 1, 2, 3])
    assert seen.shape == (4, 3, IMAGE_SIDE, IMAGE_SIDE), (
        f"augmentation {name!r} must give images of the size asked for, got {tuple(seen.shape)}"
    )
    assert seen.dtype == torch.uint8, f"augmentation {name!r} must give uint8, got {seen.dtype}"
    assert torch.equal(seen[2:3], views(0, [2])), (
        f"augmentation {name!r}: a view depends on what else is drawn; draw from torch alone"
    )


def _text_augmentation(name: str, options: dict[str, Any]) -> None:
    import torch

    draw = np.random.default_rng(0)
    words = np.repeat(np.arange(ROW_LENGTH), 2)[:ROW_LENGTH] - 1
    ids = draw.integers(0, 100, (4, ROW_LENGTH), np.int32)
    inputs = TextInputs(
        ids,
        np.tile(words.astype(np.int32), (4, 1)),
        Entry(name=name, options=options),
        num_classes=2,
        seed=0,
        device=torch.device("cpu"),
    )
    seen = inputs.batch(np.arange(4), 1)
    assert seen.shape == ids.shape, f"augmentation {name!r} changes how long rows are"
    for row, own in zip(seen.numpy(), ids, strict=True):
        assert set(row[row >= 0]) <= set(own), f"augmentation {name!r} makes tokens up"
    assert torch.equal(seen[2:3], inputs.batch(np.array([2]), 1)), (
        f"augmentation {name!r}: a view depends on what else is drawn; draw from the generator"
    )


def _mix(name: str, options: dict[str, Any]) -> None:
    import torch

    draw = torch.Generator().manual_seed(0)
    images, labels = torch.rand(6, 3, 8, 8, generator=draw), torch.arange(6) % 3
    entry = Entry(name="none", options={"mix": name, "mix_alpha": options.get("alpha", 1.0)})
    augmenter = Augmenter(entry, size=8, num_classes=3, seed=0)
    mixed, soft = augmenter.mix(images.clone(), labels, epoch=0, step=0)
    again, _ = augmenter.mix(images.clone(), labels, epoch=0, step=0)
    assert torch.equal(mixed, again), f"mix {name!r} draws from elsewhere than from torch"
    assert mixed.shape == images.shape, f"mix {name!r} changes the shape of a batch"
    assert soft.shape == (6, 3), f"mix {name!r} must give labels [n, classes]"
    assert torch.allclose(soft.sum(dim=1), torch.ones(6)), (
        f"mix {name!r}: the labels of a sample must add up to 1"
    )


def _dataset(name: str, options: dict[str, Any]) -> None:
    opened, again = (open_dataset(name, options) for _ in range(2))
    assert opened.fingerprint == again.fingerprint, f"data set {name!r}: the fingerprint changes"
    assert opened.labels.min() >= 0, f"data set {name!r} has a label below 0"
    count = len(strata_names(opened))
    assert opened.labels.max() < count, f"data set {name!r} has a label too large"
    assert set(np.unique(opened.splits)) <= {UNASSIGNED, *range(TEST + 1)}, (
        f"data set {name!r} has splits that are none of train, val, test"
    )
    assert opened.sample_ids == again.sample_ids, f"data set {name!r}: the sample ids change"
    _samples(name, opened)


def _samples(name: str, dataset: Dataset) -> None:
    if isinstance(dataset, VectorDataset):
        assert np.isfinite(dataset.vectors).all(), f"data set {name!r} has values not finite"
        return
    if isinstance(dataset, TextDataset):
        assert all(dataset.texts), f"data set {name!r} has texts that say nothing"
        return
    assert isinstance(dataset, ImageDataset), f"data set {name!r} must return a Dataset"
    some = list(range(min(4, len(dataset))))
    *_, together = dataset.read(some)
    (alone,) = dataset.read(some[-1:])
    images = [each.pixels if isinstance(each, Converted) else each for each in (together, alone)]
    for image in images:
        assert isinstance(image, np.ndarray), f"data set {name!r}: an image is no array: {image}"
        form = dataset.form
        assert image.dtype == form.dtype, f"data set {name!r}: an image must be {form.dtype}"
        assert image.shape[2:] == (form.depth,), (
            f"data set {name!r}: an image must be [height, width, {form.depth}]"
        )
    first, second = map(np.asarray, images)
    assert np.array_equal(first, second), (
        f"data set {name!r}: an image depends on what else is read with it"
    )


# Networks -------------------------------------------------------------------------------------


def _head(name: str, options: dict[str, Any]) -> None:
    import torch

    shape = HEADS.get(name).function(**options)
    head = build_head(shape, torch.nn.Linear(7, 10), num_classes=3, seed=0)
    assert head(torch.zeros(2, 7)).shape == (2, 3), f"head {name!r} must give [n, classes]"


def _backbone(name: str, options: dict[str, Any]) -> None:
    import torch

    weights = describe_weights(name, Entry(name="none"))
    size = weights.input_size or 16
    network, again = (
        build_network(
            name,
            weights=weights,
            head=Entry(name="linear"),
            num_classes=3,
            seed=0,
            image_size=size,
        ).eval()
        for _ in range(2)
    )
    for own, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(own, other), f"backbone {name!r} draws from elsewhere than from torch"
    batch = torch.randn(4, *sample_shape(name, size), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = network(batch)
        assert logits.shape == (4, 3), f"backbone {name!r} must give [n, classes]"
        assert torch.equal(network.model(batch), logits), (
            f"backbone {name!r} computes something else when its groups run one after the other"
        )
        for boundary in network.boundaries:
            inner = network(batch, stop=boundary)
            assert torch.equal(network(inner, start=boundary), logits), (
                f"backbone {name!r} computes something else when it is cut in front of {boundary}"
            )
        close = torch.allclose(network(batch[:1]), logits[:1], rtol=1e-4, atol=1e-5)
        assert close, f"backbone {name!r}: in evaluation a sample depends on its companions"
        start = {key: value.clone() for key, value in network.model.state_dict().items()}
        network.train()(batch)
        network.model.load_state_dict(start)
        assert torch.equal(network.eval()(batch), logits), (
            f"backbone {name!r} keeps state of a training that is not in its state dict"
        )


_CONTRACTS: Mapping[str, Callable[[str, dict[str, Any]], None]] = {
    "strategy": _strategy,
    "schedule": _schedule,
    "augmentation": _augmentation,
    "mix": _mix,
    "head": _head,
    "dataset": _dataset,
    "backbone": _backbone,
    "metric": _metric,
    "objective": _objective,
    "penalty": _penalty,
}
