"""Folders of transformers models: local ones, or of the Hugging Face hub; no torch at import.

Of such a folder only JSON and safetensors are read: nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from bench.errors import BenchError, WeightsError, bounded, import_extra
from bench.keys import known_digest

PREFIX = "hf/"
"""`hf/NAME` is a model of the hub, `hf/PATH` a local folder."""

CONFIG_FILE, TOKENIZER_FILE = "config.json", "tokenizer.json"
INDEX_FILE = "model.safetensors.index.json"
POOLING_FILE, LENGTH_FILE = "1_Pooling/config.json", "sentence_bert_config.json"
_FETCHED = (
    CONFIG_FILE,
    POOLING_FILE,
    LENGTH_FILE,
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "spiece.model",
    "*.safetensors",
    INDEX_FILE,
)

USUAL_LENGTH = 256
"""Tokens of a text where neither suite nor model say; longer ones cost much and are rare."""
_MAX_JSON = 2**26


def import_transformers(backbone: str | None = None) -> Any:
    """The module transformers; raises `MissingExtraError` if it is not installed."""
    needed_for = "this text backbone" if backbone is None else f"the backbone {backbone}"
    transformers = import_extra("transformers", needed_for=needed_for, extra="text")
    transformers.utils.logging.disable_progress_bar()
    return transformers


def folder_of(backbone: str) -> Path:
    """The folder of `hf/PATH`, or of `hf/NAME`, which is fetched once.

    Raises `WeightsError` that says how to do without the hub if it cannot be had.
    """
    place = backbone.removeprefix(PREFIX)
    local = local_folder(place, CONFIG_FILE, of="a transformers model")
    if local is not None:
        return local
    import_transformers(backbone)
    return fetch_folder(place, _FETCHED, mend=f"backbone: {PREFIX}PATH")


def local_folder(place: str, config: str, *, of: str) -> Path | None:
    """The folder at `place` that holds a model's `config`; None for what is a name of the hub.

    Raises `WeightsError` for a place on this machine that is no folder `of` such a model.
    """
    local = Path(place).expanduser()
    if (local / config).is_file():
        return local
    if local.exists() or place.startswith((".", "/", "~")):
        raise WeightsError(f"{local} is no folder of {of}: it has no {config}")
    return None


@lru_cache(maxsize=64)
def fetch_folder(name: str, files: tuple[str, ...], *, mend: str) -> Path:
    """The folder of such files of a model of the hub, fetched once.

    Raises `WeightsError` with what to write instead, `mend`, if it cannot be had.
    """
    hub = importlib.import_module("huggingface_hub")
    try:
        found = hub.snapshot_download(name, allow_patterns=list(files))
    except Exception as error:  # the hub's client raises errors of several network libraries
        reason = bounded(str(error).partition("\n")[0], 300)
        raise WeightsError(
            f"cannot fetch {name!r} from the hub: {type(error).__name__}: {reason}. Download it "
            f"elsewhere and name its folder: {mend}"
        ) from error
    return Path(found)


def read_json(path: Path) -> dict[str, Any]:
    """An object in a JSON file; raises `WeightsError` for anything else."""
    try:
        if path.stat().st_size > _MAX_JSON:
            raise ValueError("it is too large")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it must hold an object")
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    return content


def read_config(folder: Path) -> str:
    """What describes the model of a folder, as JSON: its own config, and how it pools."""
    config = read_json(folder / CONFIG_FILE)
    if not isinstance(config.get("model_type"), str):
        raise WeightsError(f"{folder / CONFIG_FILE} names no model_type")
    return json.dumps({"config": config, "pooling": _pooling(folder)}, sort_keys=True)


def _pooling(folder: Path) -> str | None:
    """What a sentence encoder's folder says; None: it depends on the kind of model."""
    if not (folder / POOLING_FILE).is_file():
        return None
    said = read_json(folder / POOLING_FILE)
    modes = {
        "cls": "pooling_mode_cls_token",
        "mean": "pooling_mode_mean_tokens",
        "last": "pooling_mode_lasttoken",
    }
    return next((mode for mode, key in modes.items() if said.get(key)), None)


def read_tokenizer(folder: Path) -> str:
    """The tokenizer of a folder as JSON of the library `tokenizers`.

    Raises `WeightsError` where there is none that is understood.
    """
    path = folder / TOKENIZER_FILE
    if path.is_file():
        return json.dumps(read_json(path), ensure_ascii=False)
    return _converted(folder, known_digest(folder / CONFIG_FILE))


@lru_cache(maxsize=64)
def _converted(folder: Path, _content: str) -> str:
    """Of a folder with the files of an older version alone."""
    transformers = import_transformers(f"{PREFIX}{folder}")
    try:
        found = transformers.AutoTokenizer.from_pretrained(
            folder, trust_remote_code=False, local_files_only=True
        )
        return str(found.backend_tokenizer.to_str())
    except Exception as error:  # transformers raises almost anything
        reason = bounded(str(error).partition("\n")[0], 300)
        raise WeightsError(f"{folder} has no tokenizer that can be read: {reason}") from error


def usual_length(folder: Path) -> int:
    """How many tokens of a text the model of a folder sees where the suite does not say."""
    if (folder / LENGTH_FILE).is_file():
        said = read_json(folder / LENGTH_FILE).get("max_seq_length")
        if isinstance(said, int) and said > 0:
            return said
    return min(USUAL_LENGTH, most_positions(folder) or USUAL_LENGTH)


def most_positions(folder: Path) -> int | None:
    """How many tokens the positions of a folder's model reach; None where nothing limits them."""
    config = read_json(folder / CONFIG_FILE)
    for key in ("max_position_embeddings", "n_positions"):
        found = config.get(key)
        if isinstance(found, int) and found > 0:
            # RoBERTa and its kin count positions from behind their padding's.
            offset = 2 if config.get("model_type") in _SHIFTED else 0
            return found - offset
    return None


_SHIFTED = ("roberta", "xlm-roberta", "camembert", "mpnet", "data2vec-text", "xlm-roberta-xl")


def weights_digest(folder: Path) -> str:
    """A hash of the tensors in a folder and of what they are of.

    Raises `WeightsError` where there are none.
    """
    parts = sorted(folder.glob("*.safetensors"))
    if not parts:
        others = [each.name for each in folder.glob("*.bin")]
        why = (
            f" ({', '.join(others)} holds pickled objects, which could run code)" if others else ""
        )
        raise WeightsError(
            f"{folder} has no weights in safetensors{why}: save them with "
            "model.save_pretrained(FOLDER), or set weights: none"
        )
    digests = json.dumps([known_digest(part) for part in (folder / CONFIG_FILE, *parts)])
    return hashlib.sha256(digests.encode()).hexdigest()


def _data_alone(config: dict[str, Any]) -> dict[str, Any]:
    """A config without what could name code to fetch; `ValueError` for endless layers in it."""
    found = {}
    for key, value in config.items():
        if key in _NAMING_CODE or key.startswith("_attn"):
            continue
        if "layer" in key and isinstance(value, int) and value > _MOST_LAYERS:
            raise ValueError(f"{key} is {value:,}, and may be {_MOST_LAYERS:,} at most")
        found[key] = _data_alone(value) if isinstance(value, dict) else value
    return found


_NAMING_CODE = ("auto_map", "attn_implementation", "experts_implementation", "quantization_config")
_MOST_LAYERS = 1024


def check_known(config: dict[str, Any]) -> Any:
    """The config as an object of transformers; raises `BenchError` for models of others' code."""
    transformers = import_transformers()
    kind = config.get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise BenchError(
            f"transformers {transformers.__version__} has no models of type {kind!r}, and code "
            "that comes with weights is never run; install a version that knows it"
        )
    try:
        return transformers.CONFIG_MAPPING[kind].from_dict(_data_alone(config))
    except Exception as error:  # transformers raises almost anything
        reason = bounded(str(error).partition("\n")[0], 300)
        raise BenchError(f"{CONFIG_FILE} describes no {kind} model: {reason}") from error
