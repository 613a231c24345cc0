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


def test_one_kind_is_listed_in_full() -> None:
    short = {name: (options, meaning) for name, options, meaning in listing()["strategy"]}
    (rows,) = listing("strategy").values()
    for name, options, meaning in rows:
        own, summary = short[name]
        assert options.replace("\n", ", ") == own
        first, *more = meaning.splitlines()
        assert first == summary
        for option in options.splitlines():
            assert any(line.startswith(option.partition("=")[0] + ": ") for line in more), option
    (lora,) = (meaning for name, _, meaning in rows if name == "lora")
    assert "paper: Hu et al., LoRA, 2022, arXiv 2106.09685" in lora
    assert "typical lr: 1e-3 with AdamW" in lora
