"""Suite files: schema, loading with all mistakes at once, and the grid of trials."""

from bench.suite.dump import dump_compact, dump_suite
from bench.suite.grid import expand, locate, matches, normal_form
from bench.suite.load import Catalogue, LoadedSuite, load_suite, selection
from bench.suite.resources import Resources
from bench.suite.schema import (
    ADDED_LATER,
    AXES,
    AxisEntry,
    Entry,
    FractalWeights,
    GridRule,
    Settings,
    Suite,
    Trial,
)
from bench.suite.tune import (
    BUDGETS,
    Choices,
    FoundRange,
    GoalName,
    Method,
    Range,
    Searched,
    Tune,
    direction,
)

__all__ = [
    "ADDED_LATER",
    "AXES",
    "BUDGETS",
    "AxisEntry",
    "Catalogue",
    "Choices",
    "Entry",
    "FoundRange",
    "FractalWeights",
    "GoalName",
    "GridRule",
    "LoadedSuite",
    "Method",
    "Range",
    "Resources",
    "Searched",
    "Settings",
    "Suite",
    "Trial",
    "Tune",
    "direction",
    "dump_compact",
    "dump_suite",
    "expand",
    "load_suite",
    "locate",
    "matches",
    "normal_form",
    "selection",
]
