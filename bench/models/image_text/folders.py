"""Folders of open_clip models: local ones, or of the Hugging Face hub; no torch at import.

Of such a folder only JSON and safetensors are read: nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.errors import BenchError, WeightsError, import_extra, nearest
from bench.keys import known_digest
from bench.models.text.hugging_face import fetch_folder, local_folder, read_json

PREFIX = "clip/"
"""`clip/NAME` is a model of the hub, `clip/ARCHITECTURE/TAG` pretrained weights that open_clip
knows, `clip/PATH` a local folder."""

CONFIG_FILE, WEIGHTS_FILE = "open_clip_config.json", "open_clip_model.safetensors"
_TOKENIZER_FILES = (
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
)

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
"""What open_clip normalises by where a model's config does not say."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a folder's config says of its model: `config` as JSON, and which images it takes."""

    config: str
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str


def is_image_text(backbone: str) -> bool:
    """Whether the name is one of an image–text model."""
    return backbone.startswith(PREFIX) and backbone != PREFIX


def import_open_clip(backbone: str) -> Any:
    """The module open_clip; raises `MissingExtraError` if it is not installed."""
    return import_extra(
        "open_clip",
        needed_for=f"the backbone {backbone}",
        extra="clip",
        package="open_clip_torch",
    )


def folder_of(backbone: str) -> Path:
    """The folder of a backbone; one of the hub is fetched once.

    Raises `WeightsError` that says how to do without the hub if it cannot be had.
    """
    place = backbone.removeprefix(PREFIX)
    local = local_folder(place, CONFIG_FILE, of="an open_clip model")
    if local is not None:
        return local
    name = _name_on_the_hub(place)
    import_open_clip(backbone)
    files = (CONFIG_FILE, WEIGHTS_FILE, *_TOKENIZER_FILES)
    return fetch_folder(name, files, mend=f"backbone: {PREFIX}PATH")


@lru_cache(maxsize=64)
def _name_on_the_hub(place: str) -> str:
    """The repository of weights that open_clip knows by architecture and tag, or `place` itself."""
    open_clip = import_open_clip(PREFIX + place)
    architecture, _, tag = place.partition("/")
    if architecture not in open_clip.list_models():
        return place
    known = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in known:
        raise WeightsError(
            f"open_clip knows the weights {', '.join(known) or 'none'} of {architecture}, got "
            f"{tag!r}{nearest(tag, known)}"
        )
    repository = str(open_clip.get_pretrained_cfg(architecture, tag).get("hf_hub", ""))
    if not repository:
        raise WeightsError(
            f"the weights {tag!r} of {architecture} are in a pickled file alone, which could run "
            f"code; save them with open_clip's save_for_hf, and name the folder: {PREFIX}PATH"
        )
    return "/".join(repository.split("/")[:2])


def describe(folder: Path) -> Described:
    """What the config of a folder says; raises `WeightsError` where it says too little."""
    path = folder / CONFIG_FILE
    content = read_json(path)
    model = content.get("model_cfg")
    if not isinstance(model, dict):
        raise WeightsError(f"{path} has no model_cfg")
    images = content.get("preprocess_cfg")
    images = images if isinstance(images, dict) else {}
    try:
        size = model["vision_cfg"].get("image_size", 224)
        sides = {int(side) for side in (size if isinstance(size, list) else [size])}
        found = Described(
            config=json.dumps(model, sort_keys=True),
            image_size=sides.pop(),
            mean=_three(images.get("mean") or OPENAI_MEAN),
            std=_three(images.get("std") or OPENAI_STD),
            interpolation=str(images.get("interpolation") or "bicubic"),
        )
        if sides:
            raise ValueError("its images are not square")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} describes no image–text model: {error}") from error
    _check_towers(model, path)
    return found


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue


def _check_towers(model: dict[str, Any], path: Path) -> None:
    """Raise `BenchError` for towers that need code or files from elsewhere."""
    text = model.get("text_cfg")
    if not isinstance(text, dict):
        raise WeightsError(f"{path} describes no text tower")
    if text.get("hf_model_name"):
        raise BenchError(
            f"the text tower of {path.parent} is one of transformers ({text['hf_model_name']}), "
            "which its folder does not describe; use a model whose text tower is open_clip's own"
        )
    tokenizer_options(text)
    if model.get("multimodal_cfg"):
        raise BenchError(f"{path.parent} is a model that writes captions; use one that compares")


def tokenizer_options(text: Mapping[str, Any]) -> dict[str, Any]:
    """What a config says of its tokenizer; raises `BenchError` for what may name code."""
    given = text.get("tokenizer_kwargs") or {}
    strange = set(given) - _OF_TOKENIZERS if isinstance(given, dict) else {"tokenizer_kwargs"}
    if strange:
        raise BenchError(
            f"the tokenizer of this model has options that are not taken from others: "
            f"{', '.join(sorted(map(str, strange)))}; use a model without them"
        )
    return dict(given)


def check_tower(config: Mapping[str, Any]) -> None:
    """Raise `BenchError` for a tower of endless layers, or one that is looked for elsewhere."""
    layers = config.get("layers", 0)
    several = layers if isinstance(layers, list) else [layers]
    if any(not isinstance(count, int) or count > _MOST_LAYERS for count in several):
        raise BenchError(f"a tower may have {_MOST_LAYERS:,} layers at most, got {layers!r}")
    if ":" in str(config.get("timm_model_name") or ""):
        raise BenchError(f"a tower must be one of timm's own, got {config['timm_model_name']!r}")


_OF_TOKENIZERS = {"clean", "strip_sep_token", "reduction_mask"}
_MOST_LAYERS = 1024


def weights_file(folder: Path) -> Path:
    """The tensors of both towers; raises `WeightsError` where there are none in safetensors."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        others = sorted(each.name for each in folder.glob("*.bin"))
        why = f" ({', '.join(others)} is pickled, which could run code)" if others else ""
        raise WeightsError(
            f"{folder} has no {WEIGHTS_FILE}{why}: save the model with open_clip's "
            "save_for_hf(…, safe_serialization=True), or set weights: none"
        )
    return path


def weights_digest(folder: Path) -> str:
    """A hash of both towers and of what cuts texts into tokens."""
    parts = [folder / CONFIG_FILE, weights_file(folder)]
    parts += sorted({each for files in _TOKENIZER_FILES for each in folder.glob(files)})
    digests = json.dumps([known_digest(part) for part in parts])
    return hashlib.sha256(digests.encode()).hexdigest()
