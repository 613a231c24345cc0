"""Requests that arrive together pass the network together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.prediction.samples import Probabilities

Prepared = npt.NDArray[Any]
"""A sample as a trained model keeps it, or several `[n, ...]`."""
Classify = Callable[[Prepared], Probabilities]
OnBatch = Callable[[int], None]


class Batcher:
    """Collects samples while the network is busy; then all that wait, up to `most`, go at once.

    Nobody waits for company: a sample that comes while nothing is computed goes alone.
    """

    def __init__(self, classify: Classify, *, most: int, on_batch: OnBatch) -> None:
        self._classify = classify
        self._most = most
        self._on_batch = on_batch
        self._waiting: asyncio.Queue[tuple[Prepared, asyncio.Future[npt.NDArray[np.float32]]]]
        self._waiting = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")

    @property
    def waiting(self) -> int:
        """How many samples wait for the network."""
        return self._waiting.qsize()

    async def probabilities(self, sample: Prepared) -> npt.NDArray[np.float32]:
        """The probabilities of one prepared sample; raises what the network raised."""
        answer = asyncio.get_running_loop().create_future()
        self._waiting.put_nowait((sample, answer))
        return await answer  # type: ignore[no-any-return]

    async def run(self) -> None:
        """Go on until it is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < self._most and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            # Who has given up need not be computed.
            batch = [(sample, answer) for sample, answer in batch if not answer.done()]
            if not batch:
                continue
            self._on_batch(len(batch))
            try:
                stacked = np.stack([sample for sample, _ in batch])
                rows = await loop.run_in_executor(self._thread, self._classify, stacked)
            except Exception as error:
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(error)
                continue
            for (_, answer), row in zip(batch, rows, strict=True):
                if not answer.done():
                    answer.set_result(row)
