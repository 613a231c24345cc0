"""`bench serve`: a trained trial as a web service."""

from __future__ import annotations

from bench.prediction.serve.limits import Limits

__all__ = ["Limits"]
