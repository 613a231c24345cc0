"""What a checked suite lets processes begin with."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from bench.runs import check
from bench.runs.check import check_suite, import_for
from bench.runs.options import RunOptions

ONE: dict[str, Any] = {
    "name": "one", "dataset": "fractals", "backbone": "resnet18", "weights": "none",
    "strategy": "from_scratch", "seed": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("more", "options", "begun"),
    [
        ({}, {}, False),
        ({"seed": [0, 1]}, {}, True),
        ({"seed": [0, 1]}, {"only": ("seed=1",)}, False),
        ({"seed": [0, 1]}, {"workers": 1}, False),
        ({}, {"executor": "processes"}, True),
        ({"seed": [0, 1]}, {"executor": "in-process"}, False),
        ({"resources": {"minutes": 5}}, {}, True),
        ({"devices_per_trial": 2}, {}, True),
    ],
)
def test_processes_import_early_where_more_than_this_one_will_train(
    monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], options: dict[str, Any], begun: bool
) -> None:
    started: list[str] = []
    monkeypatch.setattr(check, "import_early", lambda *names: started.extend(names))
    monkeypatch.delitem(sys.modules, "torch")
    given = RunOptions(device="cpu", **options)
    import_for(check_suite({**ONE, **more}, given), given)
    assert bool(started) == begun
