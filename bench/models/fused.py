"""Frozen groups computed with fewer, larger operations, on CPUs.

A frozen trunk is passed many times and never derived: batch norm folds into the convolution in
front of it, activation and residual become part of the operation that they follow, and weights are
laid out for the processor once, in the format that they compute in. The operations are oneDNN's, as
torch has them for its own compiler (`torch.ops.mkldnn`); the graph is read with `torch.fx`. All is
a copy: the network is never changed.

What is fused follows from the structure of the network alone, never from a measurement: equal keys
must mean equal bits. Parts whose code is not known to be readable, and those that cannot be read,
compute as ever, with the same bits as ever.
"""

from __future__ import annotations

import copy
import inspect
import math
import operator
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from bench.models.network import Layer, Network

KEPT_BYTES = 2**28
"""Larger copies of weights are made for each pass and freed after it."""

_READABLE = ("bench", "timm", "torch", "torchvision")
"""Packages whose models do in `torch.fx` what they do with tensors."""

_CAPABILITIES = ("AVX2", "AVX512")
"""Of processors for which oneDNN has these operations in code of its own."""


def fuses(device: torch.device, precision: str) -> bool:
    """Whether frozen groups are fused on `device`; a fact of the machine, not of its load."""
    if device.type != "cpu" or torch.backends.cpu.get_cpu_capability() not in _CAPABILITIES:
        return False
    mkldnn = torch.backends.mkldnn
    if not (mkldnn.is_available() and mkldnn.enabled):  # type: ignore[no-untyped-call]
        return False
    supported = torch.ops.mkldnn._is_mkldnn_bf16_supported
    return precision == "fp32" or (precision == "bf16" and bool(supported()))


class FusedGroups:
    """The groups of a network in front of `boundary`, in evaluation mode, fused when first called.

    Computes in `dtype` what autocast would: fp32, or bf16 within its context. Weights that change
    in place are noticed, and fused anew. Threads may share it.

    Differs from the groups by rounding: the norm of the difference is about 1e-6 of that of the
    activations in fp32. In bf16 both are equally far from fp32.
    """

    def __init__(self, network: Network, boundary: str, dtype: torch.dtype) -> None:
        self._network = network
        self._boundary = boundary
        self._dtype = dtype
        self._lock = threading.Lock()
        self._fused: fx.GraphModule | None = None
        self._made_of: object = None
        names = [group.name for group in network.groups]
        frozen = network.groups[: names.index(boundary)]
        tensors = [*network.model.named_parameters(), *network.model.named_buffers()]
        self._tensors = [
            tensor for name, tensor in tensors if any(group.owns(name) for group in frozen)
        ]

    def __call__(self, batch: Tensor) -> Tensor:
        """Activations of a batch; one of another shape than the last one is fused for anew."""
        with self._lock:
            made_of = (batch.shape, *((t.data_ptr(), t._version) for t in self._tensors))
            if self._made_of != made_of:
                self._fused = _fused(self._network, self._boundary, self._dtype)
                # Its operations lay out their weights as they meet the first batch.
                activations: Tensor = self._fused(batch)
                self._made_of = made_of
                return activations
            fused = self._fused
        assert fused is not None
        result: Tensor = fused(batch)
        return result

    def free(self) -> None:
        """Let go of large copies of weights; the next call makes them again."""
        with self._lock:
            if sum(tensor.nbytes for tensor in self._tensors) > KEPT_BYTES:
                self._fused = self._made_of = None


# Reading ----------------------------------------------------------------------------------------


def _fused(network: Network, boundary: str, dtype: torch.dtype) -> fx.GraphModule:
    root = _Groups(network, boundary)
    with _READING:
        graph = _Reader().trace(root)
    _drop_what_does_nothing(graph, root)
    for number, node in enumerate(list(graph.nodes)):
        chain = _chain(node, root)
        if chain is not None:
            name = f"fused{number}"
            root.add_module(name, chain.operation(dtype))
            _replace(graph, chain, name)
    _drop_unused(graph)
    # With nothing of `root` but what it needs, the network's own weights are not held twice.
    held = [node.target for node in graph.nodes if node.op in ("call_module", "get_attr")]
    return fx.GraphModule({name: operator.attrgetter(name)(root) for name in held}, graph)


class _Groups(nn.Module):
    """What `Network.forward` runs in front of `boundary`, for the reader."""

    def __init__(self, network: Network, boundary: str) -> None:
        super().__init__()
        self.model = _shell(network.model)
        self._original = (network.model,)  # a tuple, so that it is no submodule
        self.steps = nn.ModuleList()
        for group in network.groups:
            if group.name == boundary:
                break
            if group.run is not None and not group.branch:
                self.steps.extend(self._module(step) for step in group.steps or (group.run,))

    def _module(self, step: Layer) -> nn.Module:
        if isinstance(step, str):
            return self.model.get_submodule(step)
        return _Step(step, self.model if _is_readable(step) else self._original[0])

    def forward(self, batch: Tensor) -> Tensor:
        for step in self.steps:
            batch = step(batch)
        return batch


def _shell(model: nn.Module) -> nn.Module:
    """The model with the same tensors: some modules keep what they have computed, or read.

    Those that are not read are the same ones too.
    """
    kept: list[object] = [*model.parameters(), *model.buffers()]
    kept += [module for module in model.modules() if not _is_readable(type(module))]
    kept += [module for module in model.modules() if _is_hooked(module)]
    return copy.deepcopy(model, {id(each): each for each in kept})


class _Step(nn.Module):
    """A function of (model, activations)."""

    def __init__(self, step: Callable[[nn.Module, Tensor], Tensor], model: nn.Module) -> None:
        super().__init__()
        self.step = step
        self._model = (model,)  # not as a submodule: it is one of the root already

    def forward(self, activations: Tensor) -> Tensor:
        return self.step(self._model[0], activations)


def _is_readable(code: object) -> bool:
    module = getattr(code, "__module__", None) or ""
    return module.partition(".")[0] in _READABLE


_READING = threading.Lock()
"""While `torch.fx` reads, it exchanges methods of `nn.Module` in the whole process."""


class _Reader(fx.Tracer):
    """Reads modules of known packages down to operations; all others are operations themselves.

    Networks that compute in other threads meanwhile meet the exchanged methods: they pass on.
    """

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def is_leaf_module(self, module: nn.Module, name: str) -> bool:
        code = module.step if isinstance(module, _Step) else type(module)
        return not _is_readable(code) or _is_hooked(module) or super().is_leaf_module(module, name)

    def call_module(
        self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        outside = self.module_stack.copy()
        try:
            return super().call_module(module, forward, args, kwargs)
        except Exception:  # whatever it is, the module is then called and not read
            self.module_stack = outside
            return self.create_proxy("call_module", self.path_of_module(module), args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_node(self, kind: str, target: Any, *args: Any, **kwargs: Any) -> fx.Node:
        # Its result may be unused, and then it would be dropped.
        name = target if kind == "call_method" else getattr(target, "__name__", "")
        if kind in ("call_method", "call_function") and re.fullmatch(r".*[a-z]_", name):
            raise fx.proxy.TraceError(f"{name} works in place")
        return super().create_node(kind, target, *args, **kwargs)


def _is_hooked(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or "parametrizations" in module._modules
    )


def _drop_what_does_nothing(graph: fx.Graph, root: nn.Module) -> None:
    """Dropout in evaluation mode and the like; then all that leads to no output."""
    for node in list(graph.nodes):
        module = _module(node, root)
        idle = type(module) is nn.Identity or (
            isinstance(module, nn.modules.dropout._DropoutNd) and not module.training
        )
        # torchvision's stochastic depth is one function for `torch.fx`.
        if getattr(node.target, "__name__", "") == "stochastic_depth":
            idle = not _arguments(node)["training"]
        if idle:
            node.replace_all_uses_with(node.args[0])
    _drop_unused(graph)


def _drop_unused(graph: fx.Graph) -> None:
    live: set[fx.Node] = set()
    for node in reversed(graph.nodes):
        if node.op in ("output", "placeholder") or node in live:
            live.update((node, *node.all_input_nodes))
    for node in reversed(list(graph.nodes)):
        if node not in live:
            graph.erase_node(node)


def _module(node: fx.Node, root: nn.Module) -> nn.Module | None:
    return root.get_submodule(str(node.target)) if node.op == "call_module" else None


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Those of a function, by name."""
    assert callable(node.target)
    bound = inspect.signature(node.target).bind(*node.args, **node.kwargs)
    bound.apply_defaults()
    return bound.arguments


# Finding ----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Unary:
    """An activation as oneDNN knows it."""

    name: str
    scalars: tuple[float, ...] = ()
    algorithm: str = ""

    @property
    def arguments(self) -> tuple[str, list[float], str]:
        return self.name, list(self.scalars), self.algorithm


_NONE = _Unary(name="none")
_ACTIVATIONS: dict[object, _Unary] = {
    nn.ReLU: _Unary(name="relu"),
    F.relu: _Unary(name="relu"),
    torch.relu: _Unary(name="relu"),
    nn.ReLU6: _Unary(name="hardtanh", scalars=(0.0, 6.0)),
    F.relu6: _Unary(name="hardtanh", scalars=(0.0, 6.0)),
    nn.SiLU: _Unary(name="swish"),
    F.silu: _Unary(name="swish"),
    nn.Hardswish: _Unary(name="hardswish"),
    F.hardswish: _Unary(name="hardswish"),
    nn.GELU: _Unary(name="gelu"),
    F.gelu: _Unary(name="gelu"),
}


@dataclass(frozen=True, kw_only=True)
class _Chain:
    """A layer and what follows it, each the only user of the one before, as one operation."""

    layer: nn.Conv2d | nn.Linear
    nodes: tuple[fx.Node, ...]
    norm: tuple[Tensor, Tensor] | None = None
    activation: _Unary = _NONE
    added: fx.Node | None = None

    def operation(self, dtype: torch.dtype) -> nn.Module:
        if isinstance(self.layer, nn.Linear):
            return _Linear(self.layer, self.activation, dtype)
        return _Convolution(self.layer, self.norm, self.activation, dtype)


def _chain(node: fx.Node, root: nn.Module) -> _Chain | None:
    """What begins at `node`; None if that is no layer which can be fused."""
    layer = _module(node, root)
    if not isinstance(layer, nn.Conv2d | nn.Linear) or not _is_plain(layer):
        return None
    chain = _Chain(layer=layer, nodes=(node,))
    following = _only_user(node)
    if following is not None and isinstance(layer, nn.Conv2d):
        norm = _scale_and_shift(following, node, root)
        if norm is not None:
            chain = replace(chain, nodes=(*chain.nodes, following), norm=norm)
    chain = _with_activation(chain, root)
    if chain.activation is _NONE:
        chain = _with_addition(chain, root)
    return chain


def _is_plain(layer: nn.Conv2d | nn.Linear) -> bool:
    """Whether it computes what its class does, in a way that oneDNN can."""
    if _is_hooked(layer) or layer.weight.dtype != torch.float32:
        return False
    if type(layer) is nn.Linear:
        return True
    assert isinstance(layer, nn.Conv2d)
    if type(layer) is nn.Conv2d:
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return _pads_to_same(layer) and set(layer.dilation) == {1}


def _pads_to_same(layer: nn.Conv2d) -> bool:
    """Whether it is timm's `Conv2dSame`, which pads as TensorFlow does, one side perhaps more."""
    kind = type(layer)
    return kind.__name__ == "Conv2dSame" and kind.__module__.startswith("timm.")


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _scale_and_shift(node: fx.Node, of: fx.Node, root: nn.Module) -> tuple[Tensor, Tensor] | None:
    """What batch norm does to each channel of the node `of` in evaluation mode, if it is one."""
    module = _module(node, root)
    if type(module) is nn.BatchNorm2d:
        if module.training or module.running_mean is None or _is_hooked(module):
            return None
        mean, var, eps = module.running_mean, module.running_var, module.eps
        weight, bias = module.weight, module.bias
    elif node.target is F.batch_norm:
        given = _arguments(node)
        if given["training"] or given["input"] is not of:
            return None
        names = ("running_mean", "running_var", "weight", "bias")
        mean, var, weight, bias = (_value(given[name], root) for name in names)
        eps = given["eps"]
    else:
        return None
    assert mean is not None
    assert var is not None
    scale = (var + eps).rsqrt()
    scale = scale if weight is None else scale * weight.detach()
    shift = -mean * scale
    return scale, shift if bias is None else shift + bias.detach()


def _value(argument: Any, root: nn.Module) -> Any:
    """What a node that reads an attribute of the network reads."""
    return operator.attrgetter(argument.target)(root) if argument is not None else None


def _with_activation(chain: _Chain, root: nn.Module) -> _Chain:
    node = _only_user(chain.nodes[-1])
    if node is None or node.args[:1] != (chain.nodes[-1],):
        return chain
    module = _module(node, root)
    found = _ACTIVATIONS.get(node.target if module is None else type(module))
    if found is None or (module is not None and _is_hooked(module)):
        return chain
    if found.name == "gelu":
        kind = node.kwargs.get("approximate", "none") if module is None else module.approximate
        found = replace(found, algorithm=str(kind))
    return replace(chain, nodes=(*chain.nodes, node), activation=found)


def _with_addition(chain: _Chain, root: nn.Module) -> _Chain:
    """With a residual, and a ReLU behind it."""
    last = chain.nodes[-1]
    node = _only_user(last)
    if node is None or node.target not in (operator.add, operator.iadd, torch.add):
        return chain
    # torch adds to convolutions in groups after all, and not in all formats.
    if isinstance(chain.layer, nn.Conv2d) and chain.layer.groups > 1:
        return chain
    if len(node.args) != 2 or node.kwargs or node.args[0] is node.args[1]:
        return chain
    first, second = node.args
    added = second if first is last else first
    # In place, the other summand would have to change as well.
    changes_other = node.target is operator.iadd and first is not last
    if not isinstance(added, fx.Node) or changes_other or _changes_between(chain, node, root):
        return chain
    chain = replace(chain, nodes=(*chain.nodes, node), added=added)
    if isinstance(chain.layer, nn.Linear):
        return chain
    with_relu = _with_activation(chain, root)
    return with_relu if with_relu.activation.name == "relu" else chain


_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)


def _changes_between(chain: _Chain, end: fx.Node, root: nn.Module) -> bool:
    """Whether something works in place before `end`: the layer must not be computed after it."""
    node = chain.nodes[0].next
    while node is not end:
        inplace = node.kwargs.get("inplace") or getattr(_module(node, root), "inplace", False)
        if node not in chain.nodes and (inplace or node.target in _IN_PLACE):
            return True
        node = node.next
    return False


def _replace(graph: fx.Graph, chain: _Chain, name: str) -> None:
    first, last = chain.nodes[0], chain.nodes[-1]
    others = () if chain.added is None else (chain.added,)
    with graph.inserting_after(first if chain.added is None else last):
        node = graph.call_module(name, (first.args[0], *others))
    last.replace_all_uses_with(node)
    for each in reversed(chain.nodes):
        graph.erase_node(each)


# Computing --------------------------------------------------------------------------------------


class _Operation(nn.Module):
    """A layer with what follows it; lays out its weight when it meets the first input.

    Not before: one copy after the other is made, none twice.
    """

    _weight: Tensor
    _bias: Tensor | None

    def __init__(self, activation: _Unary, dtype: torch.dtype) -> None:
        super().__init__()
        self._activation = activation
        self._dtype = dtype
        self._laid_out = False
        self._adds = False

    def forward(self, input: Tensor, added: Tensor | None = None) -> Tensor:
        input = input if input.dtype == self._dtype else input.to(self._dtype)
        if not self._laid_out:
            shape = self._lay_out(input.shape)
            self._laid_out = True
            # A residual of another format or shape is added by torch, and so is one of a single
            # pixel: torch 2.11 cannot have it in a convolution.
            self._adds = (
                added is not None
                and added.dtype == self._dtype
                and list(added.shape) == shape
                and math.prod(shape[2:]) > 1
            )
        if added is None:
            return self._alone(input, self._activation)
        if self._adds:
            return self._with(input, added)
        total = self._alone(input, _NONE) + added
        return total if self._activation is _NONE else F.relu(total)

    def _lay_out(self, shape: Sequence[int]) -> list[int]:
        """For inputs of this shape; returns that of outputs."""
        raise NotImplementedError

    def _alone(self, input: Tensor, activation: _Unary) -> Tensor:
        raise NotImplementedError

    def _with(self, input: Tensor, added: Tensor) -> Tensor:
        raise NotImplementedError


class _Convolution(_Operation):
    def __init__(
        self,
        layer: nn.Conv2d,
        norm: tuple[Tensor, Tensor] | None,
        activation: _Unary,
        dtype: torch.dtype,
    ) -> None:
        super().__init__(activation, dtype)
        self._source = (layer, norm)  # a tuple, so that the layer is no submodule
        self._geometry: tuple[list[int], list[int], list[int], int]

    def _lay_out(self, shape: Sequence[int]) -> list[int]:
        layer, norm = self._source
        weight = layer.weight.detach()
        bias = None if layer.bias is None else layer.bias.detach()
        if norm is not None:
            scale, shift = norm
            weight = weight * scale.view(-1, 1, 1, 1)
            bias = shift if bias is None else bias * scale + shift
        padding = [int(side) for side in layer.padding]
        if _pads_to_same(layer):
            weight, padding = _symmetric(weight, shape[2:], layer.stride)
        self._geometry = (padding, list(layer.stride), list(layer.dilation), layer.groups)
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            weight.to(self._dtype), *self._geometry, list(shape)
        )
        self._bias = None if bias is None else bias.to(self._dtype)
        sides = zip(shape[2:], weight.shape[2:], *self._geometry[:3], strict=True)
        return [
            shape[0],
            len(weight),
            *(
                (side + 2 * margin - gap * (taps - 1) - 1) // step + 1
                for side, taps, margin, step, gap in sides
            ),
        ]

    def _alone(self, input: Tensor, activation: _Unary) -> Tensor:
        output: Tensor = torch.ops.mkldnn._convolution_pointwise(
            input, self._weight, self._bias, *self._geometry, *activation.arguments
        )
        return output

    def _with(self, input: Tensor, added: Tensor) -> Tensor:
        unary = None if self._activation is _NONE else self._activation.name
        output: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
            input, added, self._weight, self._bias, *self._geometry, "add", 1.0, unary, [], ""
        )
        return output


def _symmetric(
    weight: Tensor, image: Sequence[int], stride: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """A kernel and the padding of both sides that do what padding one side more does.

    Of an odd total, the smaller part is in front. Zeros in front of the kernel make up for it:
    padding itself costs several times the convolution.
    """
    totals = [
        max((-(-side // step) - 1) * step + taps - side, 0)
        for side, step, taps in zip(image, stride, weight.shape[2:], strict=True)
    ]
    high, wide = (total % 2 for total in totals)
    return F.pad(weight, (wide, 0, high, 0)), [-(-total // 2) for total in totals]


class _Linear(_Operation):
    def __init__(self, layer: nn.Linear, activation: _Unary, dtype: torch.dtype) -> None:
        super().__init__(activation, dtype)
        self._source = (layer,)

    def _lay_out(self, shape: Sequence[int]) -> list[int]:
        (layer,) = self._source
        self._weight = torch.ops.mkldnn._reorder_linear_weight(
            layer.weight.detach().to(self._dtype), math.prod(shape[:-1])
        )
        self._bias = None if layer.bias is None else layer.bias.detach().to(self._dtype)
        return [*shape[:-1], layer.out_features]

    def _alone(self, input: Tensor, activation: _Unary) -> Tensor:
        output: Tensor = torch.ops.mkldnn._linear_pointwise(
            input, self._weight, self._bias, *activation.arguments
        )
        return output

    def _with(self, input: Tensor, added: Tensor) -> Tensor:
        output: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            input, added.contiguous(), self._weight, self._bias, "add"
        )
        return output
