"""Suite files: schema, loading with all mistakes at once, and the grid of trials."""

from bench.suite.dump import dump_compact, dump_suite
from bench.suite.grid import (
    WrittenTrial,
    distinct,
    expand,
    is_selected,
    locate,
    matches,
    normal_form,
    written_trials,
)
from bench.suite.labels import cell_labels, trial_label
from bench.suite.limits import Limits
from bench.suite.load import Catalogue, LoadedSuite, load_suite, selection
from bench.suite.no_effect import Note, Uses, no_effect
from bench.suite.resources import Resources
from bench.suite.schema import (
    ADDED_LATER,
    AXES,
    AxisEntry,
    Checkpoints,
    Entry,
    FileWeights,
    FractalWeights,
    GridRule,
    Interpolation,
    Settings,
    Suite,
    Trial,
    reader_of,
)
from bench.suite.source import SuiteSource
from bench.suite.tune import (
    BUDGETS,
    Choices,
    Direction,
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
    "Checkpoints",
    "Choices",
    "Direction",
    "Entry",
    "FileWeights",
    "FoundRange",
    "FractalWeights",
    "GoalName",
    "GridRule",
    "Interpolation",
    "Limits",
    "LoadedSuite",
    "Method",
    "Note",
    "Range",
    "Resources",
    "Searched",
    "Settings",
    "Suite",
    "SuiteSource",
    "Trial",
    "Tune",
    "Uses",
    "WrittenTrial",
    "cell_labels",
    "direction",
    "distinct",
    "dump_compact",
    "dump_suite",
    "expand",
    "is_selected",
    "load_suite",
    "locate",
    "matches",
    "no_effect",
    "normal_form",
    "reader_of",
    "selection",
    "trial_label",
    "written_trials",
]
