"""The run folder inside a run's, of the same configs under a random split (`split_check`)."""

from __future__ import annotations

from bench.errors import BenchError
from bench.results.folder.run import Run, read_run

FOLDER = "split_check"


def read_split_check(run: Run) -> Run | None:
    """That of a run; None where there is none, or nothing of it has ended yet.

    Raises `BenchError` if it is damaged.
    """
    folder = run.folder / FOLDER
    if not (folder / "trials.parquet").is_file():
        return None
    try:
        return read_run(folder)
    except BenchError as error:
        raise BenchError(f"{error}; or delete {folder}: then a new start makes it again") from None
