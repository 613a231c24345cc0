"""Python's verbs: what `import bench` gives, what it costs, and how it refuses."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import bench
from bench.cli.main import app
from bench.errors import BenchError
from tests.made_up_run import made_up_run
from tests.tiny import SMOKE_SUITE

HEAVY = {"torch", "torchvision", "pandas", "pyarrow", "matplotlib", "scipy", "PIL"}

REFUSED = """
import sys, bench
from bench.cli.main import main
from bench.errors import BenchError, SuiteError

heavy = lambda: sorted({heavy} & set(sys.modules))
assert not heavy(), heavy()
bad = {{"name": "x", "dataset": "fractals", "backbone": "resnet18", "strategy": "linear_prob"}}
calls = [(verb, {{}}) for verb in (bench.run, bench.plan, bench.tune, bench.lr_find, bench.audit)]
calls += [(bench.run, {{"only": ["seed=x"]}}), (bench.plan, {{"overrides": ["lr=-1"]}})]
for verb, options in calls:
    try:
        verb(bad, **options)
    except SuiteError as error:
        print(error.problems[0])
    sys.argv = ["bench", verb.__name__.replace("_", "-"), {file!r}]
    try:
        main()
    except SystemExit as end:
        assert end.code == 2
good = {{**bad, "strategy": "linear_probe"}}
searched = {{**good, "tune": {{"space": {{"lr": [0.1, 0.2]}}}}}}
cases = ((good, {{}}, "no section 'tune'"), (searched, {{"trials": 0}}, "--trials"))
for suite, options, told in cases:
    try:
        bench.tune(suite, **options)
    except BenchError as error:
        assert told in str(error), error
    else:
        raise AssertionError(told)
assert not heavy(), heavy()
"""


def test_a_refused_suite_imports_nothing_heavy(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("dataset: fractals\nbackbone: resnet18\nstrategy: linear_prob\n")
    code = REFUSED.format(heavy=HEAVY, file=str(file))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    strategy = "strategy must be a known name, got 'linear_prob'; did you mean 'linear_probe'?"
    only = "seed must be a valid integer"
    lines = [line for line in done.stdout.splitlines() if line]  # old versions of rich add some
    assert [line.startswith(strategy) for line in lines] == [True] * 5 + [False] + [True]
    assert lines[0].endswith("(at strategy)")
    assert lines[5].startswith(only)
    assert done.stderr.count(f"{file.name}:3)") == len(lines)


def test_every_command_is_a_call_that_says_what_it_does() -> None:
    commands = {
        (command.name or command.callback.__name__).replace("-", "_")
        for command in app.registered_commands
        if command.callback is not None
    }
    assert commands <= set(bench.__all__)
    for name in bench.__all__:
        assert inspect.getdoc(getattr(bench, name))


def test_an_option_of_another_call_is_refused() -> None:
    for call, option in ((bench.tune, {"retry": "failed"}), (bench.lr_find, {"workers": 2})):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{next(iter(option))}'"):
            call({}, **option)


def test_calls_return_what_commands_print(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    trial = made_up_run(folder, seeds=2, epochs=2).trials["trial"].iloc[0]
    assert "Use: " in str(bench.show(folder))
    assert "val accuracy" in str(bench.show(str(folder), trial[:8]))
    assert any("was chosen because" in sentence for sentence in bench.why(folder, trial))
    assert set(bench.list("strategies")) == {"strategy"}
    assert {name for name, *_ in bench.list()["head"]} >= {"linear", "mlp"}
    with pytest.raises(BenchError, match="--format must be among md, html, csv, latex, got 'pdf'"):
        bench.report(folder, format=["md", "pdf"])
    with pytest.raises(BenchError, match="--track must be among tensorboard, mlflow, got 'wandb'"):
        bench.report(folder, track="wandb")
    unchanged = bench.compare(folder, folder, str(folder))
    assert (len(unchanged.comparisons), unchanged.regressions) == (2, ())


SCRIPT = """
import sys, threading, bench, bench.results.report

bench.results.report.write_report = lambda _: None  # figures take a while
print("started")

def train():
    run = bench.run(sys.argv[1], out=sys.argv[2], workers=2, only=["strategy=from_scratch"])
    print(sorted(run.trials["status"]), len(run.curves))

thread = threading.Thread(target=train)
thread.start()
thread.join()
"""


@pytest.mark.campaign
def test_a_script_needs_no_guard_and_may_run_in_a_thread(tmp_path: Path) -> None:
    """The processes that train do not run it again."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "tiny.yaml").write_text(SMOKE_SUITE)
    script, suite = str(tmp_path / "script.py"), str(tmp_path / "tiny.yaml")
    done = subprocess.run(
        [sys.executable, script, suite, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "started",
        "['complete', 'complete', 'skipped', 'skipped'] 8",
    ]
    assert done.stderr == ""
