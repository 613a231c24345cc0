"""The two towers of an open_clip model: images as a backbone, texts as what classes look like."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.errors import BenchError, WeightsError, bounded
from bench.methods.plan import HEAD
from bench.models.grouping import prefixes_of
from bench.models.image_text.folders import (
    PREFIX,
    check_tower,
    import_open_clip,
    tokenizer_options,
)
from bench.models.network import LayerGroup, layer_group
from bench.models.tensor_files import read_if_whole

VISUAL, CLASSIFIER = "visual", "classifier"
STEM, PROJECTION = "stem", "projection"
_CLASSES = 1000
"""As of all backbones: the trunk's random values do not depend on how many the task has."""
_TEXTS_AT_ONCE = 256


class ImageTower(nn.Module):
    """The image tower, `visual`, in front of a linear `classifier`.

    Its features are those that are compared with texts, behind the projection, each of length √d,
    so that a value is about 1 as behind a layer norm. `described` and the file `path` are of both
    towers; without the file there are no values to be compared with texts.
    """

    def __init__(self, visual: nn.Module, features: int, described: str) -> None:
        super().__init__()
        self.visual = visual
        self.described = described
        self.path: Path | None = None
        self.classifier = nn.Linear(features, _CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Logits `[n, classes]`."""
        logits: Tensor = self.classifier(_scaled(self, self.visual(images)))
        return logits

    def text_tower(self) -> TextTower:
        """The other tower, on the CPU; raises `WeightsError` where its values are not known."""
        if self.path is None:
            raise WeightsError("no text can be compared with images without weights")
        return read_text_tower(self.described, self.path)


def _scaled(model: nn.Module, embeddings: Tensor) -> Tensor:
    return F.normalize(embeddings, dim=-1) * math.sqrt(embeddings.shape[-1])


def build(described: str, image_size: int) -> ImageTower:
    """The image tower that a config describes, with random values.

    Raises `BenchError` where no such model can be made.
    """
    model = json.loads(described)
    vision = {**model["vision_cfg"], "image_size": image_size, "timm_model_pretrained": False}
    if isinstance(model["vision_cfg"].get("patch_dropout"), float):
        vision["patch_dropout"] = 0.0  # of pretraining, which looked at parts of many images
    vision["output_tokens"] = False
    visual = _built("_build_vision_tower", model, vision)
    return ImageTower(visual, int(model["embed_dim"]), described)


def _built(function: str, model: Mapping[str, Any], tower: Mapping[str, Any]) -> nn.Module:
    library = import_open_clip(PREFIX + "…").model
    check_tower(tower)
    try:
        made: nn.Module = getattr(library, function)(
            int(model["embed_dim"]), dict(tower), bool(model.get("quick_gelu", False))
        )
    except Exception as error:  # constructors raise almost anything
        reason = bounded(str(error).partition("\n")[0], 300)
        raise BenchError(f"open_clip cannot build this model: {reason}") from error
    return made


def tensors_of_images(model: ImageTower, state: MutableMapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the image tower among both towers' in a file, for the model's image size."""
    from open_clip.model import resize_pos_embed

    own = {name: tensor for name, tensor in state.items() if name.startswith(f"{VISUAL}.")}
    positions = own.get(f"{VISUAL}.positional_embedding")
    # What is no square grid with a class token is told by the check of shapes.
    if positions is not None and positions.ndim == 2 and _is_grid(len(positions) - 1):
        resize_pos_embed(own, model)
    return own


def _is_grid(patches: int) -> bool:
    return patches > 0 and math.isqrt(patches) ** 2 == patches


# Layer groups -----------------------------------------------------------------------------------


def tower_groups(model: ImageTower) -> tuple[LayerGroup, ...]:
    """Stem, blocks, projection, head; of towers that are no plain transformer, their parts.

    Plain transformers run group by group. The `projection` is the last norm and what is behind it,
    up to the space that texts are compared in: it belongs to the backbone.
    """
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    names += [name for name, _ in model.named_buffers(remove_duplicate=False)]
    plain = _is_plain(model.visual)
    owned: dict[str, list[str]] = {}
    for name in names:
        if name.startswith(f"{VISUAL}."):
            owned.setdefault(_group_of(name, plain), []).append(name)
    in_head = [f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"]
    groups: list[LayerGroup] = []
    for group in sorted(owned, key=_place) if plain else owned:
        others = [each for other, own in owned.items() if other != group for each in own]
        prefixes = prefixes_of(owned[group], [*others, *in_head])
        if plain:
            groups.append(layer_group(group, *_steps(group), owns=prefixes))
        else:
            run = None if groups else _run_tower
            groups.append(
                LayerGroup(
                    name=group,
                    prefixes=prefixes,
                    run=run,
                    steps=() if run is None else (run,),
                )
            )
    return (*groups, layer_group(HEAD, CLASSIFIER))


def _is_plain(visual: nn.Module) -> bool:
    return type(visual).__name__ == "VisionTransformer" and hasattr(visual, "transformer")


def _group_of(name: str, plain: bool) -> str:
    _, part, *rest = name.split(".")
    if not plain:
        return PROJECTION if part in (HEAD, "attnpool") else part
    if part == "transformer":
        return f"block{int(rest[1]) + 1}"
    after = part in ("ln_post", "proj") or part.startswith("attn_pool")
    return PROJECTION if after else STEM


def _place(group: str) -> tuple[int, int]:
    number = group.removeprefix("block")
    return {STEM: (0, 0), PROJECTION: (2, 0)}.get(group, (1, int(number) if number != group else 0))


def _steps(group: str) -> tuple[Any, ...]:
    if group == STEM:
        return (_embed_patches,)
    if group == PROJECTION:
        return (_project,)
    return (f"{VISUAL}.transformer.resblocks.{int(group.removeprefix('block')) - 1}",)


def _embed_patches(model: nn.Module, images: Tensor) -> Tensor:
    tokens: Tensor = cast(Any, model).visual._embeds(images)
    return tokens


def _project(model: nn.Module, tokens: Tensor) -> Tensor:
    visual = cast(Any, model).visual
    pooled, _ = visual._pool(tokens)
    return _scaled(model, pooled if visual.proj is None else pooled @ visual.proj)


def _run_tower(model: nn.Module, images: Tensor) -> Tensor:
    return _scaled(model, cast(Any, model).visual(images))


# Texts ------------------------------------------------------------------------------------------


class TextTower:
    """The text tower with its tokenizer and the scale of logits; nothing of it ever trains.

    Products of embeddings of length 1 times `scale` are logits.
    """

    def __init__(self, text: nn.Module, tokenizer: Any, scale: float) -> None:
        self.text = text.eval().requires_grad_(False)
        self._tokenizer = tokenizer
        self.scale = scale

    @property
    def width(self) -> int:
        """Channels of a token."""
        return int(cast(Any, self.text).token_embedding.weight.shape[1])

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Token ids `[n, context]`."""
        ids: Tensor = self._tokenizer(list(texts))
        return ids

    def embeddings(self, ids: Tensor) -> Tensor:
        """One vector of length 1 a text, `[n, features]`."""
        found: Tensor = self.text(ids)
        return F.normalize(found, dim=-1)

    @torch.no_grad()
    def directions(self, texts: Sequence[Sequence[str]]) -> Tensor:
        """Of the texts of each class the direction of their mean, of length 1 `[n, features]`."""
        rows = [text for own in texts for text in own]
        pieces = [
            self.embeddings(self.tokens(rows[at : at + _TEXTS_AT_ONCE]))
            for at in range(0, len(rows), _TEXTS_AT_ONCE)
        ]
        by_class = torch.split(torch.cat(pieces), [len(own) for own in texts])
        return F.normalize(torch.stack([own.mean(dim=0) for own in by_class]), dim=-1)

    @contextmanager
    def with_context(self, context: Tensor) -> Iterator[None]:
        """Vectors `[n, width]` in the place of the tokens behind the first one of each text."""
        count = len(context)

        def put(layer: nn.Module, ids: Any, embedded: Tensor) -> Tensor:
            own = context.to(embedded.dtype).expand(len(embedded), -1, -1)
            return torch.cat([embedded[:, :1], own, embedded[:, 1 + count :]], dim=1)

        hook = cast(Any, self.text).token_embedding.register_forward_hook(put)
        try:
            yield
        finally:
            hook.remove()


def read_text_tower(described: str, path: Path) -> TextTower:
    """The text tower that a config describes with its values in the file of both towers.

    Raises `WeightsError` where they do not fit.
    """
    from open_clip.model import convert_to_custom_text_state_dict

    model = json.loads(described)
    text = _built("_build_text_tower", model, {**model["text_cfg"], "output_tokens": False})
    state = convert_to_custom_text_state_dict(read_if_whole(path))
    own = {
        name.removeprefix("text."): tensor.float()
        for name, tensor in state.items()
        if name.startswith("text.")
    }
    try:
        text.load_state_dict(own)
        scale = float(state["logit_scale"].float().exp())
    except (RuntimeError, KeyError, ValueError) as error:
        reason = bounded(" ".join(str(error).split()), 300)
        raise WeightsError(f"{path} does not hold the text tower of its config: {reason}") from None
    finite = all(bool(torch.isfinite(tensor).all()) for tensor in own.values())
    if not (finite and math.isfinite(scale)):
        raise WeightsError(f"the text tower in {path} has values that are not finite")
    return TextTower(text, _tokenizer(model["text_cfg"], path.parent), scale)


def _tokenizer(text: Mapping[str, Any], folder: Path) -> Any:
    """What cuts texts: open_clip's own, or one of transformers in the folder."""
    open_clip = import_open_clip(PREFIX + "…")
    tokenizer_options(text)
    try:
        if text.get("hf_tokenizer_name"):
            return open_clip.get_tokenizer(f"local-dir:{folder}")
        return open_clip.SimpleTokenizer(
            context_length=int(text.get("context_length", 77)),
            **tokenizer_options(text),
        )
    except Exception as error:  # of several libraries
        reason = bounded(str(error).partition("\n")[0], 300)
        raise WeightsError(f"{folder} has no tokenizer that can be read: {reason}") from error
