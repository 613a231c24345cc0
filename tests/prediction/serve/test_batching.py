"""Images that wait go together, and every one of them gets its own answer."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import numpy.typing as npt
import pytest

from bench.prediction.serve.batching import Batcher


def _image(value: int) -> npt.NDArray[np.uint8]:
    return np.full((2, 2, 3), value, np.uint8)


def test_who_waits_together_goes_together_in_bounded_batches() -> None:
    sizes: list[int] = []
    gate = threading.Event()

    def classify(stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        gate.wait(20)
        return stored[:, 0, 0, :1].astype(np.float32)

    async def all_of_them() -> list[float]:
        batcher = Batcher(classify, most=8, on_batch=sizes.append)
        running = asyncio.create_task(batcher.run())
        asked = [asyncio.create_task(batcher.probabilities(_image(n))) for n in range(30)]
        await asyncio.sleep(0.05)
        gate.set()
        found = await asyncio.gather(*asked)
        running.cancel()
        return [float(row[0]) for row in found]

    assert asyncio.run(all_of_them()) == list(range(30))
    assert sum(sizes) == 30
    assert max(sizes) == 8
    assert len(sizes) <= 5


def test_an_error_is_that_of_its_batch_and_the_next_one_works() -> None:
    calls: list[int] = []

    def classify(stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        calls.append(len(stored))
        if len(calls) == 1:
            raise ValueError("broken")
        return np.ones((len(stored), 2), np.float32)

    async def twice() -> npt.NDArray[np.float32]:
        batcher = Batcher(classify, most=4, on_batch=lambda _: None)
        running = asyncio.create_task(batcher.run())
        with pytest.raises(ValueError, match="broken"):
            await batcher.probabilities(_image(1))
        found = await batcher.probabilities(_image(2))
        running.cancel()
        return found

    assert asyncio.run(twice()).tolist() == [1, 1]


def test_who_has_given_up_is_not_computed() -> None:
    sizes: list[int] = []
    gate = threading.Event()

    def classify(stored: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        gate.wait(20)
        return np.ones((len(stored), 2), np.float32)

    async def some_leave() -> None:
        batcher = Batcher(classify, most=64, on_batch=sizes.append)
        running = asyncio.create_task(batcher.run())
        first = asyncio.create_task(batcher.probabilities(_image(0)))
        await asyncio.sleep(0.05)
        others = [asyncio.create_task(batcher.probabilities(_image(n))) for n in range(6)]
        await asyncio.sleep(0.05)
        assert batcher.waiting == 6
        for gone in others[:4]:
            gone.cancel()
        await asyncio.sleep(0.01)
        gate.set()
        await asyncio.gather(first, *others[4:])
        running.cancel()

    asyncio.run(some_leave())
    assert sizes == [1, 2]
