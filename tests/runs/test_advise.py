"""`bench advise`: what is told of a suite before training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bench
from bench.methods.advice import RULES
from bench.results.analysis.transfer_scores import names_of_starts
from tests.tiny import SMOKE_SUITE


@pytest.mark.campaign
def test_advice_of_a_suite(tmp_path: Path) -> None:
    bench.run(SMOKE_SUITE, out=tmp_path)  # what is trained already costs what it costs
    advice = bench.advise(SMOKE_SUITE, out=tmp_path)
    facts = advice.facts
    assert (facts.samples, facts.classes, facts.majority) == (16, 2, 0.5)
    (start,) = facts.backbones
    assert start.pretrained
    assert start.parameters
    assert start.neighbour_accuracy is not None
    low, high = advice.expected[start.backbone]
    assert low <= start.neighbour_accuracy <= high
    assert set(advice.rules) == set(RULES)
    assert [cell.strategy for cell in advice.cells] == ["from_scratch", "linear_probe"]
    assert all(cell.seconds for cell in advice.cells)
    written = json.loads((tmp_path / "tiny" / "advice.json").read_text())
    assert written["samples"] == 16
    assert written["rules"]["tutorial_table"]["reason"]


def test_starts_of_one_backbone_have_names_of_their_own() -> None:
    starts = [(("r18", "imagenet"), "64 px"), (("r50", "imagenet"), "64 px")]
    starts += [(("r18", "fractals"), "64 px"), (("r18", "fractals"), "32 px")]
    assert list(names_of_starts(starts).values()) == [
        "r18, imagenet", "r50", "r18, fractals, 64 px", "r18, fractals, 32 px",
    ]  # fmt: skip
