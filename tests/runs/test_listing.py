"""The catalogue as rows."""

from __future__ import annotations

from bench.runs.listing import listing, plural


def test_every_kind_has_a_plural_of_its_language() -> None:
    assert [plural(kind) for kind in listing()] == [
        "strategies", "schedules", "augmentations", "mixes", "heads", "metrics", "objectives",
        "penalties", "after", "datasets", "weights", "backbones", "settings",
    ]  # fmt: skip


def test_a_kind_is_found_by_both_of_its_names() -> None:
    assert listing("strategy") == listing("strategies")
    assert list(listing("weights")) == ["weights"]
