"""Backbones whose network is described by a text, which checkpoints keep; no torch at import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class DescribedFamily:
    """Backbones that are made alike.

    `config` describes the network of a backbone by its name, so that `build` makes it again, for
    inputs of a size, without the files that the name stands for: a module with a linear layer
    `classifier` as its last one. `groups` are its layer groups; `fitted` says which tensors of a
    file of weights it is to have, by its own names.
    """

    config: Callable[[str], str]
    build: Callable[[str, int], Any]
    groups: Callable[[Any], Sequence[Any]]
    fitted: Callable[[Any, dict[str, Any]], Mapping[str, Any]] = lambda model, state: state
