"""Benchmark transfer-learning strategies fairly: one suite file in, curves and a report out.

run = bench.run("suites/smoke.yaml")
run.trials, run.curves, run.predictions     # pandas data frames
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.results.folder import Run, read_run
    from bench.runs.run import run
    from bench.suite.plugins import load_plugin
    from bench.tuning import tune

__all__ = ["Run", "load_plugin", "read_run", "run", "tune"]

_HOMES = {
    "run": "bench.runs.run",
    "tune": "bench.tuning",
    "load_plugin": "bench.suite.plugins",
    "Run": "bench.results.folder",
    "read_run": "bench.results.folder",
}


def __getattr__(name: str) -> Any:
    # Loaded on first use: importing torch takes seconds, and `bench --help` must not wait for it.
    if name not in _HOMES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
