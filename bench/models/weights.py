"""Starting weights: what they are, where they come from, and getting them onto this machine."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from bench.errors import BenchError, WeightsError, nearest
from bench.keys import content_hash, known_digest
from bench.models.catalogue import (
    BACKBONES,
    EFFICIENTNET_LITE0,
    OUTSIDE_BACKBONES,
    check_backbone,
    check_image_size,
    is_timm,
    native_size,
)
from bench.models.image_text import folders as image_text
from bench.models.image_text.folders import is_image_text
from bench.models.text.families import LEARNED_POOLINGS, family_of, is_text
from bench.suite import FileWeights, Interpolation
from bench.system.cache import cache_lock, cache_root
from bench.system.cache_mirror import fetch_file
from bench.system.download import OnProgress, fetch
from bench.system.tensor_metadata import tensor_metadata

logger = logging.getLogger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALF = (0.5, 0.5, 0.5)

_IS_SHA256 = re.compile("[0-9a-f]{64}")
NONE, IMAGENET, PRETRAINED, FILE = "none", "imagenet", "pretrained", "file"

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Where the parameters of a backbone start; picklable.

    `path` is the local file, None for random initialisation and for what is not downloaded yet.
    `mean` and `std` normalise RGB values in [0, 1], after resizing with `interpolation`;
    `input_size` is in pixels, 0 where they ask for none. `classes` names the outputs of the
    classifier that the weights carry, None where that is not known. Of a file of one's own,
    `unknown` names the facts that nobody has told: they have the values of `file_defaults`.
    Of text backbones, also without values: the `tokenizer` that cuts their texts, the network as it
    is `described` for its family, and as `input_size` tokens. Image–text models are `described` by
    their config.
    """

    name: str
    path: Path | None
    fingerprint: str
    input_size: int
    mean: Triple
    std: Triple
    classes: tuple[str, ...] | None
    interpolation: Interpolation = "bilinear"
    unknown: tuple[str, ...] = ()
    tokenizer: str | None = None
    described: str | None = None


class WeightsEntry(Protocol):
    """A suite's entry for weights; `file` has the options `path` and those of `FileWeights`."""

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class _Origin:
    """Weights that are yet to be put at `destination`."""

    weights: Weights
    destination: Path
    url: str | None = None
    sha256_prefix: str | None = None


def describe_weights(backbone: str, entry: WeightsEntry) -> Weights:
    """What `entry` means for `backbone`; downloads nothing.

    `none`, `imagenet` (the library's default weights), `file` with the option `path`, or one of
    torchvision's weight sets such as `IMAGENET1K_V2`. Raises `WeightsError` for any other name.
    """
    check_backbone(backbone)
    if is_text(backbone):
        return describe_text_weights(backbone, entry)
    if is_image_text(backbone):
        return _image_text_weights(backbone, entry)
    if entry.name == NONE:
        return _no_weights(backbone)
    if entry.name == FILE:
        return _own_file(backbone, Path(entry.options["path"]).expanduser(), entry.options)
    return _origin(backbone, entry.name).weights


def obtain_weights(
    backbone: str, entry: WeightsEntry, *, progress: OnProgress | None = None
) -> Weights:
    """The described weights, with the file on this machine: downloaded into the cache if need be.

    Raises `DownloadError` or `WeightsError` naming the address and how to do without it.
    """
    check_backbone(backbone)
    if entry.name in (NONE, FILE):
        return describe_weights(backbone, entry)
    if is_text(backbone):
        return _obtained_text_weights(backbone, entry)
    if is_image_text(backbone):
        return _image_text_weights(backbone, entry)
    origin = _origin(backbone, entry.name)
    fetch_file(origin.destination)
    logger.info(
        "weights %s of %s: %s, from %s if it is not there",
        entry.name,
        backbone,
        origin.destination,
        origin.url or "an installed package or its hub",
    )
    if origin.url is not None:
        fetch(
            origin.url,
            origin.destination,
            sha256_prefix=origin.sha256_prefix,
            progress=progress,
            mend=f"Put the file at {origin.destination} yourself, or use weights: {{file: PATH}}",
        )
    elif backbone == EFFICIENTNET_LITE0:
        from bench.models.timm_models import convert_lite0_weights

        convert_lite0_weights(origin.destination)
    else:
        from bench.models.timm_models import download_pretrained

        download_pretrained(backbone, origin.destination)
    return replace(origin.weights, path=origin.destination)


def describe_text_weights(backbone: str, entry: WeightsEntry) -> Weights:
    """What `entry` means for a text backbone: `pretrained`, `none`, or `file`."""
    family = family_of(backbone)
    tokenizer, described = family.tokenizer(backbone), family.config(backbone)
    made_of = _made_of(described, tokenizer)
    usual = Weights(
        name=entry.name,
        path=None,
        fingerprint=f"{NONE} of {made_of}",
        input_size=family.max_length(backbone),
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        classes=None,
        tokenizer=tokenizer,
        described=described,
    )
    if entry.name == NONE or (entry.name == PRETRAINED and family.has_no_values):
        return replace(usual, name=NONE)
    if family.made_from is not None:
        raise WeightsError(
            f"{backbone} has a vocabulary from the texts of the data set, so it starts at random: "
            f"strategy from_scratch (weights: none), got weights {entry.name!r}; hf/NAME is "
            "pretrained"
        )
    if entry.name == FILE:
        path = Path(entry.options["path"]).expanduser()
        if not path.is_file():
            raise WeightsError(f"weights file not found: {path}")
        return replace(usual, name=path.name, path=path, fingerprint=known_digest(path))
    comes_with = family.weights(backbone)
    if entry.name != PRETRAINED or comes_with is None:
        valid = [*([] if comes_with is None else [PRETRAINED]), *family.made, NONE]
        raise WeightsError(
            f"weights of {backbone} must be one of {', '.join(valid)} or {{file: PATH}}, "
            f"got {entry.name!r}{nearest(entry.name, valid)}"
            f"{_meant(family.made)}"
        )
    return replace(usual, fingerprint=f"{comes_with.fingerprint} of {made_of}")


def _meant(made: Sequence[str]) -> str:
    """What somebody means who asks for pretrained weights that are made here."""
    return f"; weights: {made[0]} pretrains it here, once" if made else ""


def _image_text_weights(backbone: str, entry: WeightsEntry) -> Weights:
    """What `entry` means for an image–text model: `pretrained`, `none`, or `file`."""
    folder = image_text.folder_of(backbone)
    found = image_text.describe(folder)
    made_of = content_hash([found.config], digits=32)
    usual = Weights(
        name=entry.name,
        path=None,
        fingerprint=f"{NONE} of {made_of}",
        input_size=found.image_size,
        mean=found.mean,
        std=found.std,
        classes=None,
        interpolation="bicubic" if found.interpolation == "bicubic" else "bilinear",
        described=found.config,
    )
    if entry.name == NONE:
        return usual
    if entry.name == FILE:
        own = _own_file(backbone, Path(entry.options["path"]).expanduser(), entry.options)
        return replace(own, described=found.config)
    if entry.name != PRETRAINED:
        valid = (PRETRAINED, NONE)
        raise WeightsError(
            f"weights of {backbone} must be one of {', '.join(valid)} or {{file: PATH}}, "
            f"got {entry.name!r}{nearest(entry.name, valid)}"
        )
    return replace(
        usual,
        path=image_text.weights_file(folder),
        fingerprint=f"{image_text.weights_digest(folder)} of {made_of}",
    )


def _made_of(described: str, tokenizer: str) -> str:
    return content_hash([described, tokenizer], digits=32)


def with_vocabulary(backbone: str, weights: Weights, texts: Sequence[str]) -> Weights:
    """Weights of a text backbone whose vocabulary comes from `texts`; of others as they are."""
    made_from = family_of(backbone).made_from
    if made_from is None:
        return weights
    tokenizer, described = made_from(backbone, texts)
    fingerprint = f"{NONE} of {_made_of(described, tokenizer)}"
    return replace(weights, tokenizer=tokenizer, described=described, fingerprint=fingerprint)


def with_pooling(backbone: str, weights: Weights, pooling: str) -> Weights:
    """Weights of a text backbone that makes one vector a text in this way; `auto` is its own."""
    assert weights.described is not None, "of text backbones alone"
    if pooling == "auto" or not family_of(backbone).poolings:
        return weights
    described = {**json.loads(weights.described), "pooling": pooling}
    return replace(weights, described=json.dumps(described, sort_keys=True))


def learns(weights: Weights) -> bool:
    """Whether the network has buffers that depend on the training texts."""
    if weights.described is None:
        return False
    return json.loads(weights.described).get("pooling") in LEARNED_POOLINGS


def text_length(backbone: str, max_length: int | None) -> int:
    """How many of its tokens a text backbone sees, where the suite asks for so many, or not."""
    family = family_of(backbone)
    return family.max_length(backbone) if max_length is None else max_length * family.per_token


def _obtained_text_weights(backbone: str, entry: WeightsEntry) -> Weights:
    from bench.models.tensor_files import is_whole

    weights = describe_text_weights(backbone, entry)
    comes_with = family_of(backbone).weights(backbone)
    if comes_with is None:
        return weights
    destination = _folder() / f"text-{comes_with.fingerprint[:32]}.safetensors"
    with cache_lock(destination.with_suffix(".lock")):
        if not is_whole(destination):
            comes_with.save(destination)
    return replace(weights, path=destination)


def file_weights(
    path: Path,
    *,
    name: str,
    fingerprint: str,
    input_size: int,
    mean: Triple,
    std: Triple,
    classes: tuple[str, ...] | None = None,
) -> Weights:
    """Weights in a local state dict; raises `WeightsError` if there is no such file."""
    if not path.is_file():
        raise WeightsError(f"weights file not found: {path}")
    return Weights(
        name=name,
        path=path,
        fingerprint=fingerprint,
        input_size=input_size,
        mean=mean,
        std=std,
        classes=classes,
    )


def usual_size(backbone: str) -> int:
    """The side in pixels of images if neither weights nor data ask for any; 0 if only data can.

    Of texts the most tokens.
    """
    return _timm_size(backbone) if is_timm(backbone) else native_size(backbone)


def takes_size(backbone: str, image_size: int) -> bool:
    """Whether the backbone takes images of that side without being asked to."""
    if is_timm(backbone):
        from bench.models.timm_models import pretrained_config

        fixed = pretrained_config(backbone).fixed_input_size
        return not fixed or image_size == usual_size(backbone)
    try:
        check_image_size(backbone, image_size)
    except BenchError:
        return False
    return True


def _no_weights(backbone: str) -> Weights:
    return Weights(
        name=NONE,
        path=None,
        fingerprint=NONE,
        input_size=usual_size(backbone),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        classes=None,
    )


def _timm_size(backbone: str) -> int:
    from bench.models.timm_models import pretrained_config

    config = pretrained_config(backbone)
    return int(config.input_size[-1]) if config.fixed_input_size else 224


@dataclass(frozen=True, kw_only=True)
class _Images:
    """What images weights expect: their size in pixels and their normalisation."""

    size: int
    mean: Triple
    std: Triple


def _imagenet_images(backbone: str) -> _Images:
    if is_timm(backbone):
        from bench.models.timm_models import pretrained_config

        config = pretrained_config(backbone)
        return _Images(
            size=config.input_size[-1], mean=_triple(config.mean), std=_triple(config.std)
        )
    if backbone == EFFICIENTNET_LITE0:
        return _Images(size=BACKBONES[backbone].input_size, mean=HALF, std=HALF)
    from torchvision.models import get_model_weights

    return _torchvision_images(backbone, get_model_weights(backbone).DEFAULT)


def _torchvision_images(backbone: str, chosen: Any) -> _Images:
    preset = chosen.transforms()
    # These two models carry TensorFlow's weights and rescale ImageNet-normalised images to
    # (x - 0.5) / 0.5 themselves (`transform_input`); we normalise so from the start.
    tensorflow = BACKBONES[backbone].family in ("inception", "googlenet")
    return _Images(
        size=preset.crop_size[0],
        mean=HALF if tensorflow else _triple(preset.mean),
        std=HALF if tensorflow else _triple(preset.std),
    )


def file_defaults(backbone: str) -> dict[str, Any]:
    """What is taken for the facts that nobody has told of a file, by their names.

    It is normalised as the backbone's ImageNet weights are, as such files were mostly made from
    them; no size is asked for.
    """
    if backbone in OUTSIDE_BACKBONES:
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    elif is_image_text(backbone):
        found = image_text.describe(image_text.folder_of(backbone))
        mean, std = found.mean, found.std
    else:
        images = _imagenet_images(backbone)
        mean, std = images.mean, images.std
    size = native_size(backbone) if backbone in OUTSIDE_BACKBONES else 0
    return {
        "mean": mean,
        "std": std,
        "image_size": size,
        "interpolation": "bicubic" if is_image_text(backbone) else "bilinear",
        "classes": None,
    }


def _own_file(backbone: str, path: Path, told: Mapping[str, Any]) -> Weights:
    """A file with what the suite or the file itself says of it; what neither says is unknown."""
    if not path.is_file():
        raise WeightsError(f"weights file not found: {path}")
    defaults = file_defaults(backbone)
    known = {**_said_by(path, path.stat().st_mtime_ns), **told}
    facts = {name: known.get(name, default) for name, default in defaults.items()}
    return replace(
        file_weights(
            path,
            name=path.name,
            fingerprint=known_digest(path),
            input_size=facts["image_size"],
            mean=_three(facts["mean"]),
            std=_three(facts["std"]),
            classes=_class_names(facts["classes"]),
        ),
        interpolation=facts["interpolation"],
        unknown=tuple(name for name in defaults if name not in known),
    )


def _three(value: float | Sequence[float]) -> Triple:
    return _triple((value,) * 3 if isinstance(value, int | float) else value)


def _class_names(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    return imagenet_classes() if value == IMAGENET else tuple(value)


@cache
def _said_by(path: Path, _modified: int) -> Mapping[str, Any]:
    """The facts in a checkpoint of `bench`, which keeps them with its tensors; none elsewhere."""
    try:
        said = json.loads(tensor_metadata(path)["preprocessing"])
        facts = {
            "mean": said["mean"],
            "std": said["std"],
            "image_size": said["size"],
            "interpolation": said["interpolation"],
            "classes": said["classes"],
        }
        checked = FileWeights.model_validate_json(json.dumps(facts))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}
    return checked.model_dump(exclude_none=True)


def check_unchanged(weights: Weights) -> None:
    """Raise `WeightsError` if a file of one's own is not what it was when it was described."""
    path = weights.path
    if path is None or not _IS_SHA256.fullmatch(weights.fingerprint):
        return
    if not path.is_file():
        raise WeightsError(f"weights file not found: {path}")
    if known_digest(path) != weights.fingerprint:
        raise WeightsError(f"{path} has changed since the run began; run the same command again")


def _origin(backbone: str, name: str) -> _Origin:
    if backbone in OUTSIDE_BACKBONES:
        raise WeightsError(
            f"weights of {backbone}, which is registered from outside, must be {NONE}, fractals or "
            f"{{file: PATH}}, got {name!r}"
        )
    if is_timm(backbone) or backbone == EFFICIENTNET_LITE0:
        if name != IMAGENET:
            raise _unknown(backbone, name, ())
        return _lite0() if backbone == EFFICIENTNET_LITE0 else _timm_hub(backbone)
    return _torchvision(backbone, name)


def _unknown(backbone: str, name: str, sets: tuple[str, ...]) -> WeightsError:
    valid = (NONE, IMAGENET, "fractals", *sets)
    return WeightsError(
        f"weights of {backbone} must be one of {', '.join(valid)} or {{file: PATH}}, "
        f"got {name!r}{nearest(name, valid)}"
    )


def _torchvision(backbone: str, name: str) -> _Origin:
    from torchvision.models import get_model_weights

    sets = get_model_weights(backbone)
    if name != IMAGENET and name not in sets.__members__:
        raise _unknown(backbone, name, tuple(sets.__members__))
    chosen = sets.DEFAULT if name == IMAGENET else sets[name]
    if chosen.meta["categories"] is None:
        raise WeightsError(
            f"the weights {name} of {backbone} hold no values for its last layers; "
            f"use one of {', '.join(other for other in sets.__members__ if other != name)}"
        )
    images = _torchvision_images(backbone, chosen)
    file_name = chosen.url.rpartition("/")[2]
    digest = re.search(r"-([0-9a-f]{8,})\.pth$", file_name)
    return _Origin(
        weights=Weights(
            name=name,
            path=None,
            fingerprint=f"torchvision/{file_name}",
            input_size=images.size,
            mean=images.mean,
            std=images.std,
            classes=tuple(chosen.meta["categories"]),
        ),
        destination=_folder() / file_name,
        url=chosen.url,
        sha256_prefix=digest[1] if digest else None,
    )


def _lite0() -> _Origin:
    from bench.models.timm_models import lite0_weights_file

    file_name = lite0_weights_file().with_suffix(".safetensors").name
    images = _imagenet_images(EFFICIENTNET_LITE0)
    return _Origin(
        weights=Weights(
            name=IMAGENET,
            path=None,
            fingerprint=f"package/{file_name}",
            input_size=images.size,
            mean=images.mean,
            std=images.std,
            classes=imagenet_classes(),
        ),
        destination=_folder() / file_name,
    )


def _timm_hub(backbone: str) -> _Origin:
    from bench.models.timm_models import address, pretrained_config

    config = pretrained_config(backbone)
    origin = address(backbone)
    images = _imagenet_images(backbone)
    file_name = re.sub(r"[^\w.-]", "-", f"{config.architecture}.{config.tag}.safetensors")
    return _Origin(
        weights=Weights(
            name=IMAGENET,
            path=None,
            fingerprint=f"{origin}@{config.tag}",
            input_size=images.size,
            mean=images.mean,
            std=images.std,
            classes=imagenet_classes() if config.num_classes == 1000 else None,
        ),
        destination=_folder() / f"timm-{file_name}",
    )


def imagenet_classes() -> tuple[str, ...]:
    """The names of the 1000 ImageNet classes, in the order of the classifiers' outputs."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _folder() -> Path:
    return cache_root() / "weights"


def _triple(values: Any) -> Triple:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
