"""`bench list`: the catalogue as rows, without importing torch."""

from __future__ import annotations

from typing import Any

from bench.runs.catalogue import catalogue
from bench.suite import FractalWeights, Settings
from bench.suite.registry import Registry

Row = tuple[str, str, str]
"""Name, options, meaning."""


def listings() -> dict[str, list[Row]]:
    """The rows of every kind."""
    names = catalogue()
    return {
        "strategy": _rows(names.strategy),
        "schedule": _rows(names.schedule),
        "augmentation": _rows(names.augmentation),
        "mix": _rows(names.mix),
        "head": _rows(names.head),
        "dataset": _rows(names.dataset),
        "metric": _rows(names.metric),
        "weights": _weights(),
        "backbone": [*((name, "", "") for name in names.backbones), ("timm/NAME", "", "timm's")],
        "setting": _settings(),
    }


def plural(kind: str) -> str:
    """The kind's name for many."""
    return (
        f"{kind[:-1]}ies" if kind.endswith("y") else f"{kind}{'es' if kind.endswith('x') else 's'}"
    )


def _rows(registry: Registry[Any]) -> list[Row]:
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
        (name, str(getattr(field.default, "name", field.default)), "")
        for name, field in Settings.model_fields.items()
    ]
