"""A trained run whose trials are opened."""

from __future__ import annotations

import pytest

import bench
from tests.prediction.opened import SUITE
from tests.prediction.texts import trained_on_texts


@pytest.fixture(scope="session")
def opened_run(tmp_path_factory: pytest.TempPathFactory) -> bench.Run:
    """Trained once; its folder must not be changed."""
    folder = tmp_path_factory.mktemp("opened")
    suite = folder / "opened.yaml"
    suite.write_text(SUITE)
    return bench.run(suite, out=folder / "results", device="cpu", workers=1)


@pytest.fixture(scope="session")
def text_run(tmp_path_factory: pytest.TempPathFactory) -> bench.Run:
    """Trials on texts, by word vectors; its folder must not be changed."""
    return trained_on_texts(tmp_path_factory.mktemp("texts"))
