"""Names of parameters in layer groups: by which modules they are covered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def prefixes_of(members: Sequence[str], others: Sequence[str]) -> tuple[str, ...]:
    """The shortest module names that cover `members` and none of `others`."""
    found: dict[str, None] = {}
    for name in members:
        found.setdefault(shortest_prefix(name, others))
    return tuple(found)


def shortest_prefix(name: str, others: Sequence[str]) -> str:
    """The shortest module name that covers `name` and none of `others`."""
    parts = name.split(".")
    prefixes = (".".join(parts[:depth]) for depth in range(1, len(parts) + 1))
    return next(prefix for prefix in prefixes if not _any_below(others, prefix))


def _any_below(names: Iterable[str], prefix: str) -> bool:
    return any(name == prefix or name.startswith(f"{prefix}.") for name in names)
