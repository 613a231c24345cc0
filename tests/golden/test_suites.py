"""The trials of the shipped suites keep their ids: who has trained them trains nothing again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.golden.suite_ids import KEPT, SUITES, suite_ids

IDS: dict[str, list[str]] = json.loads(KEPT.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted(SUITES.glob("*.yaml")), ids=lambda path: str(path.stem))
def test_a_shipped_suite_has_the_trials_that_it_had(path: Path) -> None:
    renew = "a new suite, or one whose trials are meant to change: python -m tests.golden.suite_ids"
    assert suite_ids(path) == IDS.get(path.name), renew
