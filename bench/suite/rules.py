"""What the models of a suite share: how strict they are, common ranges, words for a mistake."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import ConfigDict, Field

STRICT = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Epochs = Annotated[int, Field(ge=1, le=100_000)]
"""Each epoch has a key of its own, so that a plan of endless ones would never be made."""
BatchSize = Annotated[int, Field(ge=1, le=100_000)]
"""Frozen layers see padded batches of this size, whatever the size of the data."""
Threads = Annotated[int, Field(ge=1, le=1024)]


def broken_rule(message: str) -> str:
    """The rule in a message of pydantic, as a suite is told it: "must be greater than 0"."""
    return message.removeprefix("Value error, ").replace("Input should", "must")


METRIC_NAME = re.compile(r"(?!(epoch|loss|lr|seconds|split|trial)$)[A-Za-z][A-Za-z0-9_]{0,40}")
"""The name of a metric is that of columns, beside others of the same table."""
