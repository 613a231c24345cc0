"""The section `resources` of a suite: what a trial may take of the machine before it is stopped."""

from __future__ import annotations

from pydantic import BaseModel

from bench.suite.rules import STRICT, Positive


class Resources(BaseModel):
    """Limits that change no number, so that no id holds them.

    A trial is stopped when it goes for `minutes` without finishing an epoch (or, after the last,
    its test), and cannot have more than `memory_gib` GiB of main memory. None: no limit.
    """

    model_config = STRICT

    minutes: Positive | None = None
    memory_gib: Positive | None = None

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.minutes is not None or self.memory_gib is not None

    @property
    def seconds(self) -> float | None:
        """`minutes` in seconds."""
        return None if self.minutes is None else 60 * self.minutes
