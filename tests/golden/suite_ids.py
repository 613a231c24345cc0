"""The ids of the trials of the shipped suites, as far as the suite alone decides them.

`python -m tests.golden.suite_ids` writes them anew: after a change that is meant to train the
trials of a suite again, and never to make the test pass.
"""

from __future__ import annotations

import json
from pathlib import Path

from bench.runs.catalogue import catalogue
from bench.suite import expand, load_suite

SUITES = Path(__file__).parents[2] / "suites"
KEPT = Path(__file__).with_suffix(".json")


def suite_ids(path: Path) -> list[str]:
    """The id of each trial, without what the machine adds: data, weights, device."""
    names = catalogue()
    return [trial.id({}) for trial in expand(load_suite(path, names), names)]


if __name__ == "__main__":
    found = {path.name: suite_ids(path) for path in sorted(SUITES.glob("*.yaml"))}
    KEPT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
