"""Clients that hold connections: nothing sent, a head in drops, more than there may be."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from bench.prediction.serve.limits import Limits

uvicorn = pytest.importorskip("uvicorn")

PATIENCE = 20.0
"""Seconds after which a test fails; the server takes a fraction of one."""
REQUEST = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def slow_app(scope: Any, receive: Any, send: Any) -> None:
    """Answers after longer than a head may take."""
    await asyncio.sleep(0.3)
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
    )
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def served(limits: Limits) -> AsyncIterator[Callable[[], Awaitable[Client]]]:
    """The server in this process, and what opens a connection to it."""
    from bench.prediction.serve.connections import connections_under

    place = socket.create_server(("127.0.0.1", 0))
    own = connections_under(limits)
    config = uvicorn.Config(slow_app, http=own, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[place]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield lambda: asyncio.open_connection(*place.getsockname())
    finally:
        server.should_exit = True
        await task


async def ended(client: Client) -> bytes:
    """All that still comes until the server ends the connection."""
    async with asyncio.timeout(PATIENCE):
        try:
            return await client[0].read()
        except ConnectionError:
            return b""
        finally:
            client[1].close()


async def answered(client: Client) -> bytes:
    client[1].write(REQUEST)
    async with asyncio.timeout(PATIENCE):
        return await client[0].readuntil(b"ok")


def test_a_client_that_sends_nothing_or_drops_is_left() -> None:
    async def clients() -> None:
        async with served(Limits(head_seconds=0.2)) as connect:
            silent, slow, again = [await connect() for _ in range(3)]
            assert (await answered(again)).startswith(b"HTTP/1.1 200")
            again[1].write(REQUEST[:10])  # a second head that never ends

            async def drops() -> None:
                for byte in REQUEST[:-1] * 100:
                    slow[1].write(bytes([byte]))
                    await asyncio.sleep(0.05)

            dropping = asyncio.create_task(drops())
            assert await asyncio.gather(*map(ended, (silent, slow, again))) == [b""] * 3
            dropping.cancel()

    asyncio.run(clients())


def test_a_request_that_is_being_answered_is_not_hurried() -> None:
    async def clients() -> None:
        async with served(Limits(head_seconds=0.1)) as connect:
            client = await connect()
            for _ in range(2):
                assert (await answered(client)).startswith(b"HTTP/1.1 200")
            client[1].close()

    asyncio.run(clients())


def test_more_connections_than_may_be_are_closed_and_the_others_answered() -> None:
    async def clients() -> None:
        async with served(Limits(requests=1, spare_connections=1)) as connect:
            first, second = await connect(), await connect()
            assert (await answered(first)).startswith(b"HTTP/1.1 200")  # both are known by now
            third = await connect()
            assert await ended(third) == b""
            assert (await answered(second)).startswith(b"HTTP/1.1 200")
            second[1].close()
            await ended(second)
            fourth = await connect()
            assert (await answered(fourth)).startswith(b"HTTP/1.1 200")
            for client in (first, fourth):
                client[1].close()

    asyncio.run(clients())
