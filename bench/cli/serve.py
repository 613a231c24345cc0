"""`bench serve`: a trained trial as a web service."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

import typer
from rich.markup import escape

import bench
from bench.cli.console import error_console
from bench.cli.options import Plugins, RunArgument, load_plugins


def serve(
    run: RunArgument,
    trial: Annotated[
        str | None,
        typer.Option(
            metavar="TRIAL", help="First characters of a trial's id. Default: the recommended one."
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen at.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(envvar="BENCH_TOKEN", help="The token that clients must send."),
    ] = None,
    max_mib: Annotated[float, typer.Option(help="The largest request, in MiB.")] = 20,
    max_pixels: Annotated[int, typer.Option(help="The largest image, in pixels.")] = 50_000_000,
    max_characters: Annotated[int, typer.Option(help="The longest text, in characters.")] = 100_000,
    max_requests: Annotated[
        int, typer.Option(help="The most requests at once; others get status 429.")
    ] = 512,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    plugin: Plugins = None,
) -> None:
    """Serve a trained trial: a page for images or texts, and POST /predict for programs."""
    load_plugins(plugin)
    # It has answered all requests by then.
    with suppress(KeyboardInterrupt):
        bench.serve(
            run,
            trial=trial,
            host=host,
            port=port,
            token=token,
            request_bytes=round(max_mib * 2**20),
            pixels=max_pixels,
            characters=max_characters,
            requests=max_requests,
            device=device,
            tell=lambda text: error_console.print(escape(text), highlight=False),
        )
