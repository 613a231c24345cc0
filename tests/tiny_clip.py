"""A tiny image–text model with random values, in a folder as open_clip writes it."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from bench.system.cache import cache_root

SIDE, FEATURES, WIDTH, CONTEXT = 32, 16, 16, 32
CONFIG: dict[str, Any] = {
    "embed_dim": FEATURES,
    "vision_cfg": {
        "image_size": SIDE,
        "layers": 2,
        "width": WIDTH,
        "head_width": 8,
        "patch_size": 16,
    },
    "text_cfg": {"context_length": CONTEXT, "vocab_size": 49408, "width": WIDTH, "heads": 2},
}
CONFIG["text_cfg"]["layers"] = 1


def library_model(config: dict[str, Any] | None = None, *, custom: bool = False) -> Any:
    """The model of open_clip, with values that depend on the config alone."""
    open_clip = pytest.importorskip("open_clip")
    import torch

    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(**(config or CONFIG)).eval()


def write_folder(folder: Path, config: dict[str, Any] | None = None, **kind: bool) -> Path:
    """The model in a folder of open_clip's format."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    state = library_model(config, **kind).state_dict()
    save_file(
        {name: each.contiguous() for name, each in state.items()},
        folder / "open_clip_model.safetensors",
    )
    images = {"mean": [0.5, 0.4, 0.3], "std": [0.3, 0.2, 0.25], "interpolation": "bicubic"}
    content = {"model_cfg": config or CONFIG, "preprocess_cfg": images}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    return folder


@cache
def clip_backbone() -> str:
    """The name of the backbone, whose folder is in the cache of who asks first."""
    return f"clip/{write_folder(cache_root() / 'tiny-clip')}"
