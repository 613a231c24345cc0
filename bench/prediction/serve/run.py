"""`bench serve`: load a trial, and answer until a signal comes."""

from __future__ import annotations

import ipaddress
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import BenchError, MissingExtraError
from bench.prediction.load import load
from bench.prediction.serve.limits import Limits

if TYPE_CHECKING:
    from collections.abc import Callable

DRAIN_SECONDS = 30
LOCAL = "127.0.0.1"


def serve(
    run: str | Path,
    *,
    trial: str | None = None,
    host: str = LOCAL,
    port: int = 8000,
    token: str | None = None,
    limits: Limits | None = None,
    device: str = "auto",
    tell: Callable[[str], None] | None = None,
) -> None:
    """Answer requests until the process gets SIGINT or SIGTERM; see `bench.serve`."""
    try:
        import uvicorn

        from bench.prediction.serve.app import make_app
        from bench.prediction.serve.connections import connections_under
    except ImportError as error:
        raise MissingExtraError(
            needed_for="bench serve", package=error.name or "fastapi", extra="serve"
        ) from error
    listening = _listening(host, port)
    model = load(run, trial, device=device)
    if model.preprocessing.kind == "vector":
        raise BenchError("only networks that take images or texts can be served")
    limits = limits or Limits()
    app = make_app(model, limits=limits, token=token)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=connections_under(limits),
            host=host,
            port=port,
            log_level="error",
            timeout_graceful_shutdown=DRAIN_SECONDS,
            timeout_keep_alive=5,
            server_header=False,
        )
    )
    if tell is not None:
        tell(str(model.chosen))
        tell(f"http://{host}:{port}/ answers; Ctrl-C stops it after the requests that it has begun")
        if token is None and not _is_local(host):
            tell(
                "everybody who reaches this address can use the service; protect it with --token "
                "TOKEN"
            )
    with listening:
        server.run(sockets=[listening])


def _listening(host: str, port: int) -> socket.socket:
    """A socket at the address; raises `BenchError` where that cannot be had."""
    if not 0 < port < 65536:
        raise BenchError(f"--port must lie in 1 to 65535, got {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise BenchError(
            f"cannot listen at {host}:{port} ({error.strerror or error}); give another --host or "
            "--port"
        ) from error


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
