"""What a service counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class Measured:
    """Counters of one service: requests by status and time, samples, batches, who waits.

    `noun` is what samples are called, in the plural.
    """

    def __init__(self, noun: str) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "bench_requests", "Requests to /predict.", ["status"], registry=self._registry
        )
        self._seconds = Histogram(
            "bench_request_seconds",
            "Time of a request to /predict.",
            buckets=SECONDS,
            registry=self._registry,
        )
        self._samples = Counter(
            f"bench_{noun}",
            f"{noun.capitalize()} by outcome.",
            ["outcome"],
            registry=self._registry,
        )
        self._batches = Histogram(
            f"bench_batch_{noun}",
            f"{noun.capitalize()} that passed the network together.",
            buckets=SIZES,
            registry=self._registry,
        )
        self._waiting = Gauge(
            f"bench_waiting_{noun}",
            f"{noun.capitalize()} that wait for the network.",
            registry=self._registry,
        )

    def request(self, status: int, seconds: float) -> None:
        """A request has been answered."""
        self._requests.labels(str(status)).inc()
        self._seconds.observe(seconds)

    def sample(self, outcome: str) -> None:
        """A sample was classified or refused."""
        self._samples.labels(outcome).inc()

    def batch(self, size: int) -> None:
        """A batch passes the network."""
        self._batches.observe(size)

    def text(self, *, waiting: int) -> tuple[bytes, str]:
        """All of it as Prometheus reads it, and its media type."""
        self._waiting.set(waiting)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST
