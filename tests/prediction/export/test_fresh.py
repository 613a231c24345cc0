"""A process of its own runs the card's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench.errors import BenchError
from bench.prediction.export.fresh import fresh_process

DOUBLE = """
import numpy as np

print("libraries may greet")


def prepare(image):
    return np.array(image)[None].astype(np.float32)


def logits(batch):
    assert batch.max() < 100, "too bright"
    return 2 * batch
"""


def test_arrays_go_there_and_back(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('the folder of the file is no path')")
    with fresh_process(DOUBLE, tmp_path, name="a runtime") as fresh:
        found, seconds = fresh.logits(np.arange(6, dtype=np.float32).reshape(2, 3))
        assert found.tolist() == [[0, 2, 4], [6, 8, 10]]
        assert 0 <= seconds < 60
        image = np.full((2, 3, 3), 7, np.uint8)
        assert fresh.logits_of_image(image).tolist() == np.full((1, 2, 3, 3), 14.0).tolist()
        with pytest.raises(BenchError) as error:
            fresh.logits(np.full(2, 200.0, np.float32))
    told = "the exported file does not work in a runtime, so it was not kept: AssertionError: too"
    assert str(error.value).startswith(told)
    assert fresh.process.poll() is not None


def test_code_that_cannot_start_is_told(tmp_path: Path) -> None:
    with (
        fresh_process("raise SystemExit(3)", tmp_path, name="a runtime") as fresh,
        pytest.raises(BenchError, match="it ended with 3"),
    ):
        fresh.logits(np.zeros(1, np.float32))
