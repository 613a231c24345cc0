"""What a suite says of its claims: which difference does not matter, and what is dear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from bench.suite.rules import STRICT

Cost = Literal["train_seconds", "trainable_params", "peak_memory_mib"]


class Claims(BaseModel):
    """How the verdict of a run weighs what it finds; no trial depends on it."""

    model_config = STRICT

    margin: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            allow_inf_nan=False,
            description="The difference of the metric that does not matter: within it a cheaper "
            "strategy is as good. A fraction, so 0.01 is one point of accuracy.",
            examples=[0.02],
        ),
    ] = 0.01
    cost: Annotated[
        Cost,
        Field(
            description="What makes a strategy cheaper: the time of a training, the parameters "
            "that train, or the peak of memory.",
            examples=["trainable_params"],
        ),
    ] = "train_seconds"


def read_claims(suite: Mapping[str, Any]) -> Claims:
    """Those of the content of a `suite.yaml`, which may be another's: what is wrong is default."""
    try:
        return Claims.model_validate(suite.get("claims") or {})
    except ValidationError:
        return Claims()
