"""Models of transformers as networks of one vector a text: pooled, with layer groups."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.errors import BenchError, WeightsError, bounded
from bench.methods.plan import HEAD
from bench.models.evaluation import text_lengths
from bench.models.feature_layers import outputs_of
from bench.models.grouping import prefixes_of
from bench.models.network import LayerGroup, layer_group, save_tensors
from bench.models.text.hugging_face import (
    CONFIG_FILE,
    check_known,
    import_transformers,
    read_json,
)
from bench.system.token_rows import SHARE_ONE, width_for

BODY, CLASSIFIER = "body", "classifier"
_CLASSES = 1000
"""As of all backbones: the trunk's random values do not depend on how many the task has."""


class TextModel(nn.Module):
    """A model of transformers, `body`, that gives one vector a text to a linear `classifier`.

    Takes int32 `[n, length]` of token ids with `PADDING` behind them. `pooling` makes one vector of
    those of all tokens: that of the first one (`cls`), their `mean`, or that of the `last` one. A
    pooler of the model's own, trained on whatever the model was, is left out.
    """

    takes_texts = True

    def __init__(self, body: nn.Module, *, pooling: str) -> None:
        super().__init__()
        self.body = body
        self.pooling = pooling
        config = cast(Any, body).config
        self.padding_id = getattr(config, "pad_token_id", None) or 0
        self.classifier = nn.Linear(config.hidden_size, _CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        """Logits `[n, classes]`."""
        logits: Tensor = self.classifier(self.features(ids))
        return logits

    def features(self, ids: Tensor) -> Tensor:
        """One vector a text `[n, features]`; of a text without tokens that of a padding token."""
        return pooled(*self._states(ids), self.pooling)

    def features_of(self, ids: Tensor, layers: Mapping[str, nn.Module]) -> dict[str, Tensor]:
        """Such vectors of what `layers` give, in their order, and as `head` the `features`.

        Layers that give other than a vector a token are left out. No other thread may run the model
        meanwhile.
        """
        with outputs_of(layers) as found:
            states, mask = self._states(ids)
        of_tokens = {
            name: found[name]
            for name in layers
            if name in found and found[name].shape[:2] == states.shape[:2]
        }
        every = {**of_tokens, HEAD: states}
        return {name: pooled(each, mask, self.pooling) for name, each in every.items()}

    def _states(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors of all tokens `[n, length, features]`, and which the text has `[n, length]`."""
        ids = narrowed(ids)
        if ids.ndim == 3:
            mask, given = self._mixed(ids)
        else:
            mask = _with_a_token(ids >= 0)
            given = {"input_ids": self._filled(ids)}
        return self.body(**given, attention_mask=mask.long()).last_hidden_state, mask

    def _filled(self, ids: Tensor) -> Tensor:
        return ids.where(ids >= 0, self.padding_id).long()

    def _mixed(self, pairs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Of two texts [n, 3, length] the mask of the longer one, and their embeddings mixed."""
        first, second, shares = pairs.unbind(dim=1)
        embed = cast(Any, self.body).get_input_embeddings()
        one, other = embed(self._filled(first)), embed(self._filled(second))
        share = (shares.to(one.dtype) / SHARE_ONE)[..., None]
        mask = _with_a_token((first >= 0) | (second >= 0))
        return mask, {"inputs_embeds": share * one + (1 - share) * other}


def narrowed(ids: Tensor) -> Tensor:
    """Rows of tokens `[n, length]`, or pairs, without columns in which all are padding.

    As wide as `width_for` says, so that rows have the same bits wherever they are computed.
    """
    if ids.is_meta or torch.compiler.is_compiling() or torch.onnx.is_in_onnx_export():
        return ids
    return ids[..., : width_for(max(text_lengths(ids), default=0))]


def _with_a_token(mask: Tensor) -> Tensor:
    """The mask `[n, length]`; of a text without tokens its first column counts."""
    first = torch.zeros_like(mask)
    first[:, 0] = True
    return mask | (first & ~mask.any(dim=1, keepdim=True))


def pooled(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One vector of those of a text's tokens: `states` [n, length, features], `mask` [n, length].

    Raises `ValueError` for an unknown `pooling`.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "mean":
        weights = mask[..., None].to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)
    if pooling == "last":
        last = mask.sum(dim=1) - 1
        return states[torch.arange(len(states), device=states.device), last]
    raise ValueError(f"pooling must be cls, mean or last, got {pooling!r}")


def build(described: str) -> TextModel:
    """The model that `hugging_face.read_config` describes, with random values.

    Raises `BenchError` where no such model can be made.
    """
    said = json.loads(described)
    config = check_known(said["config"])
    transformers = import_transformers()
    config.use_cache = False
    try:
        body = transformers.AutoModel.from_config(config, trust_remote_code=False)
    except Exception as error:  # transformers raises almost anything
        reason = bounded(str(error).partition("\n")[0], 300)
        raise BenchError(f"transformers cannot build this {config.model_type}: {reason}") from error
    if getattr(body, "pooler", None) is not None:
        body.pooler = None
    if not hasattr(config, "hidden_size"):
        raise BenchError(f"models of type {config.model_type} give no vector a token")
    pooling = said["pooling"] or ("last" if _reads_forward(config, body) else "cls")
    return TextModel(body, pooling=pooling)


def _reads_forward(config: Any, body: nn.Module) -> bool:
    """Whether a token sees only those in front of it, so that the last one has seen all."""
    transformers = import_transformers()
    causal = transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    masked = transformers.MODEL_FOR_MASKED_LM_MAPPING
    kind = type(config)
    return kind in causal and kind not in masked


def text_groups(model: TextModel) -> tuple[LayerGroup, ...]:
    """Embeddings, one group a block, norms behind them, the head; all in front of the head runs
    at once."""
    body = model.body
    blocks = _blocks(body)
    names = [name for name, _ in body.named_parameters(remove_duplicate=False)]
    names += [name for name, _ in body.named_buffers(remove_duplicate=False)]
    owned: dict[str, list[str]] = {}
    for name in names:
        owned.setdefault(_group_of(name, body, blocks), []).append(f"{BODY}.{name}")
    in_head = [f"{CLASSIFIER}.weight", f"{CLASSIFIER}.bias"]
    groups: list[LayerGroup] = []
    for name in _ordered(owned):
        members = owned[name]
        others = [each for other, own in owned.items() if other != name for each in own]
        groups.append(
            LayerGroup(
                name=name,
                prefixes=prefixes_of(members, [*others, *in_head]),
                run=None if groups else _run_body,
                steps=() if groups else (_run_body,),
            )
        )
    return (*groups, layer_group(HEAD, CLASSIFIER))


def _run_body(model: nn.Module, ids: Tensor) -> Tensor:
    return cast(TextModel, model).features(ids)


def _blocks(body: nn.Module) -> str | None:
    """The name of the list of the model's blocks; None where there is none."""
    lists = [
        name
        for name, module in body.named_modules()
        if isinstance(module, nn.ModuleList)
        and len(module)
        and len({type(each) for each in module}) == 1
    ]
    return min(lists, key=lambda name: name.count("."), default=None)


EMBEDDINGS, NORM, ENCODER = "embeddings", "norm", "encoder"


def _group_of(name: str, body: nn.Module, blocks: str | None) -> str:
    parts = [child for child, _ in body.named_children()]
    own = parts.index(name.partition(".")[0]) if name.partition(".")[0] in parts else 0
    if blocks is None:
        return EMBEDDINGS if own == 0 else ENCODER
    if name.startswith(f"{blocks}."):
        number = name.removeprefix(f"{blocks}.").partition(".")[0]
        return f"block{int(number) + 1}"
    return NORM if own > parts.index(blocks.partition(".")[0]) else EMBEDDINGS


def _ordered(names: Sequence[str] | dict[str, Any]) -> list[str]:
    def place(name: str) -> tuple[int, int]:
        number = name.removeprefix("block")
        middle = (1, int(number)) if number.isdigit() else (1, 0)
        return {EMBEDDINGS: (0, 0), NORM: (2, 0)}.get(name, middle)

    return sorted(names, key=place)


def save_weights(folder: Path, destination: Path) -> None:
    """Save the tensors of a folder's model by the names of `TextModel`, without a classifier.

    Raises `WeightsError` where they are not those of the model.
    """
    transformers = import_transformers(f"hf/{folder}")
    config = check_known(read_json(folder / CONFIG_FILE))
    try:
        body, told = transformers.AutoModel.from_pretrained(
            folder,
            config=config,
            trust_remote_code=False,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            torch_dtype=torch.float32,
        )
    except Exception as error:  # transformers raises almost anything
        reason = bounded(str(error).partition("\n")[0], 300)
        raise WeightsError(f"the weights in {folder} cannot be read: {reason}") from error
    missing = [name for name in told["missing_keys"] if not name.startswith("pooler")]
    wrong = [*missing, *(str(each) for each in told["mismatched_keys"])]
    if wrong:
        raise WeightsError(
            f"the weights in {folder} are not those of the model in its {CONFIG_FILE}: "
            f"{len(wrong)} tensors are missing or of another shape, such as {wrong[0]}"
        )
    if getattr(body, "pooler", None) is not None:
        body.pooler = None
    tensors = {f"{BODY}.{name}": tensor for name, tensor in body.state_dict().items()}
    save_tensors(tensors, destination)
