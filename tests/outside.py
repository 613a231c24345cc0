"""A file outside the package that registers one of every kind, and suites that use it."""

from __future__ import annotations

PLUGIN = '''
"""What a lab keeps beside its suites."""

from typing import Annotated

import numpy as np
from pydantic import Field

from bench.data import DATASETS, TEST, TRAIN, VAL, VectorDataset
from bench.methods.metrics import METRICS
from bench.methods.penalties import PENALTIES
from bench.methods.plan import Plan, Rule, Stage
from bench.methods.schedules import SCHEDULES
from bench.methods.strategies import STRATEGIES
from outside_numbers import POWER


@STRATEGIES.register("head_then_norms", why_weights="keeps the backbone as it is")
def head_then_norms(groups, epochs, *, probe: Annotated[int, Field(ge=1)] = 1):
    """The head alone first, then everything at half the rate."""
    head = (Rule(pattern="head/*", lr=1.0), Rule(pattern="*", lr=None))
    probe = min(probe, epochs)
    stages = [Stage(epochs=probe, rules=head)]
    if epochs > probe:
        stages.append(Stage(epochs=epochs - probe, rules=(Rule(pattern="*", lr=0.5),)))
    return Plan(stages=tuple(stages))


@SCHEDULES.register("power")
def power(progress, *, exponent: Annotated[float, Field(gt=0)] = POWER):
    """A power of what is left to do."""
    return (1 - progress.fraction) ** exponent


@METRICS.register("worst_class", percent=True)
def worst_class(labels, probabilities):
    """The recall of the class that is found least often."""
    right = probabilities.argmax(axis=1) == labels
    return min(right[labels == label].mean() for label in np.unique(labels))


@PENALTIES.register("l1_sp")
def l1_sp(parameters, start, *, weight: Annotated[float, Field(ge=0)] = 0.001):
    """The sum of absolute distances from the start."""
    return weight * sum((p - start[name]).abs().sum() for name, p in parameters.items())


@DATASETS.register("rings")
def rings(progress, /, *, per_class: Annotated[int, Field(ge=4)] = 12):
    """Two rings around one point."""
    draw = np.random.default_rng(0)
    labels = np.tile(np.repeat([0, 1], per_class), 3)
    angle = draw.uniform(0, 2 * np.pi, len(labels))
    radius = 1 + labels + 0.1 * draw.normal(size=len(labels))
    vectors = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    splits = np.repeat([TRAIN, VAL, TEST], 2 * per_class)
    return VectorDataset(
        name="rings",
        classes=("inner", "outer"),
        sample_ids=tuple(str(index) for index in range(len(labels))),
        labels=labels.astype(np.int64),
        splits=splits.astype(np.int8),
        fingerprint=f"{per_class:064d}",
        vectors=vectors.astype(np.float32),
    )
'''

BESIDE = "POWER = 2.0\n"

START = """\
name: start
dataset: {name: rings, per_class: 10}
backbone: tiny_mlp
weights: none
strategy: from_scratch
augmentation: none
epochs: 2
batch_size: 8
lr: 0.05
precision: fp32
seed: 0
"""

REUSE = """\
name: reuse
dataset: {name: rings, per_class: 12}
backbone: tiny_mlp
weights: {file: start.safetensors}
strategy:
  - linear_probe
  - head_then_norms
  - {name: full_finetune, penalty: {l1_sp: 0.01}}
  - {name: linear_probe, penalty: {l1_sp: 0.01}}
schedule: [constant, power]
augmentation: none
metric: worst_class
epochs: 3
batch_size: 8
lr: 0.05
precision: fp32
seed: [0, 1]
"""
