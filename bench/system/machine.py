"""The machine a trial runs on: devices, precision, memory, and what is written down of it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import platform
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from bench.errors import BenchError
from bench.system.gpu_arithmetic import policy

PACKAGES = (
    "bench", "torch", "torchvision", "timm", "scikit-learn", "numpy", "pandas", "pyarrow", "pillow",
)  # fmt: skip

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_GIBIBYTE = 1 << 30


def keep_large_buffers() -> bool:
    """Let glibc keep large buffers instead of returning them to the system after every use.

    Activations are freed and allocated again at every step; page faults on fresh pages cost up to
    2.3 times the run time. Must be called before torch allocates; changes no bit of any result.
    `BENCH_KEEP_BUFFERS=0` turns it off. Returns whether it is in force.
    """
    if not sys.platform.startswith("linux") or os.environ.get("BENCH_KEEP_BUFFERS") == "0":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    # glibc takes an int and refuses an mmap threshold above half of its largest heap.
    mmap_kept = mallopt(_M_MMAP_THRESHOLD, _GIBIBYTE)
    return bool(mallopt(_M_TRIM_THRESHOLD, 2 * _GIBIBYTE - 1) and mmap_kept)


def limit_memory(gibibytes: float, device: str = "cpu") -> None:
    """Let an allocation fail, as an error of the trial, once the process has so much of its own.

    Of data and not of addresses: torch's libraries alone have gigabytes of those. What the driver
    of a GPU maps when `device` is opened is none of the trial's: it comes on top.
    """
    import resource

    driver = 0
    if device.startswith("cuda"):
        import torch

        before = _data_bytes()
        torch.zeros(1, device=device)
        driver = max(0, _data_bytes() - before)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = int(gibibytes * 2**30) + driver
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


def _data_bytes() -> int:
    """What counts towards the limit."""
    return 1024 * (_status_kibibytes("VmData") or 0)


def resolve_device(name: str) -> str:
    """`auto` to the best device here; raises `BenchError` for a device that is not here."""
    import torch

    if name == "cpu":
        return name  # and no other device is looked at
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = name.partition(":")
    indexed = kind == "cuda" and index.isdigit()
    if kind not in ("cpu", "cuda", "mps") or (":" in name and not indexed):
        raise BenchError(f"--device must be auto, cpu, cuda, cuda:N or mps, got {name!r}")
    if kind == "cuda" and (not cuda or (index and int(index) >= torch.cuda.device_count())):
        count = torch.cuda.device_count() if cuda else 0
        raise BenchError(
            f"--device {name}: this machine has {count} usable CUDA devices; with --executor ray, "
            "start the run on a node that has one, as what nodes compute is checked against it"
        )
    if kind == "mps" and not mps:
        raise BenchError("--device mps: this machine has no usable Metal device")
    return name


def equal_gpus(device: str) -> tuple[str, ...]:
    """The GPUs that `cuda` may mean, as `CUDA_VISIBLE_DEVICES` has them; none for other devices.

    Those that are not of the kind of the first would give other numbers: they are left out.
    """
    return alike_gpus(device) if device == "cuda" else ()


def alike_gpus(device: str) -> tuple[str, ...]:
    """The GPU `device` and those of its kind behind it, as `CUDA_VISIBLE_DEVICES` has them."""
    import torch

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    count = torch.cuda.device_count()
    names = visible.split(",") if visible else [str(index) for index in range(count)]
    return tuple(names[index].strip() for index in _alike_from(_index(device)))


def _index(device: str) -> int:
    """That of a GPU; the first one if none is given."""
    return int(device.partition(":")[2] or 0)


def _alike_from(first: int) -> list[int]:
    """The GPU called `first` and those behind it that are of its kind."""
    import torch

    behind = range(first, torch.cuda.device_count())
    kinds = {index: torch.cuda.get_device_name(index) for index in behind}
    return [index for index, kind in kinds.items() if kind == kinds[first]]


def check_devices(device: str, count: int) -> None:
    """Raise `BenchError` unless a trial on `device` can have `count` devices, this and the next.

    GPUs of another kind do not count: ranks must compute alike. Processes on the CPU are as good
    as devices.
    """
    if count == 1 or device == "cpu":
        return
    gpus = device.startswith("cuda")
    here = len(_alike_from(_index(device))) if gpus else 1
    if here < count:
        alike = " of one kind" if gpus else ""
        raise BenchError(
            f"devices_per_trial: {count} asks for more devices than there are: {here}{alike} from "
            f"--device {device} on; lower it, or set micro_batch, which needs one"
        )


def device_of_rank(device: str, rank: int) -> str:
    """The device of one of the processes that train a trial together on `device` and the next
    ones of its kind."""
    if not device.startswith("cuda"):
        return device
    return f"cuda:{_alike_from(_index(device))[rank]}"


def has_native_bf16(device: str) -> bool:
    """Whether matrix work in bfloat16 runs on instructions made for it."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device == "cpu":
        flags = cpu_flags()
        return bool({"avx512_bf16", "amx_bf16", "bf16"} & flags)
    return False


def half_precision(device: str) -> str | None:
    """The format of two bytes in which matrix work is made for speed, `bf16` before `fp16`."""
    import torch

    if has_native_bf16(device):
        return "bf16"
    if device.startswith("cuda") and torch.cuda.get_device_capability(device)[0] >= 7:
        return "fp16"
    return None


def cpu_flags() -> frozenset[str]:
    """The processor's features as Linux names them; empty elsewhere."""
    return frozenset(_cpuinfo("flags", "Features").split())


def cpu_name() -> str:
    """The processor's model name."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(*keys: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    values = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in values if key.strip() in keys), "")


def usable_cores() -> int:
    """Cores that this process may use: its affinity, and the quota of its container."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cores, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or "max"
        return cores


class PeakMemory:
    """Peak memory in MiB since this was made: of the process on a CPU, of the device on a GPU.

    What earlier work has freed is given back to the system first, so that it does not count. Where
    the system cannot measure a span of time, and on Metal, nothing is known.
    """

    def __init__(self, device: str) -> None:
        import torch

        self._device = device
        self._measured = True
        if device.startswith("cuda"):
            torch.cuda.init()  # type: ignore[no-untyped-call]  # with an index, the next call would not do it
            torch.cuda.reset_peak_memory_stats(device)
        else:
            give_back_freed_memory()
            self._measured = device == "cpu" and _reset_peak_resident()

    def mebibytes(self) -> float | None:
        """The peak so far; None where the system does not tell."""
        import torch

        if self._device.startswith("cuda"):
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        peak = _status_kibibytes("VmHWM") if self._measured else None
        return None if peak is None else peak / 1024


def give_back_freed_memory() -> None:
    """Let glibc return to the system what it keeps of freed buffers; elsewhere nothing."""
    if not sys.platform.startswith("linux"):
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak_resident() -> bool:
    """Let the high-water mark of the process begin anew; False where the system has none."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _status_kibibytes(name: str) -> int | None:
    """A value that Linux tells of this process; None elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    values = (line.split() for line in lines if line.startswith(f"{name}:"))
    return next((int(value[1]) for value in values), None)


NUMERIC = ("torch", "torchvision", "timm", "numpy", "pillow")
"""The packages whose version may change the last bits of a result."""


@cache
def package_versions() -> dict[str, str]:
    """Versions of the installed packages among those that numbers depend on."""
    return installed_versions(*PACKAGES)


@cache
def installed_versions(*packages: str) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    versions = {}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def arithmetic(device: str) -> dict[str, Any]:
    """What the last bits of a result depend on, beside what is computed: device, libraries and
    the switches of torch that change how it multiplies."""
    import torch

    return {
        "kind": device.partition(":")[0],
        **{name: version for name, version in package_versions().items() if name in NUMERIC},
        "build": torch.__version__,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
        **(_cuda_arithmetic(device) if device.startswith("cuda") else {"device": cpu_name()}),
        # Images are decoded and varied on the CPU, whatever trains.
        "capability": torch.backends.cpu.get_cpu_capability(),
        "mkldnn": torch.backends.mkldnn.enabled,
    }


def _cuda_arithmetic(device: str) -> dict[str, Any]:
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    return {
        "device": torch.cuda.get_device_name(device),
        "compute_capability": torch.cuda.get_device_capability(device),
        "cuda": torch.version.cuda,
        "cudnn": cudnn.version(),  # type: ignore[no-untyped-call]
        "cudnn_enabled": cudnn.enabled,
        "cudnn_benchmark": cudnn.benchmark,
        **policy(),
        "reduced_bf16": matmul.allow_bf16_reduced_precision_reduction,
    }


def describe_machine(device: str) -> dict[str, Any]:
    """Versions, processor, memory and device, in plain types."""
    import psutil
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else cpu_name()
    return {
        "python": platform.python_version(),
        "packages": package_versions(),
        "platform": platform.platform(),
        "cpu": cpu_name(),
        "cores": usable_cores(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "device": device,
        "device_name": name,
        "native_bf16": has_native_bf16(device),
        **(policy() if device.startswith("cuda") else {}),
    }
