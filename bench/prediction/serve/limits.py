"""What a service takes, so that no client can exhaust it."""

from __future__ import annotations

from dataclasses import dataclass

from bench.errors import BenchError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes of a request, and of all at once; images or texts of a request; pixels of an image,
    characters of a text.

    So many `requests` are answered at once, others are told to try again. A client has so many
    seconds to send the head of its request, and so many for the rest, an answer so many until it is
    given up. So many `spare_connections` may be open beside those whose requests are answered.
    """

    request_bytes: int = 20 * 2**20
    bytes_at_once: int = 2**30
    images: int = 64
    pixels: int = 50_000_000
    texts: int = 256
    characters: int = 100_000
    requests: int = 512
    spare_connections: int = 288
    head_seconds: float = 10.0
    upload_seconds: float = 30.0
    answer_seconds: float = 60.0

    @property
    def connections(self) -> int:
        """How many may be open; further ones are closed at once."""
        return self.requests + self.spare_connections

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise BenchError(f"{name} must be above 0, got {value}")
