"""Prints the lowest versions that `pyproject.toml` allows, as constraints for pip.

Those of the dev extra are left out: tools may be as new as they come.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"
BOUND = re.compile(r"(?P<name>[\w.-]+)>=(?P<version>[\w.]+)")


def lowest(requirements: list[str]) -> Iterator[str]:
    """`name==version` for each `name>=version`; nothing else says what is lowest."""
    for requirement in requirements:
        bound = BOUND.fullmatch(requirement)
        if bound is None:
            sys.exit(f"{PYPROJECT.name}: {requirement!r} is not NAME>=VERSION")
        yield f"{bound['name']}=={bound['version']}"


def main() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    requirements: list[str] = list(project["dependencies"])
    for extra, wanted in project["optional-dependencies"].items():
        requirements += wanted if extra != "dev" else []
    print(*sorted(set(lowest(requirements))), sep="\n")


if __name__ == "__main__":
    main()
