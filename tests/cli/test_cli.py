"""The command line: exit codes, messages, no traceback for what a user can cause."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from bench.cli.main import main
from tests.made_up_run import made_up_run
from tests.results.scored_run import Scored, scored_run
from tests.tiny import SMOKE_SUITE

COMMAND = [sys.executable, "-c", "from bench.cli.main import main; main()"]


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(SMOKE_SUITE)
    return path


def call(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `bench` in this process."""
    monkeypatch.setattr(sys, "argv", ["bench", *map(str, arguments)])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    captured = capsys.readouterr()
    return int(caught.value.code or 0), captured.out, captured.err


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    return lambda *arguments: call(capsys, monkeypatch, *arguments)


def test_run_plan_report_list(  # type: ignore[no-untyped-def]
    cli, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    never = ("--set", "early_stopping=5")
    code, out, _ = cli("plan", suite, "--out", tmp_path, "--workers", 1, *never)
    assert code == 0
    assert "note early_stopping (--set early_stopping=5): no effect" in out
    assert "4 trials, 0 complete, 4 to train" in out
    # Four trials and the source task: 4 × 2 + 1 epochs, 4 × 2 × 16 + 24 images.
    assert "9 epochs, 152 images to train on" in out
    assert "2 strategies, 2 seeds, " in out
    assert "claims can be about the trained models only" in out
    assert not (tmp_path / "tiny").exists()

    code, out, err = cli("run", suite, "--out", tmp_path, "--workers", 1)
    assert (code, err) == (0, "")
    assert "pretraining shufflenet_v2_x0_5 on fractals" in out
    assert "4/4" in out
    assert str(tmp_path / "tiny" / "report.md") in out

    decided = "bench.execution.executors.choose: 0 tasks run in this process\n"
    code, out, err = cli("--verbose", "plan", suite, "--out", tmp_path)
    assert "4 trials, 4 complete, 0 to train" in out
    assert decided in err
    assert "0 epochs" in out

    report = tmp_path / "tiny" / "report.md"
    text = report.read_text()
    report.unlink()
    code, out, _ = cli("report", tmp_path / "tiny")
    assert code == 0
    assert report.read_text() == text


def test_a_failed_trial_is_exit_code_1(cli, suite: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    broken = ("--set", "lr=1e30", "--set", "strategy=from_scratch")
    code, out, err = cli("run", suite, "--out", tmp_path, "--workers", 1, *broken)
    assert code == 1
    assert "failed" in out
    assert "2 trials failed" in err
    assert re.search(r"^all of them: the training loss is nan in epoch 1; lower lr ", err, re.M)
    assert "Traceback" not in out + err
    assert set(pd.read_parquet(tmp_path / "tiny" / "trials.parquet")["status"]) == {"failed"}
    hint = "the next run skips 2 of them, the same command with --retry failed runs them again"
    assert hint in err

    code, out, err = cli("run", suite, "--out", tmp_path, "--workers", 1, *broken)
    assert (code, "0 to train, 2 skipped that failed in an earlier run" in out, hint in err) == (
        1,
        True,
        True,
    )
    code, out, _ = cli("plan", suite, "--out", tmp_path, *broken)
    assert code == 0
    assert "0 trial-epochs" in out
    assert "seed 0: the training loss is" in out
    assert (
        "2 trials failed in an earlier run and are skipped; add --retry failed to run them again"
        in out
    )
    code, out, _ = cli("plan", suite, "--out", tmp_path, *broken, "--retry", "failed")
    assert "2 to train" in out
    code, _, err = cli("run", suite, "--out", tmp_path, "--retry", "everything", *broken)
    assert (code, "--retry must be failed, got 'everything'" in err) == (2, True)


@pytest.mark.campaign
def test_decide(cli, suite: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = ("run", suite, "--out", tmp_path, "--workers", 1)
    code, _, err = cli(*run, "--margin", 0.02)
    assert code == 2
    assert "--margin has no effect without --decide; give --decide too, or --set claims" in err
    code, _, err = cli(*run, "--decide", "--max-seeds", 2)
    assert (code, "--max-seeds must be a whole number, 3 or more, got 2" in err) == (2, True)
    assert not (tmp_path / "tiny").exists()

    code, out, err = cli(*run, "--decide", "--max-seeds", 3, "--margin", 0.02)
    assert (code, err) == (0, "")
    assert "note: --decide: starts with 3 seeds (2 added: the suite has 2 seeds, and" in out
    assert "look 1: " in out
    assert "6/6" in out
    assert "Complete: 6 of 6 trials." in (tmp_path / "tiny" / "report.md").read_text()
    assert "margin: 0.02" in (tmp_path / "tiny" / "suite.yaml").read_text()
    code, out, _ = cli("plan", suite, "--out", tmp_path, "--decide")
    assert "6 trials, 6 complete, 0 to train" in out
    code, out, _ = cli("plan", suite, "--out", tmp_path)
    assert "4 trials, 4 complete, 0 to train" in out


def test_lr_find(cli, suite: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    # One batch holds all images, so that losses do not scatter.
    changes = ("--set", "lr=5e-9", "--set", "batch_size=16", "--set", "augmentation=none")
    arguments = ("lr-find", suite, "--out", tmp_path, "--high", 1, *changes)
    code, out, _ = cli(*arguments, "--low", 1e-4, "--steps", 40)
    assert code == 0
    steps = pd.read_parquet(tmp_path / "tiny" / "lr_find.parquet")
    assert list(steps.groupby("strategy", sort=False).size().index) == [
        "from_scratch",
        "linear_probe",
    ]
    valley = steps["valley"].dropna().iloc[0]
    assert f"{valley:.2g}" in out
    assert "below the valley" in out
    plot = tmp_path / "tiny" / "plots" / "lr_find.png"
    assert f"plot: {plot}" in out
    with Image.open(plot) as picture:
        assert picture.width == 1200
    code, _, err = cli(*arguments, "--low", 20)
    assert (code, "low must be above 0 and below high, got low 20" in err) == (2, True)


def test_lr_find_without_weights_is_exit_code_1(  # type: ignore[no-untyped-def]
    cli, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    def offline(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", offline)
    changes = ("--set", "weights=imagenet", "--set", "image_size=32")
    chosen = ("--only", "strategy=linear_probe", "--steps", 20)
    code, out, err = cli("lr-find", suite, "--out", tmp_path, *changes, *chosen)
    assert code == 1
    assert "failed shufflenet_v2_x0_5 · linear_probe" in out
    assert "Traceback" not in out + err
    assert not (tmp_path / "tiny" / "plots" / "lr_find.png").exists()


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (("run", "SUITE", "--set", "lr=-1"), ["lr must be greater than 0, got -1 (--set lr=-1)"]),
        (("run", "SUITE", "--set", "lr=-1", "--set", "epochs=0"), ["lr must", "epochs must"]),
        (("run", "SUITE", "--only", "seed=x"), ["seed must be a valid integer", "--only seed=x"]),
        (("run", "missing.yaml"), ["no such suite file"]),
        (("plan", "SUITE", "--device", "tpu"), ["--device must be", "'tpu'"]),
        (("run",), ["Missing argument"]),
        (("run", "SUITE", "--worker", "2"), ["--worker"]),
        (("rnu", "SUITE"), ["rnu"]),
        (("list", "stratagies"), ["did you mean 'strategy'?"]),
        (("report", "nowhere"), ["a run folder must exist, got 'nowhere'"]),
    ],
)
def test_mistakes_are_exit_code_2_and_a_message(
    cli,  # type: ignore[no-untyped-def]
    suite: Path,
    tmp_path: Path,
    arguments: tuple[str, ...],
    messages: list[str],
) -> None:
    code, out, err = cli(*(str(suite) if a == "SUITE" else a for a in arguments))
    assert code == 2
    joined = " ".join(err.split())
    for message in messages:
        assert message in joined
    assert "Traceback" not in out + err


def test_version_and_help(cli) -> None:  # type: ignore[no-untyped-def]
    assert cli("--version") == (0, f"bench {version('bench')}\n", "")
    for command in ((), ("run",), ("lr-find",)):
        assert cli(*command, "-h") == cli(*command, "--help")


def test_markup_in_names_is_shown_as_it_is(cli, suite: Path) -> None:  # type: ignore[no-untyped-def]
    code, _, err = cli("run", suite, "--set", "optimizer='[red]x[/]'")
    assert code == 2
    assert "got '[red]x[/]'" in err


def test_list_and_doctor(cli) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = cli("list")
    assert code == 0
    for word in (
        "layerwise_decay",
        "plateau",
        "trivial_augment",
        "cutmix",
        "hymenoptera",
        "swin_t",
    ):
        assert word in out
    code, out, _ = cli("list", "strategies")
    assert "lp_ft" in out
    assert "plateau" not in out
    code, out, _ = cli("list", "settings")
    assert "0 ≤ number < 1" in out
    assert "Nesterov" in out
    code, out, _ = cli("doctor")
    assert code in (0, 1)
    assert "torch" in out
    assert "cache" in out


INTERRUPTED_IN_A_CALLBACK = """\
import signal, time, weakref
from bench.cli import main as cli

class Thing: ...

def app():
    thing = Thing()
    watch = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    time.sleep(20)
    print("not heard")

signal.signal(signal.SIGINT, signal.default_int_handler)
cli.app = app
cli.main()
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_an_interrupt_that_falls_into_a_callback_is_heard_all_the_same() -> None:
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IN_A_CALLBACK],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 130
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
@pytest.mark.campaign
def test_an_interrupt_while_python_ends_leaves_no_traceback(stop: signal.Signals) -> None:
    code = "import sys, threading; threading.Thread(target=sys.stdin.read).start(); "
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            code + "from bench.cli.main import main; main()",
            "list",
            "schedules",
        ],
        stdin=subprocess.PIPE,  # the end waits for the thread, and that until this is closed
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    while "plateau" not in process.stdout.readline():
        assert process.poll() is None, process.communicate()
    time.sleep(0.5)
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == -stop
    assert "Traceback" not in err


@pytest.mark.parametrize(
    "stop", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.campaign)]
)
@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_an_interrupt_is_exit_code_130_and_the_next_run_goes_on(
    cli,  # type: ignore[no-untyped-def]
    suite: Path,
    tmp_path: Path,
    stop: signal.Signals,
) -> None:
    command = [*COMMAND, "run", str(suite), "--out", str(tmp_path), "--workers", "2",
               "--set", "epochs=40"]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Commands that a shell script puts in the background ignore SIGINT, and so does a child.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    parts = tmp_path / "tiny" / "parts"
    deadline = time.monotonic() + 120
    while not (parts.is_dir() and list(parts.glob("[!.]*"))) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    if stop == signal.SIGINT:
        os.killpg(process.pid, stop)  # as a terminal does: the workers get it too
    else:
        process.send_signal(stop)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (out, err)
    assert "interrupted" in err
    assert "Traceback" not in out + err
    finished = len(pd.read_parquet(tmp_path / "tiny" / "trials.parquet"))
    assert 1 <= finished < 4
    code, out, _ = cli("plan", suite, "--out", tmp_path, "--set", "epochs=40")
    assert code == 0
    assert f"{finished} complete" in out


def test_show_and_why(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from tests.made_up_run import made_up_run

    first = tmp_path / "first"
    run = made_up_run(first, seeds=3, epochs=2)
    trial = run.trials["trial"].iloc[0]
    code, out, _ = cli("show", first)
    assert (code, "Use: " in out) == (0, True)
    code, out, _ = cli("show", first, trial)
    assert (code, "val accuracy" in out) == (0, True)
    code, out, _ = cli("why", first, trial[:8])
    assert (code, "was chosen because" in out) == (0, True)
    code, _, err = cli("why", first, "nothing")
    assert (code, "TRIAL must be the id" in err) == (2, True)


def test_compare_fails_on_what_is_shown_to_be_worse(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(0)

    def run(name: str, accuracy: float, seeds: int = 3, **options: Any) -> Path:
        rights = [rng.random((seeds, 300)) < p for p in (accuracy, 0.9)]
        configs = [
            Scored(right=right, axes={"strategy": strategy})
            for strategy, right in zip("ab", rights, strict=True)
        ]
        return scored_run(tmp_path / name, configs, **options).folder

    first, second = run("first", 0.9), run("second", 0.3)
    code, out, _ = cli("compare", first, second)
    assert (code, "worse" in out) == (0, True)
    code, _, err = cli("compare", first, second, "--fail-on-regression")
    assert (code, "1 config got worse" in err) == (1, True)
    assert cli("compare", second, first, "--fail-on-regression")[0] == 0
    assert cli("compare", first, first, "--fail-on-regression")[0] == 0
    few = run("few", 0.3, seeds=2)
    code, _, err = cli("compare", first, few, "--fail-on-regression")
    assert (code, "too few common seeds to show any regression" in err) == (0, True)


def test_compare_refuses_to_judge_what_has_nothing_in_common(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    right = np.random.default_rng(0).random((3, 300)) < 0.9
    first = scored_run(tmp_path / "first", [Scored(right=right)]).folder
    names = [f"other/{index}" for index in range(300)]
    others = {
        "no common test image": scored_run(
            tmp_path / "images", [Scored(right=right)], samples=names
        ),
        "they have no config in common": scored_run(
            tmp_path / "strange", [Scored(right=right, axes={"strategy": "z"})]
        ),
        "no common seed": scored_run(tmp_path / "seeds", [Scored(right=right, seeds=(7, 8, 9))]),
        "the second run has no predictions of it": scored_run(
            tmp_path / "old", [Scored(right=right)], predictions=False
        ),
    }
    for reason, other in others.items():
        assert cli("compare", first, other.folder)[0] == 0
        code, _, err = cli("compare", first, other.folder, "--fail-on-regression")
        assert (code, " ".join(err.split()).endswith(f"cannot be compared: {reason}")) == (2, True)


def test_report_formats(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from tests.made_up_run import made_up_run

    folder = tmp_path / "run"
    made_up_run(folder, strategies=["a", "b"], schedules=["s"], seeds=1, epochs=1)
    code, out, _ = cli("report", folder, "--format", "csv,latex")
    assert code == 0
    assert str(folder / "tables") in out
    assert {"ranking.csv", "ranking.tex"} <= {path.name for path in (folder / "tables").iterdir()}
    code, _, err = cli("report", folder, "--format", "md,pdf")
    assert code == 2
    assert "--format must be among md, html, csv, latex, got 'pdf'" in err


def test_audit(cli, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    made_up_run(tmp_path / "run", seeds=2, epochs=2)
    code, out, err = cli("audit", tmp_path / "run")
    assert (code, err) == (0, "")
    assert "Looked at 300 images of the 544 of the run: 300 of the test split" in out
    assert "Label errors: confident learning estimates" in out
    assert str(tmp_path / "run" / "audit" / "audit.csv") in out

    code, out, err = cli("audit", tmp_path / "run", "--device", "cpu")
    assert (code, "--device has no effect in the audit of a run" in err) == (2, True)
    code, out, err = cli("audit", tmp_path / "none")
    assert (code, "a run folder must exist, got" in err) == (2, True)
    code, out, err = cli("audit", tmp_path / "none.yaml")
    assert (code, "none.yaml" in err) == (2, True)
    assert "Traceback" not in err
