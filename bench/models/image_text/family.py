"""Image–text models as backbones whose network is described by a text; no torch at import."""

from __future__ import annotations

from typing import Any

from bench.models.described import DescribedFamily
from bench.models.image_text.folders import describe, folder_of


def _build(described: str, image_size: int) -> Any:
    from bench.models.image_text.towers import build

    return build(described, image_size)


def _groups(model: Any) -> Any:
    from bench.models.image_text.towers import tower_groups

    return tower_groups(model)


def _of_images(model: Any, state: dict[str, Any]) -> dict[str, Any]:
    from bench.models.image_text.towers import tensors_of_images

    return tensors_of_images(model, state)


FAMILY = DescribedFamily(
    config=lambda name: describe(folder_of(name)).config,
    build=_build,
    groups=_groups,
    fitted=_of_images,
)
