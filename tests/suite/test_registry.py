from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import Field, ValidationError

from bench.errors import BenchError
from bench.suite.registry import Registry, registered_by


@dataclass(frozen=True, kw_only=True)
class ThingTraits:
    colour: str = "blue"


def make_registry() -> Registry[Any, ThingTraits]:
    registry: Registry[Any, ThingTraits] = Registry(
        "thing", ThingTraits, shared_options={"shared": (int, 1)}
    )

    @registry.register("plain", colour="red")
    def plain(size: int, *, depth: Annotated[int, Field(ge=1)], mode: str = "a") -> str:
        """What plain does.

        More of it.
        """
        return f"{size} {depth} {mode}"

    return registry


def test_keyword_only_parameters_are_the_options() -> None:
    entry = make_registry().get("plain")
    assert list(entry.options.model_fields) == ["shared", "depth", "mode"]
    assert entry.options(depth=2).model_dump() == {"shared": 1, "depth": 2, "mode": "a"}
    assert entry.summary == "What plain does."
    assert entry.traits == ThingTraits(colour="red")
    assert entry.function(3, depth=2) == "3 2 a"


@pytest.mark.parametrize("options", [{}, {"depth": 0}, {"depth": "2"}, {"depth": 1, "deep": 2}])
def test_options_are_strict(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        make_registry().get("plain").options(**options)


def test_unknown_names_tell_the_nearest() -> None:
    registry = make_registry()
    with pytest.raises(
        BenchError, match="thing must be a known name, got 'plane'; did you mean 'plain'"
    ):
        registry.get("plane")
    assert "plain" in registry
    assert list(registry) == ["plain"]
    assert len(registry) == 1


def test_a_name_is_registered_once() -> None:
    registry = make_registry()
    with pytest.raises(BenchError, match=r"registered twice: .*test_registry.py:\d+ and .*:\d+"):
        registry.register("plain")(lambda: None)


def test_traits_are_those_of_the_kind() -> None:
    with pytest.raises(BenchError, match=r"thing 'odd'.*size"):
        make_registry().register("odd", size=1)(lambda: None)


def test_what_a_failing_plugin_has_registered_is_taken_out() -> None:
    registry = make_registry()

    def mine() -> None:
        """Does nothing."""

    def load() -> None:
        with registered_by("digest", ["mine"]):
            registry.register("mine")(mine)
            assert registry.get("mine").origin == "digest"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        load()
    assert "mine" not in registry
    assert registry.get("plain").origin is None
