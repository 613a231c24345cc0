"""A trained run whose trials have children."""

from __future__ import annotations

import shutil

import pytest
import yaml

import bench
from tests.prediction.opened import SUITE

AFTER = [
    "ensemble",
    {"name": "ensemble", "members": "greedy"},
    "temperature",
    "soup",
    {"name": "soup", "members": "greedy"},
    "wise_ft",
    {"name": "wise_ft", "alphas": [0.0]},
    {"name": "wise_ft", "alphas": [1.0]},
    "tta",
    {"name": "tta", "views": "random", "count": 1},
    {"name": "tta", "views": "random", "count": 3},
    {"name": "tta", "views": "five_crops"},
]


@pytest.fixture(scope="session")
def suite_with_children() -> dict[str, object]:
    return {**yaml.safe_load(SUITE), "after": AFTER}


@pytest.fixture(scope="session")
def parent_run(
    opened_run: bench.Run,
    suite_with_children: dict[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> bench.Run:
    """Nothing is trained for it: the section was added later. Its folder must not be changed."""
    place = tmp_path_factory.mktemp("parents")
    shutil.copytree(opened_run.folder, place / opened_run.folder.name)
    return bench.run(suite_with_children, out=place, device="cpu", workers=1)
