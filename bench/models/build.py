"""From a backbone's name to a network: the library's model, its weights, its head."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from bench.errors import PlanError, WeightsError
from bench.methods.penalties import Discriminator
from bench.methods.plan import FITTED, HEAD, LayerGroups, Term
from bench.models.catalogue import (
    BACKBONES,
    EFFICIENTNET_LITE0,
    OUTSIDE_BACKBONES,
    check_backbone,
    check_image_size,
    described_family,
    is_timm,
    native_size,
    outside_traits,
    sample_shape,
)
from bench.models.first_layer import COLOURS, adapt_first_layer
from bench.models.heads import (
    HEADS,
    PRETRAINED_HEAD,
    HeadShape,
    build_head,
    class_members,
)
from bench.models.image_text.folders import is_image_text
from bench.models.randomness import keyed_initialisation
from bench.models.weights import NONE, Weights, check_unchanged, usual_size
from bench.suite.registry import remembered

if TYPE_CHECKING:
    import torch
    from torch import nn

    from bench.models.network import LayerGroup, Network, Outline

LIBRARY_CLASSES = 1000
"""The trunk is made with the library's own classifier, so that its random values do not depend on
how many classes the task has."""


class HeadEntry(Protocol):
    """A suite's entry for the head: a name in `HEADS` with its options, or `pretrained`."""

    @property
    def name(self) -> str: ...

    @property
    def options(self) -> Mapping[str, Any]: ...


def build_network(
    backbone: str,
    *,
    weights: Weights,
    head: HeadEntry,
    num_classes: int,
    seed: int,
    image_size: int | None = None,
    channels: int = COLOURS,
    class_map: Mapping[str, Sequence[int | str]] | None = None,
    classes: Sequence[str] | None = None,
    adapter: Term | None = None,
    source_head: bool = False,
    discriminators: Sequence[Discriminator] = (),
) -> Network:
    """The backbone with `weights` and a new `head` for `num_classes` classes, on the CPU.

    What is initialised at random depends on `seed` alone: the head on (seed, widths), the trunk on
    (seed, backbone), both untouched by earlier draws, which go on undisturbed. `image_size` (if
    None the weights' own, else the backbone's usual one) fixes the position embeddings of models
    that have them; the weights' are interpolated. The head `pretrained` keeps the classifier of the
    weights and needs `class_map` and `classes`. For other `channels` than red, green and blue its
    first layer is adapted. An `adapter` is added to the trunk, from `seed`. With a `source_head`
    the classifier of the weights, whose classes must be known, stays beside the new one.
    `discriminators` are a group in front of the head's, from `seed`.

    Raises `BenchError` for an unknown backbone or an impossible image size, `WeightsError` for
    weights that do not fit, `DataError` for a class map that does not.
    """
    from bench.models.network import Network

    assert weights.path is not None or weights.name == NONE, f"{weights.name} was not obtained"
    if image_size is None:
        image_size = weights.input_size or usual_size(backbone)
    if weights.described is None:  # else what its name stands for need not be here any more
        check_image_size(backbone, image_size)
    pretrained = head.name == PRETRAINED_HEAD
    members = _members(weights, class_map, classes) if pretrained else None
    with keyed_initialisation(seed, "trunk"):
        model = _library_model(backbone, image_size, weights.described)
    groups = layer_groups(backbone, model)
    with_classifiers = pretrained or source_head
    if with_classifiers:
        replace_classifiers(model, groups, HeadShape(), len(weights.classes or ()), seed)
    if weights.path is not None:
        _load(backbone, model, groups, weights, with_classifiers=with_classifiers)
    kept = _kept_classifier(model, groups) if source_head else None
    if not pretrained:
        _put_head(model, groups, head, num_classes, seed, backbone)
    if is_timm(backbone):
        from bench.models.timm_models import check_groups, fit_image_size

        fit_image_size(model, backbone, image_size)
        check_groups(model, groups, image_size=image_size)
    adapt_first_layer(model, groups, channels, drawn=seed if weights.path is None else None)
    _keep_inputs_intact(model, groups)
    if kept is not None:
        groups = _with_source_head(model, groups, kept)
    groups = _attach(adapter, model, groups, backbone, seed)
    network = Network(
        model,
        groups,
        image_size=image_size,
        class_members=members,
    )
    shape = sample_shape(backbone, image_size)
    sample_of = (channels, *shape[1:]) if len(shape) == 3 else shape
    _count_features(network, sample_of)
    if not discriminators:
        return network
    features = _width_at_head(network, sample_of)
    beside = _with_discriminators(
        model, groups, discriminators, features=features, classes=num_classes, seed=seed
    )
    return Network(model, beside, image_size=image_size, class_members=members)


@remembered
def check_channels(backbone: str, channels: int) -> None:
    """Raise `BenchError` where `build_network` would for images of so many channels."""
    model = structure(backbone)
    adapt_first_layer(model, layer_groups(backbone, model), channels, drawn=None)


@remembered
def layer_group_names(backbone: str) -> LayerGroups:
    """The names of the backbone's layer groups, input to output; builds no weights."""
    from bench.models.adapters import Body
    from bench.models.network import Network

    check_backbone(backbone)
    model = structure(backbone)
    groups = layer_groups(backbone, model)
    network = Network(model, groups, image_size=native_size(backbone) or 1)
    norms = dict(Body(model, groups).norms())
    return LayerGroups(
        (group.name for group in groups),
        map(network.address_of, norms),
        (
            network.address_of(f"{name}.{own}")
            for name, layer in norms.items()
            for own, parameter in layer._parameters.items()
            if parameter is not None
        ),
    )


def outline(
    backbone: str,
    head: HeadEntry,
    adapter: Term | None = None,
    *,
    source_head: bool = False,
    discriminators: tuple[Discriminator, ...] = (),
) -> Outline:
    """The outline of the backbone with this head; the same for any number of classes.

    Raises `PlanError` for an adapter that the backbone has no place for.
    """
    return _outline(backbone, *layers_of(head), adapter, source_head, discriminators)


def layers_of(head: HeadEntry) -> tuple[str, tuple[tuple[str, Any], ...]]:
    """Name and options, which are hashable, of a head with the same layers."""
    if head.name in HEADS and (like := HEADS.get(head.name).traits.layers_of) is not None:
        return like, ()
    return head.name, tuple(sorted(head.options.items()))


@dataclass(frozen=True)
class _Head:
    name: str
    options: Mapping[str, Any]


@remembered
def _outline(
    backbone: str,
    head: str,
    options: tuple[tuple[str, Any], ...],
    adapter: Term | None,
    source_head: bool,
    discriminators: tuple[Discriminator, ...],
) -> Outline:
    return valueless_network(
        backbone,
        _Head(head, dict(options)),
        2,
        0,
        adapter,
        source_head=source_head,
        discriminators=discriminators,
    ).outline


def outline_network(
    backbone: str,
    head: str,
    options: tuple[tuple[str, Any], ...],
    num_classes: int,
    adapter: Term | None = None,
) -> Network:
    """`valueless_network` with a head whose options are hashable."""
    return valueless_network(backbone, _Head(head, dict(options)), num_classes, 0, adapter)


def head_start(
    backbone: str, head: HeadEntry, *, num_classes: int, seed: int
) -> dict[str, torch.Tensor]:
    """The parameters with which `build_network` starts a new head."""
    network = valueless_network(backbone, head, num_classes, seed)
    return {
        name: parameter.detach()
        for name, parameter in network.model.named_parameters()
        if network.group_of(name).name == HEAD
    }


def valueless_network(
    backbone: str,
    head: HeadEntry,
    num_classes: int,
    seed: int,
    adapter: Term | None = None,
    *,
    source_head: bool = False,
    discriminators: Sequence[Discriminator] = (),
) -> Network:
    """The network without the trunk's values, at the backbone's usual image size.

    Names, layer groups and the values of a new head are those of `build_network`; the widths of
    `discriminators` are not.
    """
    from bench.models.network import Network

    model = structure(backbone)
    groups = layer_groups(backbone, model)
    members = None
    kept = _kept_classifier(model, groups) if source_head else None
    if head.name == PRETRAINED_HEAD:
        members = [[0]]
    else:
        _put_head(model, groups, head, num_classes, seed, backbone)
    if kept is not None:
        groups = _with_source_head(model, groups, kept)
    groups = _attach(adapter, model, groups, backbone, seed)
    groups = _with_discriminators(
        model,
        groups,
        [replace(shape, width=1) for shape in discriminators],
        features=1,
        classes=num_classes,
        seed=seed,
    )
    return Network(
        model,
        groups,
        image_size=native_size(backbone) or 1,
        class_members=members,
    )


def _put_head(
    model: nn.Module,
    groups: Sequence[LayerGroup],
    head: HeadEntry,
    num_classes: int,
    seed: int,
    backbone: str,
) -> None:
    """Raises `PlanError` for a head that is fitted where the classifier takes maps of features."""
    fitted = head.name == FITTED
    shape = HeadShape() if fitted else HEADS.get(head.name).function(**head.options)
    replace_classifiers(model, groups, shape, num_classes, seed)
    if not fitted:
        return
    from torch import nn

    from bench.models.fitted_head import FittedHead

    name = _classifiers(model, groups)[HEAD]
    replaced = model.get_submodule(name)
    if not isinstance(replaced, nn.Linear):
        raise PlanError(
            f"a head that is fitted takes one vector of features an image, and {backbone} "
            "classifies maps of them by a convolution; use another backbone"
        )
    own = FittedHead(replaced.in_features, num_classes)
    own.ngrams = getattr(model, "ngrams", None)
    model.set_submodule(name, own)


def _attach(
    adapter: Term | None,
    model: nn.Module,
    groups: tuple[LayerGroup, ...],
    backbone: str,
    seed: int,
) -> tuple[LayerGroup, ...]:
    """The layer groups of the model with what the adapter makes of it."""
    if adapter is None:
        return groups
    from bench.models import last_blocks

    if adapter.name == last_blocks.NAME:
        from bench.models.fitted_head import FittedHead

        (head,) = (each for each in model.modules() if type(each) is FittedHead)
        count = int(dict(adapter.options)["blocks"])
        wider, head.columns = last_blocks.with_last_blocks(
            model, groups, count=count, width=head.features
        )
        return wider
    from bench.models.adapters import attach

    return attach(model, groups, adapter, backbone=backbone, seed=seed)


def _kept_classifier(model: nn.Module, groups: Sequence[LayerGroup]) -> tuple[nn.Module, str]:
    """A copy of the classifier as it is now, and its name."""
    place = _classifiers(model, groups)[HEAD]
    return copy.deepcopy(model.get_submodule(place)), place


def _with_source_head(
    model: nn.Module, groups: Sequence[LayerGroup], kept: tuple[nn.Module, str]
) -> tuple[LayerGroup, ...]:
    from bench.models.source_head import attach_source_head

    return attach_source_head(model, groups, *kept)


def _with_discriminators(
    model: nn.Module,
    groups: tuple[LayerGroup, ...],
    shapes: Sequence[Discriminator],
    *,
    features: int,
    classes: int,
    seed: int,
) -> tuple[LayerGroup, ...]:
    if not shapes:
        return groups
    from bench.models.discriminators import attach_discriminators

    return attach_discriminators(
        model, groups, shapes, features=features, classes=classes, seed=seed
    )


def _width_at_head(network: Network, shape: Sequence[int]) -> int:
    """How many channels, or features, of a sample of this shape flow into the head."""
    import torch

    network.eval()
    with torch.no_grad():
        found: int = network(torch.zeros(1, *shape), stop=HEAD).shape[1]
    network.train()
    return found


def _count_features(network: Network, shape: Sequence[int]) -> None:
    """How many features a fitted head is given where they are more than in front of it."""
    if network.fitted_head is None or not network.fitted_head[1].columns:
        return
    _, head = network.fitted_head
    found = _width_at_head(network, shape)
    if found == head.features:
        head.columns = ()
    head.features = found


def structure(backbone: str, image_size: int | None = None) -> nn.Module:
    """The library's model without values, at its usual image size if no other is given.

    Its parameters are on the meta device.
    """
    size = native_size(backbone) if image_size is None else image_size
    try:
        with parameters_on_meta():
            return _library_model(backbone, size)
    except RuntimeError:  # a few of timm's constructors compute with values
        with keyed_initialisation(0, "structure"):
            return _library_model(backbone, size)


@contextmanager
def parameters_on_meta() -> Iterator[None]:
    """Make new tensors without values, but let the libraries compute layer widths.

    `torch.device("meta")` would also catch `arange` and `linspace`, whose values RegNet's and
    timm's constructors read.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    valueless = {torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn}

    class OnMeta(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = dict(kwargs or {})
            if func in valueless and kwargs.get("device") is None:
                kwargs["device"] = "meta"
            return func(*args, **kwargs)

    with OnMeta():
        yield


def _library_model(backbone: str, image_size: int, described: str | None = None) -> nn.Module:
    family = described_family(backbone)
    if family is not None:
        made: nn.Module = family.build(described or family.config(backbone), image_size)
        return made
    if backbone in OUTSIDE_BACKBONES:
        own: nn.Module = OUTSIDE_BACKBONES.get(backbone).function(image_size or 1)
        return own
    if is_timm(backbone) or backbone == EFFICIENTNET_LITE0:
        from bench.models.timm_models import create_model

        return create_model(backbone)
    from torchvision.models import get_model

    model: nn.Module = get_model(
        backbone, weights=None, num_classes=LIBRARY_CLASSES, **_arguments(backbone, image_size)
    )
    return model


def _arguments(backbone: str, image_size: int) -> dict[str, Any]:
    family = BACKBONES[backbone].family
    if family in ("inception", "googlenet"):
        return {"init_weights": True}  # the default, but unsaid it warns
    if family == "vit":
        return {"image_size": image_size}
    if family == "maxvit":
        return {"input_size": (image_size, image_size)}
    return {}


def layer_groups(backbone: str, model: nn.Module) -> tuple[LayerGroup, ...]:
    from bench.models.families import FAMILIES

    family = described_family(backbone)
    if family is not None:
        return tuple(family.groups(model))
    if backbone in OUTSIDE_BACKBONES:
        return tuple(outside_traits(backbone).groups(model))
    if is_timm(backbone):
        from bench.models.timm_models import timm_groups

        return timm_groups(model)
    return FAMILIES[BACKBONES[backbone].family](model)


def _classifiers(model: nn.Module, groups: Sequence[LayerGroup]) -> dict[str, str]:
    """Name of the last layer by group, for the head and every branch."""
    from torch import nn

    layers = [
        name for name, layer in model.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
    ]
    return {
        group.name: [name for name in layers if group.owns(name)][-1]
        for group in groups
        if group.branch or group.name == HEAD
    }


def replace_classifiers(
    model: nn.Module,
    groups: Sequence[LayerGroup],
    shape: HeadShape,
    num_classes: int,
    seed: int,
) -> None:
    for group, name in _classifiers(model, groups).items():
        replaced = model.get_submodule(name)
        # the auxiliary classifier only helps the trunk to train: it stays a linear layer
        own_shape = shape if group == HEAD else HeadShape()
        model.set_submodule(
            name,
            build_head(own_shape, replaced, num_classes=num_classes, seed=seed, purpose=group),
        )


def _members(
    weights: Weights,
    class_map: Mapping[str, Sequence[int | str]] | None,
    classes: Sequence[str] | None,
) -> tuple[tuple[int, ...], ...]:
    if weights.classes is None:
        raise WeightsError(
            f"the head {PRETRAINED_HEAD!r} needs weights that come with a classifier of known "
            f"classes, such as imagenet; got {weights.name!r}"
        )
    assert classes is not None, "the pretrained head needs the names of the classes"
    return class_members(classes, class_map, weights.classes)


def _load(
    backbone: str,
    model: nn.Module,
    groups: Sequence[LayerGroup],
    weights: Weights,
    *,
    with_classifiers: bool,
) -> None:
    from bench.models.state_dicts import load_weights, read_state_dict

    assert weights.path is not None
    check_unchanged(weights)
    state = _fitted(backbone, model, read_state_dict(weights.path))
    if is_image_text(backbone):
        cast(Any, model).path = weights.path
    load_weights(
        model,
        state,
        **_fitting(model, groups, weights, with_classifiers=with_classifiers),
    )


def check_fit(backbone: str, weights: Weights, *, image_size: int, with_classifiers: bool) -> None:
    """Raise `WeightsError` where `build_network` would, for what the weights' file holds.

    `with_classifiers`: the classifier of the file is used too, as the head `pretrained` does.
    """
    from bench.models.state_dicts import check_weights, read_state_dict

    assert weights.path is not None
    model = structure(backbone, image_size)
    groups = layer_groups(backbone, model)
    if with_classifiers:
        replace_classifiers(model, groups, HeadShape(), len(weights.classes or ()), seed=0)
    state = _fitted(backbone, model, read_state_dict(weights.path))
    try:
        check_weights(
            model,
            state,
            **_fitting(model, groups, weights, with_classifiers=with_classifiers),
        )
    except WeightsError as error:
        if not with_classifiers:
            raise
        named = f"classes names {len(weights.classes or ())} outputs of its classifier"
        raise WeightsError(f"{error} ({named})") from None


def _fitted(
    backbone: str, model: nn.Module, state: dict[str, torch.Tensor]
) -> Mapping[str, torch.Tensor]:
    """What of a file the model is to have; the model, or the file, at the other's image size."""
    if is_timm(backbone):
        from bench.models.timm_models import fit_positions

        fit_positions(model, state)
    family = described_family(backbone)
    return state if family is None else family.fitted(model, state)


def _fitting(
    model: nn.Module, groups: Sequence[LayerGroup], weights: Weights, *, with_classifiers: bool
) -> dict[str, Any]:
    """How the file of the weights is to fit the model."""
    from bench.models.network import learned_buffers

    return {
        "origin": f"the weights file {weights.path}",
        "classifiers": tuple(_classifiers(model, groups).values()),
        "with_classifiers": with_classifiers,
        "optional": [
            *(prefix for group in groups if group.branch for prefix in group.prefixes),
            *learned_buffers(model),
        ],
    }


def _keep_inputs_intact(model: nn.Module, groups: Sequence[LayerGroup]) -> None:
    """The head must not overwrite the features that it is given: they may be used again."""
    from torch import nn

    for name, layer in model.named_modules():
        if groups[-1].owns(name) and isinstance(layer, nn.Dropout):
            layer.inplace = False
