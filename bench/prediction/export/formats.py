"""The formats of exported files: how each is written, and the code that uses it.

That code stands in the card of every file, and the check before a file is given runs just that.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.data.dataset import InputKind
from bench.data.inputs import PREPROCESSING, Preprocessing
from bench.errors import BenchError, MissingExtraError, bounded
from bench.methods.plan import HEAD, adapter_of
from bench.models.adapters import merge
from bench.models.catalogue import BACKBONES, EFFICIENTNET_LITE0, OUTSIDE_BACKBONES, is_timm
from bench.models.first_layer import COLOURS
from bench.models.heads import PRETRAINED_HEAD
from bench.models.tensor_files import write_tensor_file
from bench.prediction.export.deployed import DTYPES, Deployed, Place, example
from bench.prediction.export.reading import Reading
from bench.prediction.model import TrainedModel
from bench.suite.plugins import entries_of, loaded_plugins
from bench.system.token_rows import PADDING
from bench.system.visible_text import visible

INSIDE: Place = "inside"
BESIDE: Place = "beside"
TOKENIZER_FILE = "tokenizer.json"
LARGEST_ONNX = 1_900_000_000
"""Bytes of values that one file in the format of ONNX can hold: a little less than 2 GiB."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What somebody wants of a file, complete: see `Format`. `kind` is that of the samples."""

    place: Place
    dtype: str
    kind: InputKind = "image"

    @property
    def input_name(self) -> str:
        """What the input of the file is called."""
        if self.kind == "text":
            return "input_ids"
        return "images" if self.place == INSIDE else "inputs"


@dataclass(frozen=True, kw_only=True)
class Code:
    """Lines of Python: what is imported, and the rest."""

    imports: tuple[str, ...]
    lines: tuple[str, ...]


class Format(Protocol):
    """A kind of file. `places` are where the preprocessing can be, the usual one first."""

    @property
    def name(self) -> str: ...

    @property
    def file(self) -> str: ...

    @property
    def places(self) -> tuple[Place, ...]: ...

    @property
    def runtime(self) -> str:
        """Name and version of what runs the file."""

    def check_installed(self) -> None:
        """Raise `MissingExtraError` unless it can be written and run here."""

    def write(self, model: TrainedModel, wish: Wish, folder: Path) -> None:
        """Write the file into `folder`; raises `BenchError` where the network cannot be."""

    def usage(self, model: TrainedModel, wish: Wish) -> Code:
        """Code, to be run beside the file, that defines the function of `Reading`."""


# Files ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Safetensors:
    name: str = "safetensors"
    file: str = "model.safetensors"
    places: tuple[Place, ...] = (BESIDE,)

    @property
    def runtime(self) -> str:
        return f"torch {version('torch')}"

    def check_installed(self) -> None:
        pass

    def write(self, model: TrainedModel, wish: Wish, folder: Path) -> None:
        if model.spec.described is not None:
            raise BenchError(
                "safetensors keeps the values of an image library's own network, and one of texts "
                "or of an image–text model has pooling or a head of its own around it; use "
                "--format onnx or --format torch-export"
            )
        dtype = DTYPES[wish.dtype]
        tensors = {
            name: tensor.to(dtype) if tensor.is_floating_point() else tensor
            for name, tensor in _library_tensors(model).items()
        }
        metadata = {PREPROCESSING: model.preprocessing.to_json()}
        write_tensor_file(tensors, folder / self.file, metadata)

    def usage(self, model: TrainedModel, wish: Wish) -> Code:
        imports, lines = _library_model(model)
        half = wish.dtype == "fp16"
        members = _members(model)
        return _code(
            ("import torch", *imports, "from safetensors.torch import load_file"),
            *lines,
            f'model{".half()" if half else ""}.load_state_dict(load_file("{self.file}"))',
            "model.eval()",
            *([f"members = {members}"] if members else []),
            "",
            "",
            f"def {_answers(model)}(batch):",
            "    with torch.no_grad():",
            f"        found = model(torch.from_numpy(batch){'.half()' if half else ''}).float()",
            *(
                [
                    "        found = torch.stack(",
                    "            [found[:, own].logsumexp(dim=1) for own in members], dim=1",
                    "        )",
                ]
                if members
                else []
            ),
            *_in_units(model),
        )


@dataclass(frozen=True, kw_only=True)
class _TorchExport:
    name: str = "torch-export"
    file: str = "model.pt2"
    places: tuple[Place, ...] = (INSIDE, BESIDE)

    @property
    def runtime(self) -> str:
        return f"torch {version('torch')}"

    def check_installed(self) -> None:
        pass

    def write(self, model: TrainedModel, wish: Wish, folder: Path) -> None:
        with _exporter_quiet(self.name, wish):
            torch.export.save(_program(model, wish), folder / self.file)

    def usage(self, model: TrainedModel, wish: Wish) -> Code:
        return _code(
            ("import torch",),
            f'module = torch.export.load("{self.file}").module()',
            "",
            "",
            f"def {_answers(model)}(batch):",
            "    with torch.no_grad():",
            "        return module(torch.from_numpy(batch)).numpy()",
        )


@dataclass(frozen=True, kw_only=True)
class _Onnx:
    name: str = "onnx"
    file: str = "model.onnx"
    places: tuple[Place, ...] = (INSIDE, BESIDE)

    @property
    def runtime(self) -> str:
        return f"onnxruntime {version('onnxruntime')}"

    def check_installed(self) -> None:
        for package in ("onnx", "onnxscript", "onnxruntime"):
            if find_spec(package) is None:
                raise MissingExtraError(
                    needed_for="the export format onnx", package=package, extra="onnx"
                )

    def write(self, model: TrainedModel, wish: Wish, folder: Path) -> None:
        program = _program(model, wish)
        size = sum(value.nbytes for value in program.state_dict.values())
        with _exporter_quiet(self.name, wish):
            torch.onnx.export(
                program,
                (),
                folder / self.file,
                input_names=[wish.input_name],
                output_names=[_answers(model)],
                external_data=size > LARGEST_ONNX,
                dynamo=True,
                verbose=False,
            )

    def usage(self, model: TrainedModel, wish: Wish) -> Code:
        return _code(
            ("import onnxruntime",),
            "session = onnxruntime.InferenceSession(",
            f'    "{self.file}", providers=["CPUExecutionProvider"]',
            ")",
            "",
            "",
            f"def {_answers(model)}(batch):",
            f'    return session.run(["{_answers(model)}"], {{"{wish.input_name}": batch}})[0]',
        )


FORMATS: Mapping[str, Format] = {
    each.name: each for each in (_Safetensors(), _TorchExport(), _Onnx())
}


def _program(model: TrainedModel, wish: Wish) -> torch.export.ExportedProgram:
    """The traced network, for batches of any number of samples."""
    deployed = Deployed(model, place=wish.place, dtype=wish.dtype).eval()
    names = ("batch", "height", "width") if wish.place == INSIDE else ("batch",)
    sizes = {axis: torch.export.Dim(name, min=1) for axis, name in enumerate(names)}
    if wish.kind == "text":
        sizes[1] = torch.export.Dim("length", min=1, max=model.preprocessing.size)
    sample = example(model, wish.place)
    with _exporter_quiet("torch.export", wish), torch.no_grad():
        return torch.export.export(deployed, (sample,), dynamic_shapes=(sizes,))


@contextmanager
def _exporter_quiet(name: str, wish: Wish) -> Iterator[None]:
    """Neither what torch's exporters say to their makers, nor a traceback of theirs."""
    loggers = [logging.getLogger(each) for each in ("torch", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (OSError, BenchError):
        raise
    except Exception as error:
        cause = _first_cause(error)
        said = next((line for line in str(cause).splitlines() if line.strip()), "")
        mend = "" if wish.kind == "text" else "; --format safetensors works for any network"
        raise BenchError(
            f"the network cannot be exported: {name} says {type(cause).__name__}: "
            f"{visible(bounded(said, 500))}{mend}"
        ) from error
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _first_cause(error: BaseException) -> BaseException:
    """What began it: the exporters wrap errors in advice of many lines."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


# Code -----------------------------------------------------------------------------------------


def usage_code(file: Format, model: TrainedModel, wish: Wish) -> str:
    """Python code that defines `prepare(image)` (or `texts`; not of vectors) and `logits(batch)`.

    Of regression it is `values(batch)` instead, in the targets' own units.
    """
    parts = (_prepare(model.preprocessing, wish.place), file.usage(model, wish))
    imports = sorted({line for part in parts for line in part.imports}, key=_import_order)
    lines = [line for part in parts if part.lines for line in (*part.lines, "", "")]
    return "\n".join([*imports, "", *lines]).rstrip() + "\n"


def _answers(model: TrainedModel) -> str:
    return Reading(outputs=model.outputs).function


def _in_units(model: TrainedModel) -> list[str]:
    """The last lines where a file holds values alone: logits, or numbers in their own units."""
    known = model.outputs.standardised
    if known is None:
        return ["    return found.numpy()"]
    return [
        f"    mean, sd = {list(known.mean)}, {list(known.sd)}",
        "    return found.double().numpy() * sd + mean",
    ]


def _import_order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line


def _prepare(preprocessing: Preprocessing, place: Place) -> Code:
    """A Pillow image (of other channels than RGB an array) as a batch of one; of texts a list."""
    if preprocessing.kind == "vector":
        return _code(())
    if preprocessing.kind == "text":
        return _prepare_texts(preprocessing)
    if preprocessing.channels is not None:
        return _prepare_array(preprocessing, place)
    if place == INSIDE:
        return _code(
            ("import numpy as np",),
            "",
            "def prepare(image):",
            '    return np.array(image.convert("RGB"))[None]',
        )
    size, kept = preprocessing.size, preprocessing.resized_to
    assert kept is not None
    first = round((kept - size) / 2)
    box = (first, first, first + size, first + size)
    return _code(
        ("import numpy as np", "from PIL import Image"),
        "",
        "def prepare(image):",
        '    image = image.convert("RGB")',
        *_RESIZE[str(preprocessing.resize)](kept),
        *([] if size == kept else [f"    image = image.crop({box})"]),
        "    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)",
        *_normalise(preprocessing),
    )


def _prepare_texts(preprocessing: Preprocessing) -> Code:
    """Texts as rows of token ids, with padding behind them."""
    return _code(
        ("import numpy as np", "from tokenizers import Tokenizer"),
        f'tokenizer = Tokenizer.from_file("{TOKENIZER_FILE}")',
        "tokenizer.no_padding()",
        f"tokenizer.enable_truncation({preprocessing.size:d})",
        "",
        "",
        "def prepare(texts):",
        "    rows = [each.ids for each in tokenizer.encode_batch(texts)]",
        f"    batch = np.full((len(rows), max(map(len, rows), default=0) or 1), {PADDING:d})",
        "    for own, ids in zip(batch, rows):",
        "        own[: len(ids)] = ids",
        "    return batch.astype(np.int64)",
    )


def _prepare_array(preprocessing: Preprocessing, place: Place) -> Code:
    """An array [height, width, channels] as a batch of one."""
    if place == INSIDE:
        return _code(
            ("import numpy as np",), "", "def prepare(image):", "    return np.asarray(image)[None]"
        )
    size, kept, form = preprocessing.size, preprocessing.resized_to, preprocessing.form
    assert kept is not None
    first = round((kept - size) / 2)
    each = "np.float32" if form.deep else "np.uint8"
    middle = f"{first}:{first + size}"
    return _code(
        ("import numpy as np", "from PIL import Image"),
        "",
        "def resized(channel):",
        f"    image = Image.fromarray(np.ascontiguousarray(channel, dtype={each}))",
        *_RESIZE[str(preprocessing.resize)](kept),
        "    return np.asarray(image)",
        "",
        "",
        "def prepare(image):",
        f"    # an array of {form.dtype} [height, width, {form.depth}]",
        "    channels = [resized(channel) for channel in np.moveaxis(image, 2, 0)]",
        "    pixels = np.stack(channels, axis=2)",
        *(["    pixels = np.rint(pixels.clip(0, image.max()))"] if form.deep else []),
        f"    pixels = pixels[{middle}, {middle}].astype(np.float32) / np.float32({form.white})",
        *_normalise(preprocessing),
    )


def _normalise(preprocessing: Preprocessing) -> Sequence[str]:
    return (
        f"    mean = np.array({list(preprocessing.mean)}, dtype=np.float32)",
        f"    std = np.array({list(preprocessing.std)}, dtype=np.float32)",
        "    return np.ascontiguousarray(((pixels - mean) / std).transpose(2, 0, 1)[None])",
    )


_RESIZE: Mapping[str, Any] = {
    "squash": lambda side: [f"    image = image.resize({(side, side)}, Image.Resampling.BILINEAR)"],
    "crop": lambda side: [
        "    width, height = image.size",
        "    short = min(width, height)",
        f"    size = int({side:d} * width / short), int({side:d} * height / short)",
        "    image = image.resize(size, Image.Resampling.BILINEAR)",
        f"    left, top = round((size[0] - {side:d}) / 2), round((size[1] - {side:d}) / 2)",
        f"    image = image.crop((left, top, left + {side:d}, top + {side:d}))",
    ],
    "pad": lambda side: [
        f"    scale = {side:d} / max(image.size)",
        "    size = tuple(max(1, round(length * scale)) for length in image.size)",
        "    inside = image.resize(size, Image.Resampling.BILINEAR)",
        f"    image = Image.new(inside.mode, {(side, side)})",
        f"    image.paste(inside, (({side:d} - size[0]) // 2, ({side:d} - size[1]) // 2))",
    ],
}


def _library_tensors(model: TrainedModel) -> Mapping[str, Tensor]:
    """The values of the library's network; raises `BenchError` where it has no place for some."""
    adapter, fitted = model.spec.adapter, model.network.fitted_head
    if fitted is not None and (adapter is not None or not fitted[1].is_linear):
        raise BenchError(
            "safetensors keeps the values of the library's own network, whose classifier is one "
            "linear layer on its features, and this trial's is not; use --format onnx or --format "
            "torch-export"
        )
    if adapter is None:
        return model.module.state_dict()
    merged = deepcopy(model.module)
    merge(merged)
    tensors = merged.state_dict()
    if tensors.keys() != {name for name in model.module.state_dict() if adapter_of(name) is None}:
        raise BenchError(
            f"safetensors keeps the values of the library's own network, and {adapter.name} adds "
            "to it what that has no place for; use --format onnx or --format torch-export"
        )
    return tensors


def _library_model(model: TrainedModel) -> tuple[list[str], list[str]]:
    """Imports, and lines that make the library's plain `model`, with its values still to come."""
    spec = model.spec
    classes = len(spec.weights_classes or ()) if _members(model) else spec.num_classes
    if spec.backbone in OUTSIDE_BACKBONES:
        return (
            [
                "from bench.models.catalogue import OUTSIDE_BACKBONES",
                "from bench.suite.plugins import load_plugin",
            ],
            [
                f"load_plugin({_plugin_place(spec.backbone)!r})",
                f"model = OUTSIDE_BACKBONES.get({spec.backbone!r}).function({spec.image_size:d})",
                *_first_layers(model),
                *_classifier(model, always=True),
            ],
        )
    if is_timm(spec.backbone) or spec.backbone == EFFICIENTNET_LITE0:
        from bench.models.timm_models import pretrained_config, timm_name

        config = pretrained_config(spec.backbone)
        resampled = config.fixed_input_size and spec.image_size != config.input_size[-1]
        return (
            ["import timm"],
            [
                f"model = timm.create_model({timm_name(spec.backbone)!r}, num_classes={classes:d})",
                *([f"model.set_input_size(img_size={spec.image_size:d})"] if resampled else []),
                *_first_layers(model),
                *_classifier(model),
            ],
        )
    arguments = {
        "vit": f", image_size={spec.image_size:d}",
        "maxvit": f", input_size={(spec.image_size, spec.image_size)}",
        "inception": ", init_weights=False",
        "googlenet": ", init_weights=False",
    }.get(BACKBONES[spec.backbone].family, "")
    made = f"model = get_model({spec.backbone!r}, num_classes={classes:d}{arguments})"
    return ["from torchvision.models import get_model"], [
        made,
        *_first_layers(model),
        *_classifier(model),
    ]


def _first_layers(model: TrainedModel) -> Iterator[str]:
    """Lines that let the library's first layers take other channels than red, green and blue."""
    channels = model.spec.channels
    if channels == COLOURS:
        return
    first = model.network.groups[0]
    for name, layer in model.module.named_modules():
        if isinstance(layer, nn.Conv2d) and first.owns(name) and layer.in_channels == channels:
            shape = tuple(layer.weight.shape)
            yield f"first = model.get_submodule({name!r})"
            yield f"first.in_channels = {channels:d}"
            yield f"first.weight = torch.nn.Parameter(torch.zeros({shape}))"


def _classifier(model: TrainedModel, *, always: bool = False) -> list[str]:
    """The line that puts a classifier on the model that the library does not know."""
    if model.network.fitted_head is not None:
        prefix, fitted = model.network.fitted_head
        linear = f"torch.nn.Linear({fitted.features:d}, {fitted.outputs:d})"
        return [f"model.set_submodule({prefix[:-1]!r}, {linear})"] if always else []
    head = model.network.groups[-1]
    assert head.name == HEAD
    layers = [
        name
        for name, layer in model.module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and head.owns(name)
    ]
    name = layers[-1]
    above = name.rpartition(".")[0]
    own = model.module.get_submodule(above) if above else None
    own_layers = model.spec.head not in ("linear", PRETRAINED_HEAD) and len(layers) > 1
    if own_layers and isinstance(own, nn.Sequential):
        made = ", ".join(f"torch.nn.{layer!r}" for layer in own)
        return [f"model.set_submodule({above!r}, torch.nn.Sequential({made}))"]
    if always:
        return [f"model.set_submodule({name!r}, torch.nn.{model.module.get_submodule(name)!r})"]
    return []


def _members(model: TrainedModel) -> list[list[int]]:
    """Of a classifier that came with the weights, the outputs that mean each class."""
    index, padding = model.network.class_index, model.network.class_padding
    if index is None or padding is None:
        return []
    return [row[~own].tolist() for row, own in zip(index, padding, strict=True)]


def _plugin_place(backbone: str) -> str:
    for plugin in loaded_plugins():
        if any(r is OUTSIDE_BACKBONES and name == backbone for r, name in entries_of(plugin)):
            return plugin.name if plugin.installed else plugin.place
    raise BenchError(
        f"the backbone {backbone} was not registered by a plugin, so no other process can build "
        "it; put its code into a file and load it with --plugin FILE, or use another format"
    )


def _code(imports: Sequence[str], *lines: str) -> Code:
    return Code(imports=tuple(imports), lines=lines)
