"""The run folder: one part per trial, the three tables made of them, and reading a finished run."""

from bench.results.folder.advice import (
    Advice,
    AdvisedCell,
    Origin,
    Range,
    Start,
    TextLengths,
    copy_advice,
    read_advice,
    write_advice,
)
from bench.results.folder.checks import STATUSES, read_json
from bench.results.folder.columns import (
    PROBABILITY_PREFIX,
    TABLES,
    class_names,
    output_names,
    target_task_of,
)
from bench.results.folder.links import refuse_links
from bench.results.folder.lock import RunLock
from bench.results.folder.lr_ranges import read_lr_ranges, write_lr_ranges
from bench.results.folder.outliers import read_outliers, write_outliers
from bench.results.folder.parts import Part, RunStore, damaged_checkpoints
from bench.results.folder.remote import Push, RemoteFolder, part_item, push_run, pushing, run_folder
from bench.results.folder.run import Run, is_whole, read_run, write_checked_json, write_json
from bench.results.folder.tables import (
    SCHEMA_VERSION,
    TRIAL_COLUMNS,
    Rows,
    columns_of_task,
    multi_label_columns,
    prediction_columns,
    regression_columns,
    table_schema,
)
from bench.results.folder.thumbnails import (
    InputView,
    has_damaged_thumbnails,
    read_input_views,
    read_thumbnails,
    write_input_views,
    write_thumbnails,
)
from bench.results.folder.transfer_scores import (
    ScoreRow,
    read_transfer_scores,
    write_transfer_scores,
)
from bench.results.folder.tuning import Tuning, copy_untuned, read_tuning, write_tuning

__all__ = [
    "PROBABILITY_PREFIX",
    "SCHEMA_VERSION",
    "STATUSES",
    "TABLES",
    "TRIAL_COLUMNS",
    "Advice",
    "AdvisedCell",
    "InputView",
    "Origin",
    "Part",
    "Push",
    "Range",
    "RemoteFolder",
    "Rows",
    "Run",
    "RunLock",
    "RunStore",
    "ScoreRow",
    "Start",
    "TextLengths",
    "Tuning",
    "class_names",
    "columns_of_task",
    "copy_advice",
    "copy_untuned",
    "damaged_checkpoints",
    "has_damaged_thumbnails",
    "is_whole",
    "multi_label_columns",
    "output_names",
    "part_item",
    "prediction_columns",
    "push_run",
    "pushing",
    "read_advice",
    "read_input_views",
    "read_json",
    "read_lr_ranges",
    "read_outliers",
    "read_run",
    "read_thumbnails",
    "read_transfer_scores",
    "read_tuning",
    "refuse_links",
    "regression_columns",
    "run_folder",
    "table_schema",
    "target_task_of",
    "write_advice",
    "write_checked_json",
    "write_input_views",
    "write_json",
    "write_lr_ranges",
    "write_outliers",
    "write_thumbnails",
    "write_transfer_scores",
    "write_tuning",
]
