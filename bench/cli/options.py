"""The options that commands have in common, each in one place, and how commands take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

SuiteArgument = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite file (YAML).")]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run folder, or its URL in an object store.")
]
Track = Annotated[
    str, typer.Option(metavar="NAMES", help="Also export to tensorboard, mlflow (comma-separated).")
]
Only = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="Only these trials, such as strategy=linear_probe."),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="FILE", help="Python code that registers more names; repeatable."
    ),
]


def load_plugins(places: list[str] | None) -> None:
    """Load what `--plugin` names."""
    from bench.suite.plugins import load_plugin

    for place in places or ():
        load_plugin(place)


@dataclass(frozen=True, kw_only=True)
class SuiteOptions:
    """Where a suite's run goes and what it runs on."""

    out: Annotated[
        str, typer.Option(help="Folder that run folders go to, or a URL (s3://bucket/prefix).")
    ] = "results"
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto"
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a suite value, by dotted path."),
    ] = None

    plugins: Plugins = None

    def arguments(self) -> dict[str, Any]:
        """The arguments of the same names that Python calls have."""
        load_plugins(self.plugins)
        return {"out": self.out, "device": self.device, "overrides": self.overrides or ()}


@dataclass(frozen=True, kw_only=True)
class ProcessOptions:
    """Which processes train."""

    workers: Annotated[
        int | None, typer.Option(help="Trials at once. Default: the cores on a CPU, else 1.")
    ] = None
    executor: Annotated[str, typer.Option(help="auto, in-process, processes or ray.")] = "auto"
    address: Annotated[
        str | None, typer.Option(help="Of a Ray cluster (default: one here, started if need be).")
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The arguments of the same names that Python calls have."""
        return {"workers": self.workers, "executor": self.executor, "address": self.address}


@dataclass(frozen=True, kw_only=True)
class TrialOptions:
    """Which trials are trained."""

    only: Only = None
    no_reuse: Annotated[
        bool, typer.Option("--no-reuse", help="Train every trial anew, by itself.")
    ] = False
    retry: Annotated[
        str | None, typer.Option(metavar="failed", help="Also train the trials that failed before.")
    ] = None

    def arguments(self) -> dict[str, Any]:
        """The arguments of the same names that Python calls have."""
        return {"only": self.only or (), "reuse": not self.no_reuse, "retry": self.retry}


def takes_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer sees it: a parameter that is a data class stands for all its fields."""
    kinds = get_type_hints(command, include_extras=True)
    groups = {name: kind for name, kind in kinds.items() if is_dataclass(kind)}

    def wrapper(**given: Any) -> None:
        whole = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)})  # type: ignore[operator]
            for name, kind in groups.items()
        }
        command(**given, **whole)

    parameters = list(_parameters(command, kinds))
    wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
    wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapper.__annotations__ = {each.name: each.annotation for each in parameters}
    return wrapper


def _parameters(command: Callable[..., None], kinds: dict[str, Any]) -> Iterator[inspect.Parameter]:
    for name, parameter in inspect.signature(command).parameters.items():
        kind = kinds[name]
        if not is_dataclass(kind):
            yield parameter.replace(annotation=kind, kind=inspect.Parameter.KEYWORD_ONLY)
            continue
        hints = get_type_hints(kind, include_extras=True)
        for field in fields(kind):
            yield inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=field.default,
                annotation=hints[field.name],
            )
