"""What trains beside a network and is no part of the one that is kept: no checkpoint has it."""

from __future__ import annotations

from bench.methods.plan import DISCRIMINATOR
from bench.models.source_head import SOURCE_HEAD


def is_companion(name: str) -> bool:
    """Whether what the model calls so is of the classifier of the weights, or a discriminator."""
    return name.startswith((f"{SOURCE_HEAD}.", f"{DISCRIMINATOR}."))
