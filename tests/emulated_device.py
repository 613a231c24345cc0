"""A device without its hardware: tensors that claim to be on it and are computed on the CPU.

Within `emulated_device` torch finds one CUDA (or MPS) device. Its tensors refuse what those of the
device would: company of CPU tensors, `numpy()`, in MPS mode float64. What makes the host wait there
is counted; a copy to it does, whatever it is asked for, unless it is from pinned memory. So code
shows whether it puts every tensor where it belongs and how often it waits; of the device's own
rounding, memory and speed this shows nothing. Autocast passes the tensors by: they are computed in
the format that they come in.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Literal
from unittest.mock import patch

import torch
import torch._dynamo  # now: an optimiser imports it, and it keeps the functions that it meets
import torch.optim.optimizer as torch_optimizer
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakTensorKeyDictionary

import bench

aten = torch.ops.aten

NAME = "Emulated GPU"
_PACKAGE = Path(bench.__file__).parent
_TORCH = Path(torch.__file__).parent

_META, _CPU = torch.device("meta"), torch.device("cpu")

_CONVERTED = ("dtype", "layout", "memory_format")
"""Arguments of a conversion that say something of values; the others say where they go."""

_ASKS_FOR_VALUES = (aten.equal, aten.nonzero, aten.masked_select, aten.bincount, aten._unique2)
"""The size of the result, or the result itself, is a matter of the host."""

_TAKES_INDICES = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
"""These bring indices from the CPU to the device by themselves."""

_TAKES_NO_SCALARS = (aten.cat, aten.stack)
"""Elsewhere a CPU tensor without dimensions may stand in for a number."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What was asked of the device, by the place that asked: `training/loop.py:120 train_step`.

    That is the innermost line of the package on the way, or of the caller where none is. `syncs`
    are all moments in which the host waits, blocking copies among them; `launches` go by
    operation, those of views and of empty tensors left out; `opened` are the devices whose random
    state was asked for.
    """

    to_device: Counter[str] = field(default_factory=Counter)
    to_host: Counter[str] = field(default_factory=Counter)
    syncs: Counter[str] = field(default_factory=Counter)
    launches: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    opened: Counter[str] = field(default_factory=Counter)


@contextmanager
def emulated_device(kind: Literal["cuda", "mps"] = "cuda") -> Iterator[Counts]:
    """Let torch find one device of this kind; at the end everything is as it was before."""
    device = _Device(kind)
    with ExitStack() as stack:
        for owner, name, substitute in _substitutes(device):
            stack.enter_context(patch.object(owner, name, substitute))
        stack.enter_context(_Mode(device))
        yield device.counts


class DeviceTensor(Tensor):
    """A tensor on an emulated device; `values` holds what it contains, on the CPU.

    To torch's core it is a tensor without values, on the meta device.
    """

    values: Tensor
    owner: _Device

    @staticmethod
    def __new__(cls, values: Tensor, owner: _Device) -> DeviceTensor:
        tensor: DeviceTensor = torch.Tensor._make_wrapper_subclass(
            cls,
            values.size(),
            strides=values.stride(),
            storage_offset=values.storage_offset(),
            dtype=values.dtype,
            layout=values.layout,
            device="meta",
        )
        tensor.values, tensor.owner = values, owner
        return tensor

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        (first, *_) = _on_device((args, options))
        return first.owner.run(func, args, options)

    @property
    def device(self) -> torch.device:
        return self.owner.device

    @property
    def is_cuda(self) -> bool:
        return self.owner.device.type == "cuda"

    @property
    def is_mps(self) -> bool:
        return self.owner.device.type == "mps"

    @property
    def is_meta(self) -> bool:
        return False

    def __repr__(self, **_: Any) -> str:
        return f"DeviceTensor({self.values!r}, device='{self.device}')"

    def tolist(self) -> Any:
        self.owner.wait()
        return self.values.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise self.owner.error(
            TypeError,
            f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() to copy "
            "the tensor to host memory first.",
        )


class _Device:
    """Performs operations on CPU values, refuses what the device would refuse, and counts."""

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind, 0)
        self.counts = Counts()
        self._special: dict[Any, Callable[..., Any]] = {
            aten._to_copy: self._convert,
            aten.copy_: self._copy,
            aten._local_scalar_dense: self._read,
        }

    def is_meant_by(self, device: object) -> bool:
        """Whether an argument called `device` names this one."""
        return device is not None and torch.device(device).type == self.device.type

    def put(self, values: Tensor) -> DeviceTensor:
        """A tensor on the device."""
        if self.device.type == "mps" and values.dtype == torch.float64:
            raise self.error(
                TypeError,
                "Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't "
                "support float64. Please use float32 instead.",
            )
        return DeviceTensor(values, self)

    def wait(self) -> None:
        """The host waits for the device."""
        self.counts.syncs[_place()] += 1

    def error(self, kind: type[Exception], text: str) -> Exception:
        """An error of the device, noted."""
        self.counts.errors[_place()] += 1
        return kind(text)

    def run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `func` gives; at least one argument is on the device, or names it."""
        return self._special.get(func.overloadpacket, self._compute)(func, args, kwargs)

    def _convert(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        (source,) = args
        wanted = kwargs.get("device")
        was_here = isinstance(source, DeviceTensor)
        stays = wanted is None or torch.device(wanted).type == "meta"
        is_here = was_here if stays else self.is_meant_by(wanted)
        waits = not kwargs.get("non_blocking", False)
        self._count_copy(func, source, is_here, waits=waits)
        values = func(_values(source), **{k: v for k, v in kwargs.items() if k in _CONVERTED})
        return self.put(values) if is_here else values

    def _copy(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        target, source, *more = args
        waits = not (more[0] if more else kwargs.get("non_blocking", False))
        self._count_copy(func, source, isinstance(target, DeviceTensor), waits=waits)
        _values(target).copy_(_values(source))
        return target

    def _count_copy(self, func: Any, source: Tensor, is_here: bool, *, waits: bool) -> None:
        was_here = isinstance(source, DeviceTensor)
        if was_here and is_here:
            self.counts.launches[_name(func)] += 1
            return
        (self.counts.to_device if is_here else self.counts.to_host)[_place()] += 1
        if waits or (is_here and not source.is_pinned()):
            self.wait()

    def _read(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.wait()
        return func(args[0].values)

    def _compute(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = _on_device((args, kwargs))
        self._check_company(func, args, kwargs)
        self._count(func, args)
        wanted = kwargs.get("device")
        is_here = bool(inputs) if wanted is None else torch.device(wanted).type != "cpu"
        if wanted is not None:
            kwargs = {**kwargs, "device": _CPU}
        # What is changed in place, or written to, comes back as the object that it was.
        known: dict[int, Tensor] = {id(tensor): tensor for tensor in _tensors((args, kwargs))}
        known |= {id(tensor.values): tensor for tensor in inputs}

        def wrapped(result: Any) -> Any:
            if not isinstance(result, Tensor) or not is_here:
                return result
            return known[id(result)] if id(result) in known else self.put(result)

        return tree_map(wrapped, func(*tree_map(_values, args), **tree_map(_values, kwargs)))

    def _check_company(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        packet = func.overloadpacket
        if packet in _TAKES_INDICES:
            target, indices, *others = args
            if not isinstance(target, DeviceTensor) and _on_device(indices):
                raise self.error(
                    RuntimeError,
                    "indices should be either on cpu or on the same device as the indexed tensor",
                )
            args, kwargs = (target, *others), {}
        foreign = [t for t in _tensors((args, kwargs)) if t.device.type == "cpu"]
        strict = packet in _TAKES_NO_SCALARS
        if _on_device((args, kwargs)) and any(strict or each.ndim for each in foreign):
            raise self.error(
                RuntimeError,
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{self.device} and cpu! (in {_name(func)})",
            )

    def _count(self, func: Any, args: tuple[Any, ...]) -> None:
        packet, name = func.overloadpacket, _name(func)
        if not func.is_view and "empty" not in name:
            self.counts.launches[name] += 1
        if packet in _ASKS_FOR_VALUES:
            self.wait()
        elif packet in _TAKES_INDICES:
            self._count_indices(args[1])

    def _count_indices(self, indices: Sequence[Tensor | None]) -> None:
        """A mask has to be counted before its result has a size; others may have to be copied."""
        for index in indices:
            if index is None:
                continue
            if not isinstance(index, DeviceTensor):
                self.counts.to_device[_place()] += 1
                self.wait()
            elif index.dtype in (torch.bool, torch.uint8):
                self.wait()


class _Mode(TorchDispatchMode):
    """Catches operations that name the device and have no tensor on it."""

    def __init__(self, device: _Device) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        wanted = options.get("device")
        if _on_device((args, options)) or self._device.is_meant_by(wanted):
            return self._device.run(func, args, options)
        if func.overloadpacket is aten.scalar_tensor and wanted == _META:
            # A number that torch's core is about to combine with one of our tensors.
            number = func(*args, **{**options, "device": _CPU})
            return DeviceTensor(number, self._device)
        return func(*args, **options)


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]


def _on_device(tree: Any) -> list[DeviceTensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, DeviceTensor)]


def _values(leaf: Any) -> Any:
    return leaf.values if isinstance(leaf, DeviceTensor) else leaf


def _name(func: Any) -> str:
    return str(func.overloadpacket)


def _place() -> str:
    """The innermost line of the package on the way here, else that of the caller."""
    frame: FrameType | None = sys._getframe(1)
    nearest = None
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_PACKAGE):
            return f"{path.relative_to(_PACKAGE)}:{frame.f_lineno} {frame.f_code.co_name}"
        outside = path != Path(__file__) and not path.is_relative_to(_TORCH)
        if nearest is None and outside:
            nearest = f"{path.name}:{frame.f_lineno} {frame.f_code.co_name}"
        frame = frame.f_back
    return nearest or "?"


# What torch is told of the device --------------------------------------------------------------

_Substitute = tuple[Any, str, Any]


def _substitutes(device: _Device) -> Iterator[_Substitute]:
    """(owner, name, what stands there meanwhile)"""
    yield from _conversions(device)
    if device.device.type == "mps":
        yield from _of(torch.backends.mps, is_available=_always(True), is_built=_always(True))
        yield from _of(torch.mps, **_random_state_functions(device.counts.opened))
        return
    yield from _of(torch.cuda, **_cuda_functions(device))
    yield from _of(
        torch.accelerator,
        current_stream=_always(_Stream()),
        current_device_index=_always(0),
    )
    # So that optimisers take the way that they take on a GPU.
    supported = [*torch_optimizer._foreach_supported_types, DeviceTensor]
    yield torch_optimizer, "_foreach_supported_types", supported


def _of(owner: Any, **substitutes: Any) -> Iterator[_Substitute]:
    return ((owner, name, substitute) for name, substitute in substitutes.items())


def _always(answer: Any) -> Callable[..., Any]:
    return lambda *_, **__: answer


class _Stream:
    def is_capturing(self) -> bool:
        return False


def _cuda_functions(device: _Device) -> dict[str, Callable[..., Any]]:
    nothing = ["_lazy_init", "init", "manual_seed", "manual_seed_all"]
    nothing += ["reset_peak_memory_stats", "empty_cache", "synchronize", "set_device"]
    return {
        **dict.fromkeys(nothing, _always(None)),
        "is_available": _always(True),
        "is_initialized": _always(True),
        "is_current_stream_capturing": _always(False),
        "is_bf16_supported": _always(True),
        "device_count": _always(1),
        "current_device": _always(0),
        "get_device_name": _always(NAME),
        "get_device_capability": _always((9, 0)),
        "memory_allocated": _always(2**19),
        "max_memory_allocated": _always(2**20),
        **_random_state_functions(device.counts.opened),
    }


def _random_state_functions(opened: Counter[str]) -> dict[str, Callable[..., Any]]:
    """To ask for the state of a device opens it: counted by the device's name."""

    def get_rng_state(device: Any = 0) -> Tensor:
        opened[str(device)] += 1
        return torch.zeros(16, dtype=torch.uint8)

    return {"get_rng_state": get_rng_state, "set_rng_state": _always(None)}


def _conversions(device: _Device) -> Iterator[_Substitute]:
    """Functions of torch's core that look at devices before an operation is dispatched."""
    make, convert, parse = torch.tensor, torch.Tensor.to, torch._C._nn._parse_to

    def tensor(data: Any, *, device: Any = None, **options: Any) -> Tensor:
        made = make(data, **options)
        return made if device is None else made.to(device)

    def known(argument: Any, place: torch.device) -> Any:
        named = isinstance(argument, str | torch.device) and device.is_meant_by(argument)
        return place if named else argument

    def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        # The core takes a tensor that is on the device for one on the meta device.
        place = _META if isinstance(self, DeviceTensor) else device.device
        moved = [known(argument, place) for argument in args]
        return convert(self, *moved, **{k: known(v, place) for k, v in kwargs.items()})

    def parse_to(*args: Any, **kwargs: Any) -> Any:
        place = device.device
        moved = [known(argument, place) for argument in args]
        return parse(*moved, **{k: known(v, place) for k, v in kwargs.items()})

    pinned = WeakTensorKeyDictionary()

    def pin(self: Tensor) -> Tensor:
        copy = self.clone()
        pinned[copy] = True
        return copy

    def is_pinned(self: Tensor) -> bool:
        return self in pinned

    yield from _of(torch.Tensor, pin_memory=pin, is_pinned=is_pinned)
    encode = torch.nn.functional.one_hot

    def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
        # The core would compare with a range of numbers on the meta device.
        if not isinstance(tensor, DeviceTensor):
            return encode(tensor, num_classes)
        if num_classes == -1:
            device.wait()
        return device.put(encode(tensor.values, num_classes))

    yield torch.nn.functional, "one_hot", one_hot
    yield torch, "tensor", tensor
    yield torch.Tensor, "to", to
    yield torch._C._nn, "_parse_to", parse_to
