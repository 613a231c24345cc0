"""Plans of strategies on ResNet-18, without a network."""

from __future__ import annotations

from typing import Any

from bench.methods.plan import Plan
from bench.methods.strategies import STRATEGIES
from bench.models import layer_group_names

GROUPS = layer_group_names("resnet18")
CONSTANT: tuple[str, dict[str, Any]] = ("constant", {})
"""A schedule and its options."""


def plan_of(strategy: str, epochs: int, **options: Any) -> Plan:
    """The plan of a strategy with these options."""
    return STRATEGIES.get(strategy).function(GROUPS, epochs, **options)
