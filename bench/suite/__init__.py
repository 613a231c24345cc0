"""Suite files: schema, loading with all mistakes at once, and the grid of trials."""

from bench.suite.dump import dump_suite
from bench.suite.grid import expand, locate, matches
from bench.suite.load import Catalogue, LoadedSuite, load_suite, selection
from bench.suite.schema import (
    AXES,
    AxisEntry,
    Entry,
    FractalWeights,
    GridRule,
    Settings,
    Suite,
    Trial,
    content_hash,
)

__all__ = [
    "AXES",
    "AxisEntry",
    "Catalogue",
    "Entry",
    "FractalWeights",
    "GridRule",
    "LoadedSuite",
    "Settings",
    "Suite",
    "Trial",
    "content_hash",
    "dump_suite",
    "expand",
    "load_suite",
    "locate",
    "matches",
    "selection",
]
