"""Runs as a user has them: tables, reuse, failures, interrupts, the Python call."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from socket import gethostname

import numpy as np
import pandas as pd
import pytest
import yaml

import bench
from bench.errors import BenchError, SuiteError
from bench.execution.executors import InProcessExecutor, ProcessPoolExecutor, Where
from bench.execution.jobs import Job, JobResult
from bench.results.folder import Run, read_thumbnails
from bench.results.folder.columns import METRICS
from bench.results.grid import rank_configs, read_grid
from bench.results.metric import ACCURACY
from bench.results.report import write_report
from bench.results.report.terminal import show_run
from bench.runs.reporter import SilentReporter
from bench.runs.resolve import resolve_run
from bench.runs.source_weights import SUITE
from bench.suite import Resources
from tests.tiny import SMOKE_SUITE

# In one process: many of them look at one finished run, or are compared with it.
pytestmark = [pytest.mark.usefixtures("no_report"), pytest.mark.xdist_group("runs")]
VOLATILE = ["started", "finished", "train_seconds", "peak_memory_mib"]


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    path.write_text(SMOKE_SUITE)
    return path


@pytest.fixture(scope="module")
def finished(suite: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return bench.run(suite, out=tmp_path_factory.mktemp("out"), workers=1)


def numbers(run: Run) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The tables without what the clock and the memory say."""
    return (
        run.trials.drop(columns=VOLATILE),
        run.curves.drop(columns="seconds"),
        run.predictions,
    )


def assert_equal(first: Run, second: Run) -> None:
    for a, b in zip(numbers(first), numbers(second), strict=True):
        pd.testing.assert_frame_equal(a, b)


class Recorder(SilentReporter):
    def __init__(self, *, interrupt_after: int | None = None) -> None:
        self.trained: list[str] = []
        self.notes: list[str] = []
        self._interrupt_after = interrupt_after

    def note(self, message: str) -> None:
        self.notes.append(message)

    def finished(self, job: Job, result: JobResult) -> None:
        self.trained.append(job.trial_id)
        if len(self.trained) == self._interrupt_after:
            raise KeyboardInterrupt


def test_the_folder_holds_what_the_contract_says(finished: Run) -> None:
    names = {path.name for path in finished.folder.iterdir()}
    assert names >= {
        "suite.yaml", "environment.json", "data.json", "trials.parquet", "curves.parquet",
        "predictions.parquet", "report.md", "report.html", "plots", "checkpoints",
        "thumbnails.parquet",
    }  # fmt: skip
    wrong = finished.predictions[finished.predictions["label"] != finished.predictions["predicted"]]
    thumbnails = read_thumbnails(finished.folder)
    assert set(thumbnails) & set(wrong["sample"])
    held_out = {*finished.predictions["sample"], *finished.val_predictions["sample"]}
    assert set(thumbnails) <= held_out  # an audit of the run shows some too
    assert (finished.folder / "plots" / "mistakes.png").is_file()
    assert {path.suffix for path in (finished.folder / "checkpoints").iterdir()} == {".safetensors"}
    assert list((finished.folder / "plots").glob("*.png"))


def test_trials_table(finished: Run) -> None:
    trials = finished.trials
    assert list(trials["strategy"]) == ["from_scratch"] * 2 + ["linear_probe"] * 2
    assert list(trials["seed"]) == [0, 1, 0, 1]
    assert set(trials["status"]) == {"complete"}
    assert trials["config"].nunique() == 2
    assert trials["trial"].is_unique
    assert set(trials["weights"][:2]) == {"none"}
    for column in ("val_accuracy", "test_accuracy", "last_val_accuracy", "last_test_accuracy"):
        assert trials[column].between(0, 1).all()
    assert (trials["trainable_params"] < trials["total_params"]).tolist() == [False] * 2 + [
        True
    ] * 2
    assert (trials["finished"] > trials["started"]).all()
    assert trials["peak_memory_mib"].gt(0).all()


def test_curves_agree_with_trials(finished: Run) -> None:
    curves = finished.curves
    assert len(curves) == 4 * 2 * 2
    assert set(curves["epoch"]) == {1, 2}
    val = curves[curves["split"] == "val"].set_index(["trial", "epoch"])
    for row in finished.trials.itertuples():
        assert val.loc[(row.trial, row.best_epoch), "accuracy"] == row.val_accuracy
        assert val.loc[(row.trial, row.best_epoch), "loss"] == row.val_loss
        assert val.loc[(row.trial, 2), "accuracy"] == row.last_val_accuracy
        assert row.val_accuracy == val.loc[row.trial, "accuracy"].max()
        for name in METRICS:
            assert val.loc[(row.trial, row.best_epoch), name] == getattr(row, f"val_{name}")
    train = curves[curves["split"] == "train"]
    assert train["accuracy"].notna().all()
    assert train["brier"].isna().all()  # of a network that moves little is known
    assert set(curves["lr"]) == {0.01}


def test_predictions_agree_with_trials(finished: Run) -> None:
    for row in finished.trials.itertuples():
        chosen = finished.predictions[finished.predictions["trial"] == row.trial]
        probabilities = chosen.filter(like="probability_")
        assert len(chosen) == 20
        assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-6)
        assert (chosen["label"] == chosen["predicted"]).mean() == pytest.approx(row.test_accuracy)
        best = probabilities.idxmax(axis=1).str.removeprefix("probability_")
        assert (best == chosen["predicted"]).all()
        of_label = [
            p[f"probability_{label}"]
            for (_, p), label in zip(probabilities.iterrows(), chosen["label"], strict=True)
        ]
        assert -np.log(of_label).mean() == pytest.approx(row.test_loss, rel=1e-5)
        assert row.test_log_loss == pytest.approx(row.test_loss, rel=1e-5)


def test_what_validation_chose_by_is_kept(finished: Run) -> None:
    """At the epoch that it chose, of every trial: nothing has to be computed again later."""
    for row in finished.trials.itertuples():
        kept = finished.val_predictions[finished.val_predictions["trial"] == row.trial]
        assert len(kept) == 12
        assert (kept["label"] == kept["predicted"]).mean() == pytest.approx(row.val_accuracy)
        own = kept.filter(like="probability_").to_numpy()
        label = [list(finished.data["classes"]).index(name) for name in kept["label"]]
        loss = -np.log(own[np.arange(len(own)), label]).mean()
        assert loss == pytest.approx(row.val_loss, rel=1e-5)
    tested = set(finished.predictions["sample"])
    assert not tested & set(finished.val_predictions["sample"])


def test_facts_beside_the_tables(finished: Run) -> None:
    assert [metric.name for metric in finished.metrics] == list(METRICS)
    assert finished.metric == ACCURACY
    assert finished.environment["packages"]["torch"]
    assert finished.environment["command"]
    assert finished.data["counts"]["train"] == {"fractal-00": 8, "fractal-01": 8}
    assert finished.suite["epochs"] == 2
    settings = json.loads(finished.trials["settings"].iloc[0])
    assert settings["image_size"] == 32
    assert settings["momentum"] == 0.9


def test_again_trains_nothing_and_changes_nothing(suite: Path, finished: Run) -> None:
    parts = finished.folder / "parts"
    before = {path: path.stat().st_mtime_ns for path in parts.rglob("*")}
    recorder = Recorder()
    again = bench.run(suite, out=finished.folder.parent, reporter=recorder)
    assert recorder.trained == []
    assert {path: path.stat().st_mtime_ns for path in parts.rglob("*")} == before
    assert_equal(again, finished)


def test_the_resolved_suite_is_the_same_run(finished: Run, tmp_path: Path) -> None:
    recorder = Recorder()
    resolved = finished.folder / "suite.yaml"
    bench.run(resolved, out=finished.folder.parent, reporter=recorder)
    assert recorder.trained == []


def test_processes_and_no_reuse_give_the_same_tables(
    suite: Path, finished: Run, tmp_path: Path
) -> None:
    assert_equal(bench.run(suite, out=tmp_path, workers=2), finished)
    recorder = Recorder()
    again = bench.run(suite, out=tmp_path, workers=1, reuse=False, reporter=recorder)
    assert len(recorder.trained) == 4
    assert_equal(again, finished)


def test_more_seeds_train_only_what_is_new(suite: Path, finished: Run, tmp_path: Path) -> None:
    shutil.copytree(finished.folder, tmp_path / "tiny")
    recorder = Recorder()
    more = bench.run(
        suite, out=tmp_path, workers=1, overrides=["seed=[0, 1, 2]"], reporter=recorder
    )
    assert len(recorder.trained) == 2
    assert len(more.trials) == 6
    assert more.environment["overrides"] == ["seed=[0, 1, 2]"]
    assert more.suite["seed"] == [0, 1, 2]


def test_trials_that_are_no_longer_of_the_suite_are_told_and_kept_readable(
    suite: Path, finished: Run, tmp_path: Path
) -> None:
    """Another suite takes the folder over, and the first one comes back."""
    shutil.copytree(finished.folder, tmp_path / "tiny")
    (tmp_path / "tiny" / "report.md").write_text("of both seeds")
    fewer = ["seed=1"]
    (planned,) = [
        note
        for note in bench.plan(suite, out=tmp_path, overrides=fewer).notes
        if "not part of this suite" in note
    ]
    assert not (tmp_path / "tiny" / "earlier").exists(), "a plan changes nothing"
    recorder = Recorder()
    again = bench.run(suite, out=tmp_path, workers=1, overrides=fewer, reporter=recorder)
    assert (recorder.trained, len(again.trials)) == ([], 2)
    (told,) = [note for note in recorder.notes if "not part of this suite" in note]
    assert told == f"note: {planned}"
    assert "2 complete trials in " in told
    assert "(seed 0, now 1)" in told
    (kept,) = (tmp_path / "tiny" / "earlier").iterdir()
    assert str(kept) in told
    assert_equal(bench.read_run(kept), finished)
    assert (kept / "report.md").read_text() == "of both seeds"
    back = bench.run(suite, out=tmp_path, workers=1, reporter=recorder)
    assert_equal(back, finished)
    assert recorder.trained == []
    assert [*(tmp_path / "tiny" / "earlier").iterdir()] == [kept], "nothing was left out this time"


def test_an_interrupt_keeps_what_is_finished_and_the_next_run_goes_on(
    suite: Path, finished: Run, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        bench.run(suite, out=tmp_path, workers=1, reporter=Recorder(interrupt_after=2))
    assert len(pd.read_parquet(tmp_path / "tiny" / "trials.parquet")) == 2
    recorder = Recorder()
    again = bench.run(suite, out=tmp_path, workers=1, reporter=recorder)
    assert len(recorder.trained) == 2
    assert_equal(again, finished)


def test_only_runs_the_chosen_and_says_why_the_others_are_skipped(
    suite: Path, finished: Run, tmp_path: Path
) -> None:
    chosen = bench.run(suite, out=tmp_path, workers=1, only=["strategy=linear_probe,seed=1"])
    assert list(chosen.trials["status"]) == ["skipped"] * 3 + ["complete"]
    assert set(chosen.trials["error"].dropna()) == {
        "not selected by --only strategy=linear_probe,seed=1"
    }
    rest = bench.run(suite, out=tmp_path, workers=1)
    assert_equal(rest, finished)


def test_only_with_no_reuse_keeps_what_the_others_have(
    suite: Path, finished: Run, tmp_path: Path
) -> None:
    shutil.copytree(finished.folder, tmp_path / "tiny")
    recorder = Recorder()
    chosen = ["strategy=linear_probe"]
    again = bench.run(suite, out=tmp_path, workers=1, only=chosen, reuse=False, reporter=recorder)
    assert len(recorder.trained) == 2
    assert_equal(again, finished)


def test_a_second_run_on_the_same_folder_is_refused(suite: Path, tmp_path: Path) -> None:
    class Second(Recorder):
        def training(self, jobs: Sequence[Job]) -> None:
            holder = (
                f"another run is writing to .* \\(process {os.getpid()} on {gethostname()} since"
            )
            with pytest.raises(BenchError, match=holder):
                bench.run(suite, out=tmp_path, workers=1)

    assert len(bench.run(suite, out=tmp_path, workers=1, reporter=Second()).trials) == 4


def test_precisions_start_from_the_same_weights(suite: Path, tmp_path: Path) -> None:
    resolved_run = resolve_run(suite, out=tmp_path, overrides=["precision=[fp32, bf16]"])
    probes = [p for p in resolved_run.trials if p.trial.strategy.name == "linear_probe"]
    assert {resolved.precision for resolved in probes} == {"fp32", "bf16"}
    assert len({resolved.weights.path for resolved in probes}) == 1


def test_from_scratch_is_normalised_like_its_peers(suite: Path, tmp_path: Path) -> None:
    started: list[Job] = []

    class Jobs(Recorder):
        def training(self, jobs: Sequence[Job]) -> None:
            started.extend(jobs)

    bench.run(suite, out=tmp_path, workers=1, reporter=Jobs())
    assert {job.weights.name for job in started} == {"none", "fractals"}
    normalisations = {(job.weights.mean, job.weights.std) for job in started}
    assert normalisations == {((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))}


def test_a_failed_trial_is_recorded_and_the_others_go_on(suite: Path, tmp_path: Path) -> None:
    text = SMOKE_SUITE.replace("[from_scratch,", "[{name: from_scratch, lr: 1e30},")
    path = tmp_path / "tiny.yaml"
    path.write_text(text)
    result = bench.run(path, out=tmp_path, workers=1)
    assert list(result.trials["status"]) == ["failed"] * 2 + ["complete"] * 2
    assert result.trials["error"].iloc[0].startswith("the training loss is")
    (report,) = write_report(result, {}, formats=["md"])
    assert "lower lr" in report.read_text()
    for failed, error in zip(result.trials["trial"][:2], result.trials["error"][:2], strict=True):
        assert error in (result.folder / "logs" / f"{failed}.log").read_text()

    recorder = Recorder()
    again = bench.run(path, out=tmp_path, workers=1, reporter=recorder)
    assert recorder.trained == []
    assert_equal(again, result)
    resolved_run = resolve_run(path, out=tmp_path)
    assert [resolved.failure for resolved in resolved_run.failed] == list(
        result.trials["error"][:2]
    )

    bench.run(path, out=tmp_path, workers=1, retry="failed", reporter=recorder)
    assert set(recorder.trained) == set(result.trials["trial"][:2])
    with pytest.raises(BenchError, match="--retry must be failed, got 'all'"):
        bench.run(path, out=tmp_path, retry="all")


def test_weights_that_cannot_be_had_fail_their_trials_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", offline)
    path = tmp_path / "tiny.yaml"
    path.write_text(
        SMOKE_SUITE.replace(
            "{name: fractals, classes: 3, images_per_class: 8, epochs: 1}", "imagenet"
        )
    )
    result = bench.run(path, out=tmp_path, workers=1, overrides=["image_size=32", "seed=0"])
    assert list(result.trials["status"]) == ["complete", "failed"]
    error = result.trials["error"].iloc[1]
    assert "https://download.pytorch.org/models/shufflenet" in error
    assert "file:" in error
    # Nothing of it was trained: it is tried again without being asked for.
    resolved_run = resolve_run(path, out=tmp_path, overrides=["image_size=32", "seed=0"])
    assert [resolved.id for resolved in resolved_run.pending] == [result.trials["trial"].iloc[1]]


def test_weights_are_pretrained_once_and_kept_in_the_cache(
    suite: Path, tmp_path: Path, cache_folder: Path
) -> None:
    class Sources(Recorder):
        def training(self, jobs: Sequence[Job]) -> None:
            self.sources += sum(job.trial.suite == SUITE for job in jobs)

        sources = 0

    recorder = Sources()
    override = ["weights.family_seed=77"]
    bench.run(suite, out=tmp_path / "a", workers=1, overrides=override, reporter=recorder)
    assert recorder.sources == 1
    recorder = Sources()
    bench.run(suite, out=tmp_path / "b", workers=1, overrides=override, reporter=recorder)
    assert recorder.sources == 0
    assert list((cache_folder / "weights" / "fractals").glob("shufflenet_v2_x0_5-*.safetensors"))


def test_changed_data_is_trained_again(tmp_path: Path) -> None:
    from PIL import Image

    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for label, shade in (("dark", 40), ("light", 200)):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for index in range(count):
                noise = np.random.default_rng([shade, index, count]).integers(-30, 30, (40, 40, 3))
                Image.fromarray((noise + shade).astype(np.uint8)).save(folder / f"{index}.png")
    path = tmp_path / "photos.yaml"
    content = yaml.safe_load(SMOKE_SUITE)
    content.update(dataset="photos", strategy="from_scratch", image_size=32, seed=0)
    del content["name"]
    path.write_text(yaml.safe_dump(content))
    first, second = Recorder(), Recorder()
    one = bench.run(path, out=tmp_path, workers=1, reporter=first)
    assert one.trials["dataset"].tolist() == ["photos"]
    Image.new("RGB", (40, 40), (1, 2, 3)).save(tmp_path / "photos/train/dark/0.png")
    two = bench.run(path, out=tmp_path, workers=1, reporter=second)
    assert first.trained != second.trained
    assert one.trials["config"].tolist() == two.trials["config"].tolist()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["strategy.1={name: partial_finetune, top: 99}"], "top must be below the backbone's"),
        (["image_size=600"], "image_size 600: it must be less than or equal to 512"),
        (["strategy.1=lp_ft", "epochs=1"], "lp_ft: probe_epochs must leave at least one of 1"),
        (["strategy.1=pretrained_head"], "needs weights with a classifier of known classes"),
        (["weights=IMAGENET1K_V9"], "IMAGENET1K_V9"),
        (["backbone=vgg11", "image_size=16"], "32"),
    ],
)
def test_what_only_the_backbone_can_tell_is_told_before_anything_runs(
    suite: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    with pytest.raises(SuiteError, match=message):
        bench.run(suite, out=tmp_path / "out", overrides=overrides)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "gpu"}, "--device must be auto, cpu, cuda, cuda:N or mps, got 'gpu'"),
        ({"device": "cpu:0"}, "--device must be auto, cpu"),
        ({"device": "cuda:"}, "--device must be auto, cpu"),
        ({"device": "cuda:99"}, "usable CUDA devices"),
        ({"workers": 0}, "--workers must be at least 1, got 0"),
        (
            {"executor": "cloud"},
            "--executor must be auto, in-process, processes or ray, got 'cloud'",
        ),
    ],
)
def test_bad_arguments(
    suite: Path, tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(BenchError, match=message):
        bench.run(suite, out=tmp_path, **arguments)  # type: ignore[arg-type]


def test_limits_take_processes_unless_told_otherwise() -> None:
    limits = Resources(minutes=30)
    assert isinstance(Where(workers=1).executor([], "cpu", Resources()), InProcessExecutor)
    assert isinstance(Where(workers=1).executor([], "cpu", limits), ProcessPoolExecutor)
    assert isinstance(Where(name="in-process").executor([], "cpu", limits), InProcessExecutor)


def test_an_image_size_that_contradicts_the_weights_is_noted(suite: Path, tmp_path: Path) -> None:
    result = bench.run(
        suite,
        out=tmp_path,
        workers=1,
        overrides=["weights.image_size=32", "image_size=40", "seed=0", "epochs=1"],
    )
    notes = [issue for issue in result.data["issues"] if issue["kind"] == "weights"]
    assert len(notes) == 1
    assert "was trained at 32 px, this suite uses image_size 40" in notes[0]["message"]


def test_a_run_by_another_metric_chooses_epochs_where_it_is_lowest(tmp_path: Path) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(f"{SMOKE_SUITE}metric: brier\n")
    run = bench.run(path, out=tmp_path / "out", workers=1, overrides=["epochs=3", "seed=0"])
    assert (run.metric.name, run.metric.higher_is_better) == ("brier", False)
    assert run.suite["metric"] == "brier"
    val = run.curves[run.curves["split"] == "val"].set_index("epoch")
    for row in run.trials.to_dict("records"):
        own = val[val["trial"] == row["trial"]]["brier"]
        assert (row["best_epoch"], row["val_brier"]) == (own.idxmin(), own.min())
        assert row["last_val_brier"] == own.loc[3]
        predicted = run.predictions[run.predictions["trial"] == row["trial"]]
        probabilities = predicted.filter(like="probability_").to_numpy()
        names = predicted.filter(like="probability_").columns.str.removeprefix("probability_")
        truth = predicted["label"].to_numpy()[:, None] == names.to_numpy()[None]
        score = ((probabilities - truth) ** 2).sum(axis=1).mean()
        assert row["test_brier"] == pytest.approx(score, rel=1e-5)
    first, *_, last = rank_configs(run.trials, read_grid(run.trials, run.metric))
    assert first.test.mean < last.test.mean
    shown = [str(part) for part in show_run(run) if isinstance(part, str)]
    assert f"Use:[/] {first.cell['strategy']}" in " ".join(shown)
    again = Recorder()
    bench.run(run.folder / "suite.yaml", out=tmp_path / "out", workers=1, reporter=again)
    assert again.trained == []
