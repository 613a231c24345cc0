"""Reading files of weights without trusting them, and fitting them to a model."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import WeightsError

WRAPPER_KEYS = ("state_dict", "model", "model_state", "model_state_dict", "net", "ema")
"""Under one of these, training programs put the state dict into a larger file."""

_PREFIXES = re.compile(r"^(?:(?:module|model|backbone|net|_orig_mod)\.)+")
_SHOWN = 5
_MAX_NESTING = 4
"""Wrappers within wrappers; a pickled dictionary can hold itself."""
_LARGEST_GRID = 64
"""How many times more positions than the model a file of position embeddings may have."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors by name in a .safetensors file or one that `torch.save` wrote.

    Nothing that is pickled in the file is executed. Raises `WeightsError` if the file is missing,
    damaged, holds anything but tensors and plain containers, or holds no state dict.
    """
    if not path.is_file():
        raise WeightsError(f"weights file not found: {path}")
    try:
        content = _read(path)
    except Exception as error:  # a damaged file raises nearly anything
        raise WeightsError(f"cannot read the weights file {path}: {_cause(error)}") from error
    state = _unwrap(content)
    if state is None:
        raise WeightsError(
            f"{path} holds no state dict (tensors by name, plain or under one of the keys "
            f"{', '.join(WRAPPER_KEYS)}); write it with torch.save(model.state_dict(), path)"
        )
    return state


def _read(path: Path) -> Any:
    if path.suffix == ".safetensors" or _begins_as_safetensors(path):
        from bench.models.tensor_files import read_if_whole

        return read_if_whole(path)
    strange = _strange(path)
    if strange is not None:
        raise WeightsError(strange)
    return torch.load(path, map_location="cpu", weights_only=True)


def _begins_as_safetensors(path: Path) -> bool:
    """Whatever its suffix: the length of a header that fits into the file, and a mapping."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size


_STRANGERS = (
    (b"\x89HDF", "an HDF5 file, as Keras writes"),
    (b"version https://git-lfs", "a pointer of Git LFS and not the file itself: git lfs pull"),
    (b"<", "a page of HTML or XML, as a download that failed leaves"),
    (b"\x08", "an ONNX or TensorFlow file"),
    (b"\x93NUMPY", "an array of NumPy"),
    (b"GGUF", "a GGUF file"),
    (b"\x1f\x8b", "a gzip archive, which must be unpacked first"),
)
_BEGINNINGS = (b"PK\x03\x04", b"\x80")
"""Of what `torch.save` writes: a zip archive, or in its old form pickles or a tar archive."""


def _strange(path: Path) -> str | None:
    """What a file is that `torch.save` cannot have written, by its first bytes; None if it can."""
    with path.open("rb") as file:
        start = file.read(300)
    if not start:
        return "it is empty"
    if start.startswith(_BEGINNINGS) or start[257:262] == b"ustar":
        return None
    lowered = start.lstrip().lower()
    named = [text for first, text in _STRANGERS if lowered.startswith(first.lower())]
    text = named[0] if named else f"neither (it begins with {start[:12]!r})"
    return f"it must be a file of torch.save or safetensors, but is {text}"


def _cause(error: Exception) -> str:
    if isinstance(error, WeightsError):
        return str(error)
    text = str(error)
    refused = re.search(r"(?:GLOBAL|Unsupported (?:class|global))[:\s]+`?([\w.]+)", text)
    if "weights_only" in text or refused:
        what = f" ({refused[1]})" if refused else ""
        return (
            f"it holds pickled objects other than tensors{what}, which could run code when "
            "loaded; write the state dict alone with torch.save(model.state_dict(), path)"
        )
    first_line = text.strip().partition("\n")[0]
    return f"it is damaged, or not a file of torch.save or safetensors ({first_line})"


def _unwrap(content: object, depth: int = 0) -> dict[str, Tensor] | None:
    if not isinstance(content, Mapping) or depth > _MAX_NESTING:
        return None
    inner = (_unwrap(content[key], depth + 1) for key in WRAPPER_KEYS if key in content)
    for state in inner:
        if state is not None:
            return state
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return tensors or None


def load_weights(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    origin: str,
    classifiers: Collection[str],
    with_classifiers: bool,
    optional: Collection[str] = (),
) -> None:
    """Copy `state` into `model`, whose names it must cover exactly.

    `classifiers` names the final layers: without `with_classifiers` they are left as they are,
    whatever the file has for them. Submodules and tensors in `optional` may be absent from it.
    Prefixes that wrappers leave (`module.`, `_orig_mod.` …) are dropped, the differences between
    versions of the library evened out, and position embeddings interpolated to the model's size.

    Raises `WeightsError`, naming `origin`, how many there are of each kind and up to five examples,
    for names that are missing, unexpected or of another shape, and for values that are of another
    kind or not finite.
    """
    targets = model.state_dict(keep_vars=True)
    fitted = check_weights(
        model,
        state,
        origin=origin,
        classifiers=classifiers,
        with_classifiers=with_classifiers,
        optional=optional,
    )
    with torch.no_grad():
        for name, tensor in fitted.items():
            targets[name].copy_(tensor)


def check_weights(
    model: nn.Module,
    state: Mapping[str, Tensor],
    *,
    origin: str,
    classifiers: Collection[str],
    with_classifiers: bool,
    optional: Collection[str] = (),
) -> dict[str, Tensor]:
    """What `load_weights` would copy, by the model's names; raises as it does, changes nothing.

    The parameters of `model` may be without values.
    """
    targets = model.state_dict(keep_vars=True)
    state = _renamed(state, targets)
    _check_plain(state, origin)
    state = _resampled(state, model)
    if not with_classifiers:
        targets = _without(targets, classifiers)
        state = _without(state, classifiers)
    absent = [part for part in optional if not any(_below(name, part) for name in state)]
    targets = _without(targets, absent)
    _check_names(state, targets, origin)
    _check_kinds(state, targets, origin)
    state = {name: tensor.to(targets[name].dtype) for name, tensor in state.items()}
    _check_finite(state, origin)
    return state


def _without(named: Mapping[str, Tensor], parts: Collection[str]) -> dict[str, Tensor]:
    return {
        name: tensor
        for name, tensor in named.items()
        if not any(_below(name, part) for part in parts)
    }


def _below(name: str, part: str) -> bool:
    return f"{name}.".startswith(f"{part}.")


def _renamed(state: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
    candidates = ({name: name for name in state}, {name: _PREFIXES.sub("", name) for name in state})
    best = max(candidates, key=lambda names: len(targets.keys() & set(names.values())))
    return {_current_name(new): state[old] for old, new in best.items()}


def _current_name(name: str) -> str:
    """The name that today's torchvision has for one in its published DenseNet and ViT files."""
    name = re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", name)
    name = name.replace(".mlp.linear_1.", ".mlp.0.")
    return name.replace(".mlp.linear_2.", ".mlp.3.")


def _resampled(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """`state` with a ViT's position embeddings interpolated to the image size of `model`."""
    from torchvision.models.vision_transformer import VisionTransformer, interpolate_embeddings

    embedding = state.get("encoder.pos_embedding")
    if not isinstance(model, VisionTransformer) or embedding is None:
        return state
    largest = _LARGEST_GRID * model.encoder.pos_embedding.numel()
    if not embedding.is_floating_point() or embedding.numel() > largest:
        return state  # the checks of shapes and kinds tell
    try:
        resampled: dict[str, Tensor] = interpolate_embeddings(
            model.image_size, model.patch_size, OrderedDict(state)
        )
    except ValueError:  # not a square grid with a class token: the check of shapes tells
        return state
    return resampled


def _check_names(state: Mapping[str, Tensor], targets: Mapping[str, Tensor], origin: str) -> None:
    if not targets.keys() & state.keys():
        raise WeightsError(
            f"{origin} has no parameter in common with the backbone; it has "
            f"{_some(state)}, the backbone has {_some(targets)}"
        )
    # files from before BatchNorm counted its batches lack the counter; it changes no output
    missing = [
        name for name in targets if name not in state and not name.endswith(".num_batches_tracked")
    ]
    unexpected = [name for name in state if name not in targets]
    wrong = [
        f"{name} (file {list(state[name].shape)}, backbone {list(targets[name].shape)})"
        for name in targets
        if name in state and state[name].shape != targets[name].shape
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "wrong shape": wrong}
    found = [f"{kind} ({len(names)}): {_some(names)}" for kind, names in kinds.items() if names]
    if found:
        raise WeightsError(f"{origin} does not fit the backbone; {'; '.join(found)}")


def _check_plain(state: Mapping[str, Tensor], origin: str) -> None:
    """Sparse, quantised and empty shells of tensors have no values that could be copied."""
    odd = [
        name
        for name, tensor in state.items()
        if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type != "cpu"
    ]
    if odd:
        raise WeightsError(
            f"{origin} holds tensors that are sparse, quantised or without values: {_some(odd)}; "
            "write a plain float state dict"
        )


def _check_kinds(state: Mapping[str, Tensor], targets: Mapping[str, Tensor], origin: str) -> None:
    wrong = [
        f"{name} (file {_dtype(tensor)}, backbone {_dtype(targets[name])})"
        for name, tensor in state.items()
        if tensor.is_complex()
        or (targets[name].is_floating_point() and not tensor.is_floating_point())
    ]
    if wrong:
        raise WeightsError(f"{origin} has values of another type: {_some(wrong)}")


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _check_finite(state: Mapping[str, Tensor], origin: str) -> None:
    bad = [name for name, tensor in state.items() if not torch.isfinite(tensor).all()]
    if bad:
        raise WeightsError(
            f"{origin} has values that are not finite (NaN or infinity): {_some(bad)}"
        )


def _some(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
