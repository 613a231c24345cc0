"""Plans of strategies on ResNet-18, without a network."""

from __future__ import annotations

from typing import Any

from bench.methods.plan import Plan
from bench.methods.strategies import make_plan
from bench.models import layer_group_names
from bench.suite import Entry, Settings

GROUPS = layer_group_names("resnet18")
CONSTANT: tuple[str, dict[str, Any]] = ("constant", {})
"""A schedule and its options."""


def plan_of(strategy: str, epochs: int, **options: Any) -> Plan:
    """The plan of a strategy with these options."""
    return make_plan(Entry(name=strategy, options=options), GROUPS, Settings(epochs=epochs))
