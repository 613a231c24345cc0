from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.errors import BenchError
from bench.methods.metrics import measured
from bench.results.folder import (
    TABLES,
    TRIAL_COLUMNS,
    RunLock,
    RunStore,
    prediction_columns,
    read_run,
    table_schema,
    write_json,
)
from bench.results.folder.checks import trials_problem
from bench.results.folder.columns import METRICS, metric_of
from bench.results.metric import ACCURACY
from tests.damage import flip
from tests.made_up_run import made_up_run

ROW = {
    "trial": "t1",
    "config": "c1",
    "status": "complete",
    "seed": 3,
    "lr": 0.01,
    "settings": '{"momentum": 0.9}',
    "val_loss": float("nan"),
    "started": datetime(2026, 3, 1, 9, 30, 15, 250, tzinfo=UTC),
}
CURVES = {
    "epoch": [1, 1, 2, 2],
    "split": ["train", "val"] * 2,
    "loss": [0.7, 0.8, float("nan"), 0.6],
    "accuracy": [0.5, 0.25, 0.75, 0.5],
    "lr": [0.01, 0.01, 0.005, 0.005],
    "seconds": [1.5, 0.5, 1.25, 0.25],
}


def _predictions(n: int = 4) -> dict[str, Any]:
    return prediction_columns(
        samples=[f"test/{index}" for index in range(n)],
        labels=np.arange(n) % 2,
        probabilities=np.tile(np.array([[0.25, 0.75]], dtype="float32"), (n, 1)),
        classes=("ants", "wild bees"),
    )


def test_tables_are_plain_parquet_with_the_documented_columns(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_part(ROW, CURVES, _predictions())
    store.consolidate(["t1"])

    trials = pq.read_table(tmp_path / "trials.parquet")
    assert tuple(trials.column_names) == TRIAL_COLUMNS
    assert {str(kind) for kind in trials.schema.types} == {
        "string",
        "int64",
        "double",
        "timestamp[us, tz=UTC]",
    }
    row = trials.to_pylist()[0]
    assert {name: row[name] for name in ROW if name != "val_loss"} == {
        name: value for name, value in ROW.items() if name != "val_loss"
    }
    assert np.isnan(row["val_loss"])
    assert row["val_accuracy"] is None

    curves = pq.read_table(tmp_path / "curves.parquet").to_pydict()
    unmeasured = {name: [None] * 4 for name in METRICS if name not in CURVES}
    np.testing.assert_equal(curves, {"trial": ["t1"] * 4, **CURVES, **unmeasured})

    predictions = pq.read_table(tmp_path / "predictions.parquet")
    assert predictions.column_names == [
        "trial",
        "sample",
        "label",
        "predicted",
        "split",
        "probability_ants",
        "probability_wild bees",
    ]
    assert predictions.to_pylist()[1] == {
        "trial": "t1",
        "sample": "test/1",
        "label": "wild bees",
        "predicted": "wild bees",
        "split": "test",
        "probability_ants": 0.25,
        "probability_wild bees": 0.75,
    }


def test_documented_contract_is_covered() -> None:
    contract = """
        trial config suite dataset backbone weights strategy schedule augmentation seed epochs
        batch_size optimizer lr status error best_epoch val_loss val_accuracy test_loss
        test_accuracy last_val_accuracy last_test_accuracy trainable_params total_params
        train_seconds reused_epochs peak_memory_mib device precision started finished"""
    assert set(contract.split()) <= set(TRIAL_COLUMNS)
    measured_each = {f"{split}_{name}" for name in METRICS for split in ("val", "test")}
    assert measured_each <= set(TRIAL_COLUMNS)
    curves = ["trial", "epoch", "split", "loss", *METRICS, "lr", "seconds"]
    assert table_schema("curves").names == curves


def test_rows_columns_and_frames_are_stored_alike(tmp_path: Path) -> None:
    frame = pd.DataFrame(CURVES)
    shapes: list[Any] = [CURVES, frame, frame.to_dict("records")]
    for index, curves in enumerate(shapes):
        RunStore(tmp_path / str(index)).write_part(ROW, curves)
    first, *others = (RunStore(tmp_path / str(i)).read_part("t1").curves for i in range(3))
    for other in others:
        pd.testing.assert_frame_equal(first, other)


def test_unknown_columns_and_missing_keys_are_bugs(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    with pytest.raises(AssertionError, match="no columns \\['accuracy %'\\]"):
        store.write_part(ROW, {"epoch": [1], "split": ["val"], "accuracy %": [0.5]})
    with pytest.raises(AssertionError, match="needs values in \\['config'\\]"):
        store.write_part({**ROW, "config": None})
    assert not store.parts.exists()


def test_parts_are_consolidated_in_the_order_of_the_trials(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for trial in ("b", "a", "not of this suite"):
        store.write_part({**ROW, "trial": trial}, CURVES, _predictions())
    store.write_part({**ROW, "trial": "f", "status": "failed", "error": "boom"}, CURVES)

    assert store.consolidate(["a", "later", "f", "b"]) == ["later"]

    tables = {name: pq.read_table(tmp_path / f"{name}.parquet") for name in TABLES}
    order = {
        name: list(dict.fromkeys(table["trial"].to_pylist())) for name, table in tables.items()
    }
    assert order == {
        "trials": ["a", "f", "b"],
        "curves": ["a", "f", "b"],
        "predictions": ["a", "b"],
    }
    assert tables["trials"]["status"].to_pylist() == ["complete", "failed", "complete"]
    assert store.completed("a")
    assert not store.completed("f")
    assert not store.completed("later")


def test_a_run_without_parts_has_empty_tables(tmp_path: Path) -> None:
    assert RunStore(tmp_path).consolidate(["a"]) == ["a"]
    assert pq.read_table(tmp_path / "trials.parquet").num_rows == 0
    assert pq.read_table(tmp_path / "predictions.parquet").column_names[-1] == "split"


def test_large_tables_are_merged_in_few_row_groups(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    for trial in "abcd":
        store.write_part({**ROW, "trial": trial}, (), _predictions(70_000))
    store.consolidate("abcd")  # type: ignore[arg-type]
    file = pq.ParquetFile(tmp_path / "predictions.parquet")
    assert (file.metadata.num_rows, file.num_row_groups) == (280_000, 2)
    merged = pq.read_table(tmp_path / "predictions.parquet")
    assert merged["trial"].to_pylist()[::70_000] == list("abcd")


def test_parts_of_different_data_sets_are_refused(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_part({**ROW, "trial": "a"}, (), _predictions())
    other = {**_predictions(), "probability_wasps": [0.0] * 4}
    store.write_part({**ROW, "trial": "b"}, (), other)
    with pytest.raises(BenchError, match="must belong to one data set"):
        store.consolidate(["a", "b"])
    assert not (tmp_path / "predictions.parquet").exists()


# Every child replaces (or first writes) a part and dies at its n-th change to the file system.
KILLED_WRITER = """
import os, sys
from pathlib import Path
from bench.results.folder import RunStore
root, row, curves = Path(sys.argv[1]), eval(sys.argv[2]), eval(sys.argv[3])
import pandas, pyarrow.parquet  # once, not in every child
CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "open", "shutil.rmtree"}
def child(folder, n, earlier):
    store = RunStore(folder)
    if earlier:
        store.write_part({**row, "status": "failed"}, {k: v[:2] for k, v in curves.items()})
    left = n
    def die(event, args):
        nonlocal left
        if event in CHANGES and str(folder) in str(args[0]):
            left -= 1
            if left < 0:
                os._exit(9)
    sys.addaudithook(die)
    store.write_part(row, curves)
    os._exit(0)
for earlier in (True, False):
    n, status = 0, 9
    while status == 9:
        pid = os.fork()
        if pid == 0:
            child(root / f"{earlier}-{n}", n, earlier)
        status, n = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), n + 1
    print(earlier, n, status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")
@pytest.mark.campaign
def test_a_part_is_whole_whenever_its_writer_is_killed(tmp_path: Path) -> None:
    row = {"trial": "t1", "config": "c1", "status": "complete"}
    curves = {name: values for name, values in CURVES.items() if name != "loss"}
    done = subprocess.run(
        [sys.executable, "-c", KILLED_WRITER, str(tmp_path), repr(row), repr(curves)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.split()[::2] for line in done.stdout.splitlines()] == [
        ["True", "0"],
        ["False", "0"],
    ]
    folders = sorted(tmp_path.iterdir())
    seen = {"True": set(), "False": set()}  # type: dict[str, set[tuple[str, int] | None]]
    for folder in folders:
        store, earlier = RunStore(folder), folder.name.split("-")[0]
        if not store.parts.exists():
            seen[earlier].add(None)
            continue
        missing = store.consolidate(["t1"])  # also cleans
        assert not [path for path in store.parts.iterdir() if path.name.startswith(".")]
        if missing:
            seen[earlier].add(None)
        else:
            part = store.read_part("t1")
            seen[earlier].add((part.trial_row["status"], len(part.curves)))
        store.write_part(row, curves)
        assert store.completed("t1")
    assert len(folders) > 15
    assert seen == {
        "True": {("failed", 2), ("complete", 4)},
        "False": {None, ("complete", 4)},
    }


def test_an_earlier_part_is_read_where_a_killed_writer_set_it_aside(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_part(ROW, CURVES)
    (store.parts / "t1").rename(store.parts / ".t1.aside")
    half = store.parts / ".t1.partial"
    half.mkdir()
    (half / "trials.parquet").write_bytes(b"PAR1 half")
    assert store.completed("t1")
    assert len(store.read_part("t1").curves) == 4
    store.consolidate(["t1"])
    assert [path.name for path in store.parts.iterdir()] == ["t1"]


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_part_is_named_and_trained_again(tmp_path: Path, table: str) -> None:
    store = RunStore(tmp_path)
    store.write_part(ROW, CURVES, _predictions())
    path = store.parts / "t1" / f"{table}.parquet"
    path.write_bytes(path.read_bytes()[:-9])
    assert not store.completed("t1")
    with pytest.raises(BenchError, match=f"{table}.parquet is damaged.*run the suite again"):
        store.read_part("t1")
    with pytest.raises(BenchError, match=f"{table}.parquet is damaged"):
        store.consolidate(["t1"])
    store.write_part(ROW, CURVES, _predictions())
    assert store.completed("t1")


def test_a_missing_part_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="no part of trial t9"):
        RunStore(tmp_path).read_part("t9")


def test_read_run_returns_what_was_written(tmp_path: Path) -> None:
    run = made_up_run(tmp_path / "made_up", seeds=2, epochs=3)
    assert len(run.trials) == run.num_trials == 4 * 2 * 2
    assert len(run.curves) == len(run.trials) * 3 * 2
    assert str(run.trials["seed"].dtype) == "Int64"
    assert run.curves["epoch"].dtype == np.int64
    assert run.suite["name"] == "made_up"
    assert run.data["classes"] == ["ants", "bees"]
    assert run.environment["versions"]["torch"]


def test_a_run_that_stopped_early_says_how_many_trials_were_planned(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["full_finetune"], schedules=["cosine"])
    RunStore(tmp_path).consolidate([*run.trials["trial"], "x", "y"])
    assert (len(read_run(tmp_path).trials), read_run(tmp_path).num_trials) == (3, 5)


def test_wrong_folders_are_explained(tmp_path: Path) -> None:
    made_up_run(tmp_path / "hymenoptera", strategies=["full_finetune"], seeds=1, epochs=1)
    with pytest.raises(
        BenchError, match=r"must exist, got .*hymenoptra'; did you mean 'hymenopter"
    ):
        read_run(tmp_path / "hymenoptra")
    with pytest.raises(BenchError, match=r"trials.parquet.*run folders in it: hymenoptera"):
        read_run(tmp_path)
    (tmp_path / "begun" / "parts").mkdir(parents=True)
    with pytest.raises(BenchError, match=r"no trial has ended yet in .*begun; run the suite again"):
        read_run(tmp_path / "begun")
    with pytest.raises(BenchError, match="must exist"):
        read_run(tmp_path / "no" / "such")


@pytest.mark.parametrize(
    "name",
    ["curves.parquet", "predictions.parquet", "environment.json", "data.json", "suite.yaml"],
)
def test_missing_and_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    made_up_run(tmp_path, strategies=["full_finetune"], seeds=1, epochs=1)
    (tmp_path / name).write_text("- {")
    with pytest.raises(BenchError, match=f"{name} is damaged.*run the suite again"):
        read_run(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(BenchError, match=f"{name} is missing.*run the suite again"):
        read_run(tmp_path)


def test_other_schema_versions_are_refused(tmp_path: Path) -> None:
    made_up_run(tmp_path, strategies=["full_finetune"], seeds=1, epochs=1)
    path = tmp_path / "curves.parquet"
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata({b"bench.schema_version": b"99"}), path)
    with pytest.raises(BenchError, match=r"must have schema version 3, got 99.*pip install -U"):
        read_run(tmp_path)
    pq.write_table(table.replace_schema_metadata({b"bench.schema_version": b"0"}), path)
    with pytest.raises(BenchError, match=r"got 0; read it with .*, or run the suite again"):
        read_run(tmp_path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(BenchError, match="got none"):
        read_run(tmp_path)


def test_a_folder_of_the_first_version_knows_accuracy_alone(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["full_finetune"], seeds=1, epochs=1)
    for name in TABLES:
        path = tmp_path / f"{name}.parquet"
        table = pq.read_table(path)
        kept = [
            column
            for column in table.column_names
            if metric_of(name, column) in (None, "accuracy") or name == "predictions"
        ]
        older = {b"bench.schema_version": b"1"}
        pq.write_table(table.select(kept).replace_schema_metadata(older), path)
    assert "val_brier" not in pq.read_table(tmp_path / "trials.parquet").column_names
    again = read_run(tmp_path)
    assert again.metrics == (ACCURACY,)
    pd.testing.assert_frame_equal(again.trials, run.trials)
    pd.testing.assert_frame_equal(again.curves, run.curves)


def test_predictions_of_earlier_versions_are_of_the_test_split(tmp_path: Path) -> None:
    """Beside a part of this version too: a run may have been extended."""
    run = made_up_run(tmp_path, strategies=["a"], schedules=["s"], seeds=2, epochs=1)
    older, newer = run.trials["trial"]
    count = len(run.predictions) // 2
    assert run.val_predictions.empty
    part = tmp_path / "parts" / older
    without = pq.read_table(part / "predictions.parquet").drop_columns("split")
    pq.write_table(without, part / "predictions.parquet")
    _of_version(part, 2)
    store = RunStore(tmp_path)
    kept = store.read_part(newer)
    kept.predictions.loc[0, "split"] = "val"
    store.write_part(kept.trial_row, kept.curves, kept.predictions)
    store.consolidate([older, newer])
    again = read_run(tmp_path)
    assert again.predictions.groupby("trial").size().to_dict() == {older: count, newer: count - 1}
    assert again.val_predictions["trial"].tolist() == [newer]
    assert "split" not in again.predictions
    assert "split" not in again.val_predictions


def test_a_metric_that_this_version_does_not_know_is_kept(tmp_path: Path) -> None:
    about = {"name": "top5", "label": "top 5", "higher_is_better": True, "percent": True}

    def change(row: dict[str, Any], curves: dict[str, Any]) -> None:
        row |= {f"{part}_top5": 0.5 for part in ("val", "test", "last_val", "last_test")}
        curves["top5"] = curves["accuracy"] / 2

    made_up_run(
        tmp_path, strategies=["a"], schedules=["s"], change=change, data={"metrics": [about]}
    )
    run = read_run(tmp_path)
    assert run.metric.label == "top 5"
    assert (run.trials["last_test_top5"] == 0.5).all()
    assert run.curves["top5"].tolist() == (run.curves["accuracy"] / 2).tolist()
    write_json(tmp_path / "data.json", {"metrics": [{**about, "name": "top9"}]})
    with pytest.raises(BenchError, match=r"trials.parquet has no column of top9"):
        read_run(tmp_path)


def test_tables_have_columns_for_every_metric_that_is_measured() -> None:
    assert list(METRICS) == list(measured("accuracy"))


def test_folds_are_a_column_of_runs_that_have_them(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    metrics = {"val_macro_f1": 0.5}
    store.write_part({**ROW, "fold": 2, **metrics}, CURVES, _predictions())
    store.consolidate(["t1"])
    trials = pq.read_table(tmp_path / "trials.parquet")
    assert tuple(trials.column_names) == (*TRIAL_COLUMNS, "fold")
    assert str(trials.schema.field("fold").type) == "int64"
    assert store.read_part("t1").trial_row["fold"] == 2
    made_up = made_up_run(tmp_path / "made_up").trials
    assert trials_problem(made_up.assign(fold=5)) is None
    assert trials_problem(made_up.assign(fold=0)) == "the column fold must lie in [1, 1000]"
    # Runs that have none, those of older versions among them, have no such column.
    store.write_part(ROW, CURVES, _predictions())
    assert "fold" not in store.read_part("t1").trial_row


def _of_version(folder: Path, version: int) -> None:
    """Make the part one of another version of bench."""
    (folder / "checksums.json").unlink()
    for path in folder.iterdir():
        table = pq.read_table(path)
        changed = {b"bench.schema_version": str(version).encode()}
        pq.write_table(table.replace_schema_metadata(changed), path)


def test_a_part_of_an_older_version_is_made_anew_and_one_of_a_newer_is_left(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.write_part(ROW, CURVES, _predictions())
    _of_version(store.parts / "t1", 0)
    assert store.row("t1") is None
    _of_version(_written(store), 4)
    with pytest.raises(BenchError, match=r"schema version 3, got 4.*give another --out"):
        store.row("t1")


def _written(store: RunStore) -> Path:
    store.write_part(ROW, CURVES, _predictions())
    return store.parts / "t1"


@pytest.mark.parametrize("name", [*(f"{table}.parquet" for table in TABLES), "checksums.json"])
@pytest.mark.campaign
def test_a_flipped_bit_anywhere_in_a_part_is_found(tmp_path: Path, name: str) -> None:
    store = RunStore(tmp_path)
    path = _written(store) / name
    content = path.read_bytes()
    assert store.completed("t1")
    for at in range(0, len(content), max(1, len(content) // 100)):
        flip(path, at)
        assert not store.completed("t1")
        with pytest.raises(BenchError, match="is damaged"):
            store.read_part("t1")
        path.write_bytes(content)
    assert store.completed("t1")


@pytest.mark.campaign
def test_a_flipped_bit_in_a_table_changes_no_number_unnoticed(tmp_path: Path) -> None:
    run = made_up_run(tmp_path, strategies=["full_finetune"], seeds=1, epochs=3)
    path = tmp_path / "curves.parquet"
    content = path.read_bytes()
    damaged = 0
    for at in range(0, len(content), 23):
        flip(path, at)
        try:
            pd.testing.assert_frame_equal(read_run(tmp_path).curves, run.curves)
        except BenchError:
            damaged += 1
        path.write_bytes(content)
    assert damaged > 20


def test_a_part_without_checksums_is_read_as_it_is(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    (_written(store) / "checksums.json").unlink()
    assert store.completed("t1")


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "environment.json"
    write_json(path, {"größe": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"loss": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8")) == {"größe": 1}
    assert [file.name for file in path.parent.iterdir()] == ["environment.json"]


HOLDS_THE_LOCK = """\
import sys, time
from pathlib import Path
from bench.results.folder import RunLock

lock = RunLock(Path(sys.argv[1]))
lock.acquire()
print("acquired", flush=True)
time.sleep(600)
"""


def test_a_lock_names_its_holder_and_dies_with_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS_THE_LOCK, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "acquired\n"
            lock = RunLock(tmp_path)
            holder = rf"another run is writing to .* \(process {process.pid} on .* since 20"
            with pytest.raises(BenchError, match=holder):
                lock.acquire()
        finally:
            process.kill()
    lock.acquire()
    with pytest.raises(BenchError, match=rf"\(process {os.getpid()} on"):
        RunLock(tmp_path).acquire()
    lock.release()
    RunLock(tmp_path).acquire()


def test_a_lock_whose_holder_has_said_nothing_yet_is_kept_all_the_same(tmp_path: Path) -> None:
    lock = RunLock(tmp_path)
    lock.acquire()
    (tmp_path / ".lock.json").write_text("{")
    with pytest.raises(BenchError, match=r"another run is writing to \S+; wait for it"):
        RunLock(tmp_path).acquire()
