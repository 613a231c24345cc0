"""Fixtures for all tests: a cache folder of their own, and tiny generated data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

# A test's Ray cluster is not that of a test which runs beside it.
os.environ["RAY_ADDRESS"] = "local"


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One cache for the session: what is prepared once serves all tests."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("BENCH_CACHE")
    os.environ["BENCH_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["BENCH_CACHE"]
    else:
        os.environ["BENCH_CACHE"] = before


@pytest.fixture(scope="session", autouse=True)
def one_thread_each() -> Iterator[None]:
    """Tests beside each other would wait for each other's threads; trials have one anyhow."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def no_power_cut() -> Iterator[None]:
    """Thousands of small files need not be on the disk before the next line runs."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture
def two_threads() -> Iterator[None]:
    """Two threads, for tests of what leaves their number alone."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def plugins_unloaded() -> Iterator[None]:
    """What the test loads is gone after it."""
    from bench.suite.plugins import loaded_plugins, unload_plugin

    before = loaded_plugins()
    yield
    for plugin in loaded_plugins():
        if plugin not in before:
            unload_plugin(plugin.place)


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports take most of the time of so small a run."""
    monkeypatch.setattr("bench.runs.run.write_report", lambda *_: None)
