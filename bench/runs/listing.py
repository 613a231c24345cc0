"""The catalogue as rows, without importing torch."""

from __future__ import annotations

from typing import Any

from bench.errors import BenchError, nearest
from bench.runs.catalogue import catalogue
from bench.suite import FractalWeights
from bench.suite.reference import described_settings
from bench.suite.registry import Registry

Row = tuple[str, str, str]
"""Name, options, meaning."""


def listing(kind: str | None = None) -> dict[str, tuple[Row, ...]]:
    """The rows by kind, of one `kind` only if it is given; raises `BenchError` if there is none."""
    kinds = listings()
    chosen = [name for name in kinds if kind in (None, name, plural(name))]
    if not chosen:
        raise BenchError(f"KIND must be a known kind, got {kind!r}{nearest(str(kind), kinds)}")
    return {name: tuple(kinds[name]) for name in chosen}


def listings() -> dict[str, list[Row]]:
    """The rows of every kind."""
    names = catalogue()
    return {
        "strategy": _rows(names.strategy),
        "schedule": _rows(names.schedule),
        "augmentation": _rows(names.augmentation),
        "mix": _rows(names.mix),
        "head": _rows(names.head),
        "metric": _rows(names.metric),
        "objective": _rows(names.objective),
        "penalty": _rows(names.penalty),
        "after": _rows(names.after),
        "dataset": _rows(names.dataset),
        "weights": _weights(),
        "backbone": [*((name, "", "") for name in names.backbones), ("timm/NAME", "", "timm's")],
        "setting": _settings(),
    }


def plural(kind: str) -> str:
    """The kind's name for many."""
    if kind.endswith("s") or kind == "after":  # weights, what is made after training
        return kind
    return (
        f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}{'es' if kind.endswith('x') else 's'}"
    )


def _rows(registry: Registry[Any, Any]) -> list[Row]:
    rows = []
    for name in registry:
        entry = registry.get(name)
        own = {
            key: field
            for key, field in entry.options.model_fields.items()
            if key not in registry.shared_options
        }
        options = ", ".join(
            key if field.is_required() else f"{key}={field.default}" for key, field in own.items()
        )
        rows.append((name, options, entry.summary))
    if registry.shared_options:
        shared = ", ".join(f"{k}={default}" for k, (_, default) in registry.shared_options.items())
        rows.append(("(all)", shared, "options of every entry"))
    return rows


def _weights() -> list[Row]:
    recipe = ", ".join(
        f"{key}={field.default}" for key, field in FractalWeights.model_fields.items()
    )
    return [
        ("none", "", "a random start"),
        ("imagenet", "", "the library's default ImageNet weights"),
        ("IMAGENET1K_V1, …", "", "a weight set that torchvision names"),
        ("{file: PATH}", "", "a state dict or safetensors file"),
        ("fractals", recipe, "pretrained here on fractals, once, without any files"),
    ]


def _settings() -> list[Row]:
    return [
        (item.name, f"{item.default} ({item.values})", item.meaning)
        for item in described_settings()
    ]
