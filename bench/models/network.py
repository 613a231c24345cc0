"""A backbone with its head, cut into layer groups that run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from bench.methods.plan import HEAD
from bench.models.fitted_head import FittedHead

Layer = str | Callable[[nn.Module, Tensor], Tensor]
"""A submodule's name, or a function of (model, activations)."""


@dataclass(frozen=True, kw_only=True)
class LayerGroup:
    """An ordered part of a network.

    It owns the parameters, buffers and submodules whose name in the library's model is one of
    `prefixes` or lies below one. `run(model, activations)` computes its output; it is None where
    the group holds parameters that an earlier group's `run` uses (a model that can only be cut in
    front of its head). `steps` are what it runs, where that is known. A `branch` is a side output
    (an auxiliary classifier): its result does not flow on. It needs images of at least
    `min_image_size` pixels and is left out below that.
    """

    name: str
    prefixes: tuple[str, ...]
    run: Callable[[nn.Module, Tensor], Tensor] | None
    branch: bool = False
    min_image_size: int = 1
    steps: tuple[Layer, ...] = ()

    def owns(self, name: str) -> bool:
        """Whether the parameter, buffer or submodule called `name` belongs to this group."""
        return any(name == prefix or name.startswith(f"{prefix}.") for prefix in self.prefixes)


def layer_group(
    name: str,
    *steps: Layer,
    owns: Sequence[str] = (),
    branch: bool = False,
    min_image_size: int = 1,
) -> LayerGroup:
    """The group that runs `steps` in order and owns the submodules among them, and `owns`."""
    return LayerGroup(
        name=name,
        prefixes=(*(step for step in steps if isinstance(step, str)), *owns),
        run=partial(_run_steps, steps=steps),
        branch=branch,
        min_image_size=min_image_size,
        steps=steps,
    )


def _run_steps(model: nn.Module, activations: Tensor, *, steps: Sequence[Layer]) -> Tensor:
    for step in steps:
        if isinstance(step, str):
            activations = model.get_submodule(step)(activations)
        else:
            activations = step(model, activations)
    return activations


@dataclass(frozen=True, kw_only=True)
class Outline:
    """What a plan can be applied to without the network.

    Addresses of the parameters and of the norm layers, in order; the names of the layer groups
    and of those in front of which it can be cut; whether the head is a plain chain of linear
    layers (`Network.head_layers`).
    """

    parameters: tuple[str, ...]
    norms: tuple[str, ...]
    groups: tuple[str, ...]
    boundaries: tuple[str, ...]
    plain_head: bool


class Network(nn.Module):
    """The library's `model` with a new head, run group by group.

    The state dict of `model` keeps the library's names. `image_size` is in pixels (of vectors it is
    their length).
    `class_members` (for each class, the indices of the classifier's outputs that mean it) turns
    the logits of a classifier that came with the weights into logits of the data set's classes:
    the logsumexp over the members, so that probabilities add up.
    """

    class_index: Tensor | None
    class_padding: Tensor | None

    def __init__(
        self,
        model: nn.Module,
        groups: Sequence[LayerGroup],
        *,
        image_size: int,
        class_members: Sequence[Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.groups = tuple(
            replace(group, run=None) if group.min_image_size > image_size else group
            for group in groups
        )
        self.image_size = image_size
        self._register_members(class_members)
        assert self.groups[-1].name == HEAD, "the last layer group must be the head"
        self._owners = self._owner_of_each()

    def _register_members(self, class_members: Sequence[Sequence[int]] | None) -> None:
        if class_members is None:
            self.class_index = self.class_padding = None
            return
        lengths = torch.tensor([len(members) for members in class_members])
        index = nn.utils.rnn.pad_sequence(
            [torch.tensor(members) for members in class_members], batch_first=True
        )
        padding = torch.arange(index.shape[1]) >= lengths[:, None]
        self.register_buffer("class_index", index, persistent=False)
        self.register_buffer("class_padding", padding, persistent=False)

    def _owner_of_each(self) -> dict[str, LayerGroup]:
        """The group of every parameter and buffer."""
        named = [name for name, _ in self.model.named_parameters(remove_duplicate=False)]
        named += [name for name, _ in self.model.named_buffers(remove_duplicate=False)]
        owners = {}
        for name in named:
            groups = [group for group in self.groups if group.owns(name)]
            names = [group.name for group in groups]
            assert len(groups) == 1, f"{name} must belong to one layer group, got {names}"
            owners[name] = groups[0]
        return owners

    @property
    def takes_texts(self) -> bool:
        """Whether batches are token ids, int32 [n, length]."""
        return bool(getattr(self.model, "takes_texts", False))

    @property
    def knows_texts(self) -> bool:
        """Whether it is the image tower of a model that also has one for texts."""
        return hasattr(self.model, "text_tower")

    @property
    def boundaries(self) -> tuple[str, ...]:
        """Names of the groups in front of which the network can be cut (`start` and `stop`)."""
        return tuple(group.name for group in self.groups[1:] if group.run is not None)

    @property
    def learns(self) -> bool:
        """Whether some of its buffers depend on the training samples: `learned` gives them."""
        return bool(learned_buffers(self.model))

    def learned(self, batch: Tensor) -> dict[str, Tensor]:
        """Those buffers, by the names of `model`, for all training samples as it takes them.

        They are a function of the batch and the parameters, and stay what they are in training.
        """
        assert self.learns, "no buffer of the network depends on samples"
        found: dict[str, Tensor] = cast(Any, self.model).learned(batch)
        return found

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy values into the parameters and buffers that `model` calls by these names.

        A fitted head holds those that are its own among them, and no others any more.
        """
        fitted = self._hold(tensors)
        own = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in tensors.items():
                if name not in fitted:
                    own[name].copy_(tensor)

    def _hold(self, tensors: Mapping[str, Tensor]) -> frozenset[str]:
        """Give a fitted head its tensors; returns their names."""
        if self.fitted_head is None:
            return frozenset()
        prefix, head = self.fitted_head
        names = frozenset(name for name in tensors if name.startswith(prefix))
        head.hold({name.removeprefix(prefix): tensors[name] for name in names})
        return names

    @cached_property
    def fitted_head(self) -> tuple[str, FittedHead] | None:
        """A head that is fitted, and what the names of its tensors begin with; None without one."""
        named = self.model.named_modules()
        return next(((f"{name}.", each) for name, each in named if type(each) is FittedHead), None)

    def forward(
        self, batch: Tensor, *, start: str | None = None, stop: str | None = None
    ) -> Tensor:
        """Logits [n, classes] of a `batch` of inputs, such as normalised images [n, 3, h, w].

        With `stop`, the activations that flow into that group instead; with `start`, `batch` are
        such activations, so `forward(forward(x, stop=g), start=g)` equals `forward(x)`. Both are
        among `boundaries`.
        """
        return self.captured(batch, (), start=start, stop=stop)[0]

    def captured(
        self,
        batch: Tensor,
        names: Collection[str],
        *,
        start: str | None = None,
        stop: str | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What `forward` gives, and what the groups called `names` give on the way.

        Of a branch that are its logits; it does not run unless it is named. Groups that are not on
        the way, or that the samples are too small for, are missing from the mapping.
        """
        found = {}
        activations = batch
        for group in self._between(start, stop):
            if group.run is None or (group.branch and group.name not in names):
                continue
            output = group.run(self.model, activations)
            if group.branch or group.name == HEAD:
                output = self._to_classes(output)
            if not group.branch:
                activations = output
            if group.name in names:
                found[group.name] = output
        return activations, found

    def _between(self, start: str | None, stop: str | None) -> tuple[LayerGroup, ...]:
        names = [group.name for group in self.groups]
        for name in (start, stop):
            assert name is None or name in self.boundaries, f"no boundary in front of {name!r}"
        first = 0 if start is None else names.index(start)
        end = len(names) if stop is None else names.index(stop)
        return self.groups[first:end]

    def _to_classes(self, logits: Tensor) -> Tensor:
        if self.class_index is None or self.class_padding is None:
            return logits
        members = logits[:, self.class_index].masked_fill(self.class_padding, float("-inf"))
        return members.logsumexp(dim=2)

    def group_of(self, name: str) -> LayerGroup:
        """The group of the parameter, buffer or submodule that `model` calls `name`."""
        if name not in self._owners:
            (self._owners[name],) = (group for group in self.groups if group.owns(name))
        return self._owners[name]

    def address_of(self, name: str) -> str:
        """The address, `group/name`, of what `model` calls `name`.

        A leading group name is dropped: `layer4.0.bn1.weight` has the address
        `layer4/0.bn1.weight`, and `fc.weight` has `head/fc.weight`.
        """
        group = self.group_of(name).name
        return f"{group}/{name.removeprefix(f'{group}.')}"

    def norm_layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Each submodule that keeps running statistics (BatchNorm and its kin), with its address.

        LayerNorm and GroupNorm keep none and are not among them.
        """
        for name, module in self.model.named_modules():
            buffers = dict(module.named_buffers(recurse=False))
            if "running_mean" in buffers or "running_var" in buffers:
                yield self.address_of(name), module

    @cached_property
    def outline(self) -> Outline:
        """Names alone, for those who plan."""
        return Outline(
            parameters=tuple(self.address_of(name) for name, _ in self.model.named_parameters()),
            norms=tuple(address for address, _ in self.norm_layers()),
            groups=tuple(group.name for group in self.groups),
            boundaries=self.boundaries,
            plain_head=self.head_layers() is not None,
        )

    def head_layers(self) -> tuple[tuple[str, nn.Module], ...] | None:
        """The head as a chain of (name, layer) if it is linear layers, ReLU and dropout alone.

        None for every other head: one that convolves, pools, normalises or maps classes.
        """
        steps = self.groups[-1].steps
        if self.class_index is not None or not steps:
            return None
        layers: list[tuple[str, nn.Module]] = []
        for step in steps:
            if not isinstance(step, str):
                return None
            module = self.model.get_submodule(step)
            layers += [(f"{step}{name}", leaf) for name, leaf in _chain(module)]
        plain = all(type(layer) in _PLAIN for _, layer in layers)
        return tuple(layers) if plain and any(_is_linear(x) for _, x in layers) else None

    def modules_of(self, group: LayerGroup) -> tuple[nn.Module, ...]:
        """The submodules that belong to `group` as a whole: `.eval()` on each covers the group."""
        modules = dict(self.model.named_modules())
        return tuple(modules[prefix] for prefix in group.prefixes if prefix in modules)


def learned_buffers(model: nn.Module) -> tuple[str, ...]:
    """The names of the model's buffers that depend on the training samples: no file has them."""
    return tuple(getattr(model, "learned_buffers", ()))


_PLAIN = (nn.Linear, nn.ReLU, nn.Dropout, nn.Identity)


def _is_linear(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear)


def _chain(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The leaves of nested `nn.Sequential`s, in the order in which they run."""
    if type(module) is not nn.Sequential:
        yield "", module
        return
    for name, child in module.named_children():
        for below, leaf in _chain(child):
            yield f".{name}{below}", leaf


def save_tensors(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write `tensors` to a safetensors file, which appears whole or not at all.

    A tensor that several names share is written under each of them, so that any loader finds it.
    """
    from bench.errors import is_full_disk
    from bench.models.tensor_files import write_tensor_file
    from bench.system.cache import atomic_file
    from bench.system.lru_folder import make_room

    def write() -> None:
        with atomic_file(path) as temporary:
            write_tensor_file(tensors, temporary, metadata)

    try:
        write()
    except OSError as error:
        if not (is_full_disk(error) and make_room(path)):
            raise
        write()
    return path
