"""A trained trial as a file for other programs: written, checked in its own runtime, described.

Importing this package imports no torch.
"""

from __future__ import annotations

from bench.prediction.export.export import Exported, export

__all__ = ["Exported", "export"]
