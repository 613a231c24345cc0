"""Run folders of others: whatever their files hold, a message and no traceback, nothing outside."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from bench.errors import MAX_MESSAGE, BenchError
from bench.results.analysis import compare_runs
from bench.results.folder import TABLES, Run, RunStore, read_run, read_thumbnails
from bench.results.folder.parts import CHECKSUMS
from bench.results.report import Findings, document, render_html, render_markdown, write_report
from bench.results.report.reasons import why
from bench.results.report.tables import render_csv, render_latex, tables
from bench.results.report.terminal import show_comparison, show_run, show_trial
from tests.hostile import changed_cells, mutated_bytes, mutated_tree
from tests.made_up_run import made_up_run
from tests.made_up_tuning import made_up_tuning

VERSION = {b"bench.schema_version": b"3"}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "made_up"
    made_up_run(folder, strategies=["a", "b"], schedules=["s"], seeds=2, epochs=3)
    shutil.rmtree(folder / "parts")
    return folder


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "run"))


def use(run: Run) -> None:
    """All that `show`, `why`, `compare` and `report` make of a run, but for the figures."""
    console = Console(width=200, quiet=True)
    trials = [{str(k): v for k, v in row.items()} for row in run.trials.to_dict("records")]
    parts = [*show_run(run), *show_comparison(compare_runs(run, run))]
    for trial in trials[:3]:
        parts += [*show_trial(run, trial), *why(run, trial)]
    for part in parts:
        console.print(part)
    blocks = list(document(Findings(run=run), {}))
    render_markdown(blocks)
    render_html(blocks, Findings(run=run), {})
    for table in tables(blocks):
        render_csv(table)
        render_latex(table)


def refused(folder: Path) -> str:
    with pytest.raises(BenchError) as caught:
        read_run(folder)
    assert len(str(caught.value)) <= MAX_MESSAGE
    return str(caught.value)


def rewrite(path: Path, change: Callable[[pd.DataFrame], Any]) -> None:
    """Apply `change` to the table as a frame and write it: in its types as far as they go."""
    table = pq.read_table(path)
    frame = table.to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    changed = change(frame)
    frame = frame if changed is None else changed
    arrays = {}
    for name in frame:
        kind = table.schema.field(name).type if name in table.column_names else pa.string()
        try:
            arrays[name] = pa.array(frame[name], kind)
        except (pa.ArrowException, TypeError, ValueError, OverflowError):
            texts = [None if value is None else str(value) for value in frame[name]]
            arrays[name] = pa.array(texts, pa.string())
    metadata = table.schema.metadata
    pq.write_table(pa.table(arrays).replace_schema_metadata(metadata), path)


def test_the_original_is_read(folder: Path) -> None:
    use(read_run(folder))


# Tables ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "column", "value", "message"),
    [
        ("trials", "seed", "x", "seed must be int64, got string"),
        ("trials", "test_accuracy", "x", "test_accuracy must be double, got string"),
        ("trials", "test_accuracy", np.inf, r"test_accuracy must lie in \[0, 1\]"),
        ("trials", "val_accuracy", -0.1, r"val_accuracy must lie in \[0, 1\]"),
        ("trials", "train_seconds", np.inf, "train_seconds must lie in"),
        ("trials", "total_params", -1, "total_params must lie in"),
        ("trials", "lr", np.inf, "lr must lie in"),
        ("trials", "strategy", None, "strategy must have a value in every row"),
        ("trials", "status", "<b>", "status must be among"),
        ("trials", "trial", "../../x", "an id of letters and digits, got '../../x'"),
        ("trials", "trial", "same", "two rows have the same trial"),
        ("trials", "settings", "{", "settings must be JSON"),
        ("trials", "settings", "[1]", "settings must map names of settings"),
        ("trials", "settings", '{"/../../x": 1}', "settings must map names of settings"),
        ("trials", "settings", '{"a": ' + "[" * 99 + "]" * 99 + "}", "nested deeper"),
        ("trials", "settings", "[" * 99_000, "nested deeper"),
        ("trials", "settings", json.dumps({f"a{n}": n for n in range(200)}), "at most 100 sett"),
        ("trials", "strategy", "x" * 200_000, "has more than 100,000 characters"),
        ("curves", "trial", "zzz", "the trial 'zzz' is not in trials.parquet"),
        ("curves", "split", "test", "split must be train or val"),
        ("curves", "epoch", 10**9, "epoch must lie in"),
        ("curves", "epoch", 1, "two rows have the same trial and epoch and split"),
        ("curves", "accuracy", 7.0, "accuracy must lie in"),
        ("predictions", "label", "<img>", "label must be a class with a column"),
        ("predictions", "predicted", None, "predicted must be a class with a column"),
        ("predictions", "probability_ants", 9.0, r"'probability_ants' must lie in \[0, 1\]"),
        ("predictions", "split", "train", "split must be test or val"),
        ("predictions", "sample", "one", "two rows have the same trial and sample"),
    ],
)
def test_wrong_values_are_named(
    folder: Path, table: str, column: str, value: Any, message: str
) -> None:
    def change(frame: pd.DataFrame) -> None:
        frame[column] = pd.Series([value] * len(frame), dtype=object)

    path = folder / f"{table}.parquet"
    rewrite(path, change)
    with pytest.raises(BenchError, match=message) as caught:
        read_run(folder)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.campaign
def test_missing_and_further_columns(folder: Path, table: str) -> None:
    path = folder / f"{table}.parquet"
    rewrite(path, lambda frame: frame.assign(further="<b>more</b>"))
    use(read_run(folder))
    rewrite(path, lambda frame: frame.drop(columns=["trial"]))
    assert "it lacks trial" in refused(folder)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "must have schema version 3, got none"),
        ({b"bench.schema_version": b"\xff"}, "must have schema version 3"),
        ({**VERSION, b"bench.planned_trials": b"many"}, "number of planned trials"),
        ({**VERSION, b"bench.planned_trials": b"9" * 5000}, "number of planned trials"),
        ({**VERSION, b"pandas": b'{"index_columns": ["x"], "columns": 1}'}, None),
    ],
)
def test_metadata_is_not_trusted(folder: Path, metadata: Any, message: str | None) -> None:
    path = folder / "trials.parquet"
    pq.write_table(pq.read_table(path).replace_schema_metadata(metadata), path)
    if message is None:
        use(read_run(folder))
    else:
        assert message in refused(folder)


def test_tables_of_another_shape(folder: Path) -> None:
    path = folder / "curves.parquet"
    for table, message in (
        (pa.table({"trial": [[1, 2]]}), "lists or mappings"),
        (pa.table({"trial": [{"a": 1}]}), "lists or mappings"),
        (pa.table([["a"], ["b"]], names=["trial", "trial"]), "it lacks epoch"),
        (pa.table({}), "it lacks trial"),
    ):
        pq.write_table(table.replace_schema_metadata(VERSION), path)
        assert message in refused(folder)
    table = pq.read_table(folder / "trials.parquet")
    pq.write_table(table.append_column(table.schema.field("seed"), table["seed"]), path)
    shutil.copyfile(path, folder / "trials.parquet")
    assert "seed" in refused(folder)


def test_a_small_file_that_stands_for_a_large_table(folder: Path) -> None:
    path = folder / "curves.parquet"
    text = pa.DictionaryArray.from_arrays(pa.array(np.zeros(10**6, np.int32)), ["x" * 90_000])
    pq.write_table(pa.table({"trial": text}).replace_schema_metadata(VERSION), path)
    assert path.stat().st_size < 1_000_000
    assert "would take 85,8" in refused(folder)
    nothing = pa.nulls(10**6, pa.int64())
    zeros = pa.table({f"c{n}": nothing for n in range(600)})
    pq.write_table(zeros.replace_schema_metadata(VERSION), path)
    said = "would take 4,578 MiB of memory, but a file of its size may take 256"
    assert said in refused(folder)
    assert pa.default_memory_pool().max_memory() < 1 << 30  # since the tests began


def test_bytes_that_are_no_text(folder: Path) -> None:
    path = folder / "trials.parquet"
    table = pq.read_table(path)
    bad = pa.Array.from_buffers(
        pa.string(), 4, [None, pa.array([0, 1, 2, 3, 4], pa.int32()).buffers()[1],
                         pa.py_buffer(b"\xff\xfe\xfd\xfc")])  # fmt: skip
    index = table.column_names.index("strategy")
    pq.write_table(table.set_column(index, table.schema.field("strategy"), bad), path)
    assert "trials.parquet is damaged" in refused(folder)


def test_a_search_that_is_described_wrongly(tmp_path: Path) -> None:
    run = made_up_tuning(tmp_path / "tuned", strategies=["a", "b"], seeds=2, trials=3)
    path = run.folder / "tuning.parquet"
    table = pq.read_table(path)
    about = json.loads(table.schema.metadata[b"bench.tuning"])
    study, described = next(iter(about["studies"].items()))
    for description in (
        b"{",
        b"\xff",
        b"[]",
        b"[" * 100_000,
        {**about, "objectives": []},
        {**about, "objectives": [{"name": "<b>", "direction": "maximize"}]},
        {**about, "studies": {study: {**described, "space": {"lr": {"low": "x"}}}}},
        {**about, "studies": {study: {**described, "space": {"lr": {"choices": []}}}}},
        {**about, "studies": {study: {**described, "best": "x"}}},
        {**about, "budget": 3},
    ):
        text = description if isinstance(description, bytes) else json.dumps(description).encode()
        metadata = {**VERSION, b"bench.tuning": text}
        pq.write_table(table.replace_schema_metadata(metadata), path)
        with pytest.raises(BenchError, match=r"tuning\.parquet is damaged"):
            use(read_run(run.folder))
    # A hostile name of a study, an unknown best trial and no configs are odd, and harmless.
    odd = {**described, "best": 10**6, "untuned_config": "x", "tuned_config": None}
    content = json.dumps({**about, "studies": {study: odd, "<b>\x1b[2J": odd}}).encode()
    metadata = {**VERSION, b"bench.tuning": content}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    use(read_run(run.folder))


def test_parts_are_not_trusted_either(tmp_path: Path) -> None:
    """What lies in the folder that a run goes on in is read from there too."""
    run = made_up_run(tmp_path / "run", strategies=["a"], schedules=["s"], seeds=1, epochs=1)
    store, trial = RunStore(run.folder), run.trials["trial"].iloc[0]
    assert store.completed(trial)
    path = store.parts / trial / "trials.parquet"
    (path.parent / CHECKSUMS).unlink()  # as of one who knows how to make them
    table = pq.read_table(path)
    for changed in (
        table.drop(["status"]),
        table.drop(["seed"]),
        table.append_column("x", [["y"]]),
    ):
        pq.write_table(changed, path)
        if "x" in changed.column_names:
            assert store.consolidate([trial]) == []
            continue
        assert not store.completed(trial)
        with pytest.raises(BenchError, match="it lacks"):
            store.consolidate([trial])


# Other files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.json", {"counts": []}, "counts: Input should be"),
        ("data.json", {"counts": {"train": {"ants": "many"}}}, "counts.train.ants"),
        ("data.json", {"counts": {"train": {"ants": 10**40}}}, "counts.train.ants"),
        ("data.json", {"classes": "ants"}, "classes: Input should be"),
        ("data.json", {"issues": [1]}, "issues.0"),
        ("data.json", {"issues": [{"kind": "x"}]}, "issues.0.message: Field required"),
        ("data.json", [], "must hold a mapping"),
        ("environment.json", {"command": [1]}, "command"),
        ("environment.json", {"started": "yesterday"}, "started"),
        ("environment.json", {"started": "2026-03-01T09:00:00"}, "name its time zone"),
        ("environment.json", {"started": 10**30}, "started"),
    ],
)
def test_json_of_wrong_types(folder: Path, name: str, content: Any, message: str) -> None:
    (folder / name).write_text(json.dumps(content))
    found = refused(folder)
    assert f"{name} is damaged" in found
    assert message in found


@pytest.mark.parametrize("name", ["data.json", "environment.json"])
@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 2000 + "1" + "}" * 2000,
        '{"a": ' + "9" * 5000 + "}",
        "\ufeff{}",
        "NaN",
    ],
    ids=["lists", "mappings", "digits", "mark", "nan"],
)
def test_json_that_is_hard_to_read(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    assert f"{name} is damaged" in refused(folder)


def test_a_hostile_suite_beside_the_tables(folder: Path) -> None:
    for text in ("a: &a [*a]", "!!python/object/apply:os.system [x]", "- 1", "\0", "["):
        (folder / "suite.yaml").write_text(text)
        assert "suite.yaml is damaged" in refused(folder)
    (folder / "suite.yaml").write_text("name: '<script>\\e[2J'\ndataset: [1, {2: 3}]\n")
    use(read_run(folder))


@pytest.mark.campaign
def test_accounts_that_say_nothing(folder: Path) -> None:
    for text in (
        "[" * 100_000,
        "[]",
        '{"sentence": {"a": [1]}}',
        "3",
        "\xff",
        '{"sentence": null}',
    ):
        (folder / "accounts.json").write_text(text, encoding="latin-1")
        use(read_run(folder))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
@pytest.mark.parametrize("name", ["curves.parquet", "data.json", "suite.yaml"])
def test_a_pipe_is_not_waited_for(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    assert "must be a file" in refused(folder)
    (folder / "thumbnails.parquet").symlink_to("/dev/zero")
    assert read_thumbnails(folder) == {}


def test_thumbnails_are_small_or_left_out(folder: Path) -> None:
    import io

    from PIL import Image

    written = io.BytesIO()
    Image.new("1", (13_000, 13_000)).save(written, "PNG")
    for content in (written.getvalue(), written.getvalue()[:200], b"", b"GIF89a", None):
        pq.write_table(pa.table({"sample": ["a"], "png": [content]}), folder / "thumbnails.parquet")
        assert read_thumbnails(folder) == {}


@pytest.mark.parametrize("where", ["plots", "plots/trials", "tables"])
def test_nothing_is_written_or_removed_through_a_link(
    folder: Path, tmp_path: Path, where: str
) -> None:
    outside = tmp_path / "pictures"
    (outside / "trials").mkdir(parents=True)
    for name in ("curves.png", "trials/mine.png", "heat_map_mine.png"):
        (outside / name).write_bytes(b"mine")
    shutil.rmtree(folder / "plots", ignore_errors=True)
    (folder / where).parent.mkdir(exist_ok=True)
    (folder / where).symlink_to(outside, target_is_directory=True)
    with pytest.raises(BenchError, match="is a link, and a run must not write through links"):
        write_report(read_run(folder))
    assert sum(path.read_bytes() == b"mine" for path in outside.rglob("*.png")) == 3
    assert len(list(outside.rglob("*"))) == 4


def test_a_report_replaces_a_link_and_not_its_target(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.md").write_text("mine")
    (folder / "report.md").symlink_to(tmp_path / "mine.md")
    write_report(read_run(folder), {})
    assert (tmp_path / "mine.md").read_text() == "mine"
    assert "Results of" in (folder / "report.md").read_text()


# Fuzzing --------------------------------------------------------------------------------------

FUZZ = settings(
    deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def ends_well(folder: Path) -> None:
    try:
        run = read_run(folder)
    except BenchError:
        return
    use(run)


@settings(FUZZ, max_examples=40)
@given(rng=st.randoms(use_true_random=False), table=st.sampled_from(TABLES))
@pytest.mark.campaign
def test_fuzzed_bytes_of_tables(
    original: Path, folder: Path, rng: random.Random, table: str
) -> None:
    for name in TABLES:
        shutil.copyfile(original / f"{name}.parquet", folder / f"{name}.parquet")
    path = folder / f"{table}.parquet"
    path.write_bytes(mutated_bytes(path.read_bytes(), rng))
    ends_well(folder)


@settings(FUZZ, max_examples=15)
@given(rng=st.randoms(use_true_random=False), table=st.sampled_from(TABLES))
def test_fuzzed_cells(original: Path, folder: Path, rng: random.Random, table: str) -> None:
    shutil.copytree(original, folder, dirs_exist_ok=True)
    rewrite(folder / f"{table}.parquet", lambda frame: changed_cells(frame, rng))
    ends_well(folder)


@pytest.mark.campaign
@settings(FUZZ, max_examples=15)
@given(rng=st.randoms(use_true_random=False))
def test_fuzzed_json(original: Path, folder: Path, rng: random.Random) -> None:
    name = rng.choice(("data.json", "environment.json"))
    shutil.copytree(original, folder, dirs_exist_ok=True)
    content = mutated_tree(json.loads((folder / name).read_text()), rng)
    (folder / name).write_text(json.dumps(content))
    ends_well(folder)
