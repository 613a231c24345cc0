"""Wheels for a machine that has torch and torchvision, no network, and not what else `bench` needs.

What that is stands in pyproject.toml; pip looks for it where it always does. Run it where there is
a network, for the Python and the system of the other machine:

    python benchmarks/gpu_wheels.py wheels --python 3.12
    python benchmarks/gpu_wheels.py wheels --python 3.12 --extra ray --has numpy pillow

and there, in the repository:

    pip install --no-index --no-deps wheels/*.whl
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
THERE = ("torch", "torchvision")
"""What the other machine has: its torch fits its driver, and is not to be replaced."""

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux2014_x86_64")
"""Of most machines with a GPU; a wheel for either will do."""

MEBIBYTE = 2**20


def requirements(
    project: Mapping[str, Any], *, extras: Iterable[str] = (), there: Iterable[str] = THERE
) -> list[str]:
    """What `project`, of pyproject.toml, needs with these extras, but for what is `there`.

    Raises `KeyError` for an extra that it does not have.
    """
    every = list(project["dependencies"])
    for extra in extras:
        every += project["optional-dependencies"][extra]
    known = {_plain(name) for name in (*there, project["name"])}
    return [each for each in every if name_of(each) not in known]


def name_of(requirement: str) -> str:
    """`torch` of `torch>=2.11`, in the spelling that is compared."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found is not None, f"no name in {requirement!r}"
    return _plain(found.group())


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def download_command(
    wanted: Sequence[str], folder: Path, *, python: str, platforms: Sequence[str], deps: bool = True
) -> list[str]:
    """How pip fetches wheels, and nothing that would have to be built, for another machine."""
    options = ["--only-binary", ":all:", "--dest", str(folder), "--python-version", python]
    for platform in platforms:
        options += ["--platform", platform]
    if not deps:
        options.append("--no-deps")
    return [sys.executable, "-m", "pip", "download", *options, *wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch them; the exit code is pip's."""
    given = _parser().parse_args(arguments)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    unknown = set(given.extra) - set(project["optional-dependencies"])
    if unknown:
        known = ", ".join(project["optional-dependencies"])
        print(f"--extra must be of {known}; got {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    wanted = requirements(project, extras=given.extra, there=(*THERE, *given.has))
    # Else pip would fetch a torch of its own for them.
    alone = [each for each in wanted if name_of(each) in {_plain(name) for name in given.alone}]
    others = [each for each in wanted if each not in alone]
    given.folder.mkdir(parents=True, exist_ok=True)
    target = {"python": given.python, "platforms": given.platform or PLATFORMS}
    for names, deps in ((others, True), (alone, False)):
        if names:
            command = download_command(names, given.folder, deps=deps, **target)
            ended = subprocess.run(command).returncode
            if ended:
                return ended
    wheels = sorted(given.folder.glob("*.whl"))
    size = sum(wheel.stat().st_size for wheel in wheels) / MEBIBYTE
    print(f"{len(wheels)} wheels, {size:.0f} MiB. On the machine that lacks them:")
    print(f"pip install --no-index --no-deps {given.folder}/*.whl")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="Folder of the wheels.")
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    parser.add_argument("--python", default=here, help=f"Of the other machine (default: {here}).")
    parser.add_argument(
        "--platform",
        action="append",
        help=f"Of the other machine; may be given again (default: {' and '.join(PLATFORMS)}).",
    )
    parser.add_argument("--extra", nargs="+", default=[], help="Optional parts of bench: ray, …")
    parser.add_argument(
        "--has", nargs="+", default=[], help="Names that are there, beside torch and torchvision."
    )
    parser.add_argument(
        "--alone",
        nargs="+",
        default=["timm"],
        help="Names that need torch themselves: without what they need (default: timm).",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
