"""The section `resources` of a suite: what a trial takes of the machine, and at most."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

from bench.suite.rules import STRICT, Count, Positive


class Resources(BaseModel):
    """Shares and limits that change no number, so that no id holds them.

    A trial is stopped when it goes for `minutes` without finishing an epoch (or, after the last,
    its test), and cannot have more than `memory_gib` GiB of main memory. None: no limit.

    `cpus` are kept free for each trial that runs (None: as many as it has threads), on each of its
    devices. `gpus` is the share of a GPU that it takes: with 0.25, four run on one (None: a whole
    one); a trial on several devices takes whole ones.
    """

    model_config = STRICT

    minutes: Annotated[
        Positive | None,
        Field(
            description="Minutes that an epoch, or the test after the last epoch, may take; then "
            "the trial is stopped. null: no limit.",
            examples=[30],
        ),
    ] = None
    memory_gib: Annotated[
        Positive | None,
        Field(
            description="GiB of main memory that a trial may have. null: no limit.", examples=[4]
        ),
    ] = None
    cpus: Annotated[
        Count | None,
        Field(
            description="CPU cores that are reserved for each running trial, on each of its "
            "devices. null: its number of threads.",
            examples=[2],
        ),
    ] = None
    gpus: Annotated[
        Annotated[float, Field(gt=0, le=1)] | None,
        Field(
            description="Share of a GPU that a trial takes: with 0.25, four trials run on one "
            "GPU. null: a whole GPU.",
            examples=[0.25],
        ),
    ] = None

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return self.minutes is not None or self.memory_gib is not None

    @property
    def trials_per_gpu(self) -> int:
        """How many run on one GPU at once."""
        return 1 if self.gpus is None else int(1 / self.gpus + 1e-9)

    @property
    def seconds(self) -> float | None:
        """`minutes` in seconds."""
        return None if self.minutes is None else 60 * self.minutes
