"""The options that commands have in common, each in one place, and how commands take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from bench.runs.options import keyword_parameters

SuiteArgument = Annotated[Path, typer.Argument(metavar="SUITE", help="A suite file (YAML).")]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run folder, or its URL in an object store.")
]
Track = Annotated[
    str,
    typer.Option(
        metavar="NAMES", help="Also export results to tensorboard, mlflow (comma-separated)."
    ),
]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin", metavar="FILE", help="Python code that registers more names; repeatable."
    ),
]
OPTIONS = {
    "out": Annotated[
        str, typer.Option(help="Folder that run folders go to, or a URL (s3://bucket/prefix).")
    ],
    "device": Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")],
    "overrides": Annotated[
        list[str],
        typer.Option("--set", metavar="KEY=VALUE", help="Override a suite value, by dotted path."),
    ],
    "workers": Annotated[
        int | None,
        typer.Option(
            help="Number of trials at once. Default: the number of cores on a CPU, else 1."
        ),
    ],
    "executor": Annotated[str, typer.Option(help="auto, in-process, processes or ray.")],
    "address": Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT of a Ray cluster. Default: the one on this machine, started if needed."
        ),
    ],
    "only": Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUE", help="Only these trials, such as strategy=linear_probe."),
    ],
    "reuse": Annotated[
        bool,
        typer.Option(
            " /--no-reuse",
            show_default=False,
            help="Train every trial from its start and alone: share and reuse nothing.",
        ),
    ],
    "retry": Annotated[
        str | None, typer.Option(metavar="failed", help="Also train the trials that failed before.")
    ],
    "decide": Annotated[
        bool,
        typer.Option(
            "--decide",
            help="Add seeds to the strategies that are still open until the comparison is decided.",
        ),
    ],
    "margin": Annotated[
        float | None,
        typer.Option(
            help="With --decide: the largest difference that does not matter (0.01: one point)."
        ),
    ],
    "max_seeds": Annotated[
        int | None, typer.Option(help="With --decide: the most seeds of a strategy. Default: 20.")
    ],
    "minutes": Annotated[
        float | None, typer.Option(help="With --decide: add no seeds after this many minutes.")
    ],
    "advise": Annotated[
        bool | None,
        typer.Option(
            "--advise/--no-advise",
            show_default=False,
            help="Write down what bench advise says, before training. Default: if it costs little.",
        ),
    ],
}
"""The options of `RunOptions`, as the command line takes them."""


def load_plugins(places: list[str] | None) -> None:
    """Load what `--plugin` names."""
    from bench.suite.plugins import load_plugin

    for place in places or ():
        load_plugin(place)


def takes_options(keywords: type) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose `**options` are `keywords`, as typer sees it: with a parameter for each.

    It has `--plugin` too, and starts when the plugins are loaded.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters

        def wrapper(**given: Any) -> None:
            load_plugins(given["plugins"] if "plugins" in own else given.pop("plugins"))
            command(**given)

        parameters = {each.name: each for each in _parameters(command, keywords)}
        wrapper.__name__, wrapper.__doc__ = command.__name__, command.__doc__
        wrapper.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
        wrapper.__annotations__ = {name: each.annotation for name, each in parameters.items()}
        return wrapper

    return decorate


def _parameters(command: Callable[..., None], keywords: type) -> Iterator[inspect.Parameter]:
    """The command's own, the shared options, and the plugins."""
    kinds = get_type_hints(command, include_extras=True)
    for name, own in inspect.signature(command).parameters.items():
        if own.kind is not own.VAR_KEYWORD:
            yield own.replace(annotation=kinds[name], kind=own.KEYWORD_ONLY)
    for shared in keyword_parameters(keywords):
        default = list(shared.default) if shared.default == () else shared.default
        yield shared.replace(annotation=OPTIONS[shared.name], default=default)
    yield inspect.Parameter(
        "plugins", inspect.Parameter.KEYWORD_ONLY, annotation=Plugins, default=None
    )
