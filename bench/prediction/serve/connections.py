"""Connections of clients that send nothing, or not enough to be a request: they end.

Uvicorn ends idle connections after a request alone, and waits for the first one for ever.
"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from bench.prediction.serve.limits import Limits


class Connection(H11Protocol):
    """A connection that has `limits.head_seconds` from where it waits to the end of a request's
    head, however slowly that arrives; none beyond `limits.connections`."""

    limits = Limits()
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it begin, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            transport.close()
            return
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what has come: it has to become a request in time."""
        super().data_received(data)
        if self._answering:
            self._stop_waiting()
        elif self._deadline is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._deadline = self.loop.call_later(self.limits.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self._answering:
            self.transport.close()


def connections_under(limits: Limits) -> type[Connection]:
    """The protocol that `uvicorn.Config` takes as `http`."""
    return type("LimitedConnection", (Connection,), {"limits": limits})
