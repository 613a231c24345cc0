"""Suites as people write them first, and what a plan says of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bench
from bench.errors import SuiteError
from bench.training.lr_range import LrRange
from tests.odd_inputs.conftest import Notes, refusal_of, suite_of

FRACTALS = {
    "name": "fractals",
    "classes": 2,
    "train_per_class": 8,
    "val_per_class": 6,
    "test_per_class": 10,
    "image_size": 32,
}
KEYS = "dataset: fractals\nbackbone: resnet18\nweights: none\nstrategy: from_scratch\n"


def problems_of(path: Path, text: str) -> list[str]:
    """What `bench plan` finds wrong with a suite of this text."""
    path.write_text(text, encoding="utf-8")
    error = refusal_of(path)
    assert isinstance(error, SuiteError)
    return [str(problem) for problem in error.problems]


# Suites ---------------------------------------------------------------------------------------


def test_settings_below_the_parts_of_a_program(tmp_path: Path) -> None:
    """As Lightning's command line and Hydra have them."""
    text = """\
data: {name: fractals}
model: {backbone: resnet18, weights: none}
trainer: {strategy: from_scratch, epochs: 3, lr: 0.01}
"""
    problems = problems_of(tmp_path / "x.yaml", text)
    told = "\n".join(problems)
    assert re.search(r"top level|top-level|not nested|one level", told)
    assert len(problems) <= 2
    assert all(key in told for key in ("dataset", "backbone", "strategy", "epochs", "lr"))


def test_keys_in_the_words_of_other_tools(tmp_path: Path) -> None:
    text = "dataset: fractals\nmodel: resnet18\nstrategy: from_scratch\nweights: none\n"
    text += "learning_rate: 0.01\nnum_epochs: 3\nbatch-size: 8\n"
    told = {
        word: " ".join(line for line in problems_of(tmp_path / "x.yaml", text) if word in line)
        for word in ("model", "learning_rate", "num_epochs", "batch-size")
    }
    meant = ("backbone", "lr", "epochs", "batch_size")
    for (word, said), key in zip(told.items(), meant, strict=True):
        assert re.search(rf"(?<![\w-]){key}(?![\w-])", said), f"{word} is answered by {said!r}"


def test_a_suite_of_comments_alone_is_empty(tmp_path: Path) -> None:
    problems = problems_of(tmp_path / "x.yaml", "# dataset: photos\n---\n# to be written\n")
    assert len(problems) == 1
    assert re.search("empty|nothing|no key", problems[0])


@pytest.mark.parametrize("line", ["grad_clip_norm: None", "early_stopping: off", "shots: none"])
def test_words_of_other_languages_for_null(tmp_path: Path, line: str) -> None:
    (problem,) = problems_of(tmp_path / "x.yaml", KEYS + line + "\n")
    assert "null" in problem


def test_a_file_s_name_that_no_run_can_have(tmp_path: Path) -> None:
    problems = problems_of(tmp_path / "résumé (v2).yaml", KEYS)
    assert len(problems) == 1
    assert re.search(r"name of the file|file's name|file name|called|rename", problems[0])


# Plans and runs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "axis",
    [
        {"weight_decay": [0.0, 0.1]},
        {"strategy": [{"name": "from_scratch", "batch_size": size} for size in (4, 8)]},
        {"head": [{"name": "mlp", "hidden": hidden} for hidden in (16, 32)]},
    ],
    ids=lambda axis: next(iter(axis)),
)
def test_rows_of_a_plan_tell_cells_apart(tmp_path: Path, axis: dict[str, Any]) -> None:
    plan = bench.plan(suite_of(FRACTALS, **axis), out=tmp_path, device="cpu")
    first, second = plan.rows
    assert first != second


@pytest.mark.usefixtures("no_report")
def test_a_run_that_goes_on_says_so(tmp_path: Path) -> None:
    shown: list[str] = []

    def look_in() -> None:
        """As another process would, which is not the one that writes."""
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("bench.results.folder.lock.os.getpid", lambda: -1)
                shown.append(str(bench.show(tmp_path / "out" / "tiny")))
        except bench.errors.BenchError as error:
            shown.append(str(error))

    bench.run(
        suite_of(FRACTALS),
        out=tmp_path / "out",
        device="cpu",
        workers=1,
        reporter=Notes(when_training=look_in),
    )
    assert shown
    assert "run the suite again" not in shown[0]
    assert re.search(r"running|going on|in progress|still|is writing|yet", shown[0])


@pytest.mark.parametrize("steps", [50, 100])
def test_the_smoothed_losses_lie_among_the_losses(steps: int) -> None:
    """A plateau, one steep fall and a rise, with the noise of single batches."""
    place = np.linspace(0, 1, steps)
    noise = 0.02 * np.random.default_rng(0).normal(size=steps)
    losses = (
        0.83 - 0.5 / (1 + np.exp(-(place - 0.6) * 40)) + np.clip(place - 0.85, 0, 1) * 3 + noise
    )
    means = np.array(LrRange(lrs=tuple(10 ** (7 * place - 6)), losses=tuple(losses)).smoothed)
    reach = max(2, steps // 10)
    near = [losses[max(0, i - reach) : i + reach + 1] for i in range(steps)]
    inside = [
        around.min() - 0.03 <= mean <= around.max() + 0.03
        for around, mean in zip(near, means, strict=True)
    ]
    assert np.mean(inside) >= 0.9
