"""Every key, setting and option says what it means, with an example that its rule accepts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.runs.catalogue import catalogue
from bench.suite import FractalWeights, Limits, Resources, load_suite
from bench.suite.keys import MEANINGS, SPACE
from bench.suite.load import KEYS
from bench.suite.reference import (
    Described,
    described,
    described_settings,
    reference_page,
    yaml_text,
)
from bench.suite.schema import Settings
from bench.suite.tune import FoundRange, Method, Range
from bench.suite.yaml_file import parse_yaml

REPOSITORY = Path(__file__).parents[2]
MINIMAL = {"dataset": "fractals", "backbone": "resnet18", "strategy": "two_rates"}
RANGE = {"low": 0.001, "high": 0.5}


def written(name: str, meaning: str, examples: tuple[Any, ...]) -> Described:
    return Described(name=name, values="", default="", meaning=meaning, examples=examples)


def said() -> Iterator[tuple[str, Described, Any]]:
    """(where, what is said, a function from an example to the part of a suite that has it)."""
    for name, key in MEANINGS.items():
        yield "suite", written(name, key.meaning, key.examples), lambda v, n=name: {n: v}
    yield (
        "tune",
        written("space", SPACE.meaning, SPACE.examples),
        lambda v: {"tune": {"space": v}},
    )
    for item in described_settings():
        yield "setting", item, lambda v, n=item.name: {n: v}
    for item in described(FractalWeights):
        yield "weights", item, lambda v, n=item.name: {"weights": {"name": "fractals", n: v}}
    for item in described(Resources):
        yield "resources", item, lambda v, n=item.name: {"resources": {n: v}}
    for item in described(Limits):
        yield "limits", item, lambda v, n=item.name: {"limits": {n: v}}
    for item in described(Method):
        space = {"lr": [0.1, 0.2]}
        yield "tune", item, lambda v, n=item.name, s=space: {"tune": {"space": s, n: v}}
    for model, needed in ((Range, RANGE), (FoundRange, {"find": "valley"})):
        for item in described(model):
            yield (
                "range",
                item,
                lambda v, n=item.name, k=needed: {"tune": {"space": {"lr": {**k, n: v}}}},
            )
    yield from options()
    yield from options_of_options()


def options() -> Iterator[tuple[str, Described, Any]]:
    names = catalogue()
    for kind in ("strategy", "schedule", "augmentation", "head", "dataset"):
        registry = getattr(names, kind)
        for entry in registry:
            items = described(registry.get(entry).options)
            required = {item.name: item.examples[0] for item in items if not item.default}
            for item in items:
                start = {"name": entry, **required}
                yield (
                    f"{kind} {entry}",
                    item,
                    lambda v, k=kind, n=item.name, s=start: {k: {**s, n: v}},
                )


def options_of_options() -> Iterator[tuple[str, Described, Any]]:
    names = catalogue()
    for entry in names.penalty:
        for item in described(names.penalty.get(entry).options):
            yield (
                f"penalty {entry}",
                item,
                lambda v, e=entry, n=item.name: _two_rates(penalty={e: {n: v}}),
            )
    for entry in names.objective:
        for item in described(names.objective.get(entry).options):
            yield (
                f"objective {entry}",
                item,
                lambda v, e=entry, n=item.name: _two_rates(objective={"name": e, n: v}),
            )


def _two_rates(**options: Any) -> dict[str, Any]:
    return {"strategy": {"name": "two_rates", **options}}


CASES = list(said())


@pytest.mark.parametrize(("where", "item", "suite"), CASES, ids=[f"{w}-{i.name}" for w, i, _ in CASES])  # fmt: skip  # noqa: E501
def test_it_says_what_it_means_with_examples_that_load(
    tmp_path: Path, where: str, item: Described, suite: Any
) -> None:
    assert item.meaning.endswith("."), f"{where}: {item.name} has no description"
    assert item.examples, f"{where}: {item.name} has no example"
    (tmp_path / "resnet18.pth").write_bytes(b"x")
    for example in item.examples:
        path = tmp_path / "s.yaml"
        path.write_text(yaml.safe_dump({**MINIMAL, **suite(example)}))
        load_suite(path, catalogue())
        assert parse_yaml(yaml_text(example)).data == example


def test_every_key_is_among_them() -> None:
    assert {*MEANINGS, *Settings.model_fields} == set(KEYS)
    named = {"setting", "strategy two_rates", "dataset folder", "penalty l2_sp", "objective focal"}
    assert {where for where, _, _ in CASES} >= named


def test_mixes_say_what_they_mean() -> None:
    mixes = catalogue().mix
    for name in mixes:
        assert mixes.get(name).summary
        assert all(item.meaning and item.examples for item in described(mixes.get(name).options))


def test_a_missing_description_is_seen() -> None:
    class Bare(Resources):
        more: int = 1

    (*_, bare) = described(Bare)
    assert (bare.name, bare.meaning, bare.examples) == ("more", "", ())


def test_values_and_defaults_in_words() -> None:
    settings = {item.name: item for item in described_settings()}
    assert settings["momentum"].values == "0 ≤ number < 1"
    assert settings["lr"].values == "number > 0"
    assert settings["micro_batch"].values == "whole number ≥ 2, null"
    assert settings["optimizer"].values == "sgd, adam, adamw"
    assert (settings["seed"].default, settings["weights"].default) == ("[0, 1, 2]", "imagenet")


def test_rows_have_as_many_cells_as_their_table() -> None:
    bars = [
        len(re.findall(r"(?<!\\)\|", line)) for line in reference_page(catalogue()).splitlines()
    ]
    assert all(row == after for row, after in pairwise(bars) if row and after)
    assert max(bars) == 6


def test_the_page_is_up_to_date() -> None:
    page = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == reference_page(catalogue()), "renew it with: python docs/make_settings.py"
