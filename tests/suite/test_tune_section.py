"""The section `tune` of a suite: what it means, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.errors import SuiteError
from bench.runs.catalogue import catalogue
from bench.suite import Choices, FoundRange, Limit, Range, Suite, Tune, dump_suite, load_suite

HEAD = """\
dataset: fractals
backbone: resnet18
weights: fractals
strategy: [full_finetune, {name: two_rates, backbone_multiplier: 0.5}]
head: [linear, mlp]
seed: [0, 1]
"""


def _load(folder: Path, section: str) -> Suite:
    path = folder / "suite.yaml"
    path.write_text(HEAD + section)
    return load_suite(path, catalogue()).suite


def _tune(folder: Path, section: str) -> Tune:
    found = _load(folder, section).tune
    assert found is not None
    return found


def _problems(folder: Path, section: str) -> list[str]:
    with pytest.raises(SuiteError) as refused:
        _load(folder, section)
    return str(refused.value).splitlines()


def test_ranges_choices_and_searches_of_single_entries(tmp_path: Path) -> None:
    found = _tune(
        tmp_path,
        """\
tune:
  space:
    lr: {low: 1e-4, high: 1e-1, log: true}
    batch_size: {low: 8, high: 32, step: 8}
    optimizer: [sgd, adam]
    strategy: {two_rates: {backbone_multiplier: [0.0, 0.1], lr: {find: valley, factor: 5}}}
    head: {mlp: {dropout: {low: 0, high: 0.5}}}
""",
    )
    by_name = {(item.entry, item.name): item for item in found.space}
    assert by_name[None, "lr"].values == Range(low=1e-4, high=1e-1, log=True)
    assert by_name[None, "batch_size"].values == Range(low=8, high=32, step=8)
    assert by_name[None, "batch_size"].whole
    assert not by_name[None, "lr"].whole
    assert by_name[None, "optimizer"].values == Choices(values=("sgd", "adam"))
    assert by_name["two_rates", "strategy.backbone_multiplier"].option
    assert by_name["two_rates", "lr"].values == FoundRange(find="valley", factor=5)
    assert not by_name["mlp", "head.dropout"].whole
    assert len(by_name) == 6


def test_what_is_left_out_has_a_default(tmp_path: Path) -> None:
    method = _tune(tmp_path, "tune: {space: {lr: [0.1, 0.2]}}").method
    assert (method.trials, method.images, method.seconds) == (20, None, None)
    assert (method.sampler, method.pruner, method.objective) == ("tpe", "none", ("val_accuracy",))
    assert method.seeds == (1000, 1001)


@pytest.mark.parametrize(
    ("metric", "objective", "found"),
    [
        ("accuracy", "", ("val_accuracy",)),
        ("brier", "", ("val_metric",)),
        ("accuracy", ", objective: val_metric", ("val_accuracy",)),
        ("brier", ", objective: [val_metric, seconds]", ("val_metric", "seconds")),
        ("brier", ", objective: val_accuracy", ("val_accuracy",)),
    ],
)
def test_the_goal_is_the_suite_s_metric_unless_told(
    tmp_path: Path, metric: str, objective: str, found: tuple[str, ...]
) -> None:
    section = f"metric: {metric}\ntune: {{space: {{lr: [0.1, 0.2]}}{objective}}}"
    assert _tune(tmp_path, section).method.objective == found


def test_default_tuning_seeds_keep_off_the_suite_s_own(tmp_path: Path) -> None:
    section = "tune: {space: {lr: [0.1, 0.2]}}"
    path = tmp_path / "suite.yaml"
    path.write_text(HEAD.replace("[0, 1]", "[1000, 1002]") + section)
    found = load_suite(path, catalogue()).suite.tune
    assert found is not None
    assert found.method.seeds == (1001, 1003)


def test_the_resolved_suite_loads_to_the_same_section(tmp_path: Path) -> None:
    section = "tune: {images: 5000, seeds: 7, objective: val_loss, space: {lr: [0.1, 0.2]}}"
    first = _load(tmp_path, section)
    again = tmp_path / "resolved.yaml"
    again.write_text(dump_suite(first))
    assert load_suite(again, catalogue()).suite.tune == first.tune


def test_where_earlier_runs_lie(tmp_path: Path) -> None:
    """As other paths in a suite; those below a URL stay as they are."""
    found = _tune(tmp_path, "tune: {space: {lr: [1, 2]}, from: [a, /b, a, 's3://c/d']}")
    assert found.earlier == (str(tmp_path / "a"), "/b", "s3://c/d")
    assert _tune(tmp_path, "tune: {space: {lr: [1, 2]}, from: a}").earlier == found.earlier[:1]
    assert _tune(tmp_path, "tune: {space: {lr: [1, 2]}}").earlier == ()
    section = "tune: {space: {lr: [0.1, 0.2]}, from: a, widen: 0}"
    again = tmp_path / "elsewhere" / "resolved.yaml"
    again.parent.mkdir()
    again.write_text(dump_suite(_load(tmp_path, section)))
    assert load_suite(again, catalogue()).suite.tune == _tune(tmp_path, section)


def test_what_a_setting_cannot_be(tmp_path: Path) -> None:
    """Its own limits, and whether it is a whole number, whatever range is given."""
    section = """\
tune:
  space:
    lr: {low: 1e-4, high: 1e-1, log: true}
    momentum: {low: 0.5, high: 0.9}
    batch_size: [8, 16]
    grad_clip_norm: [null, 1.0]
"""
    found = {item.key: item for item in _tune(tmp_path, section).space}
    none = Limit(value=0, included=False)
    assert (found["lr"].lowest, found["lr"].highest) == (none, None)
    assert found["momentum"].lowest == Limit(value=0, included=True)
    assert found["momentum"].highest == Limit(value=1, included=False)
    assert found["grad_clip_norm"].lowest == none
    assert {key for key, item in found.items() if item.whole} == {"batch_size"}
    said = [item.identity() for item in found.values()]
    assert not any(each["whole"] or "lowest" in each for each in said)


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("tune: 5", "tune must be a mapping with 'space', got 5"),
        ("tune: {trials: 3}", "tune.space must name what is searched"),
        ("tune: {space: {}}", "tune.space must name what is searched"),
        ("tune: {space: {epochs: [1, 2]}}", "'epochs' cannot be searched"),
        ("tune: {space: {lrr: [1, 2]}}", "'lrr' cannot be searched; did you mean 'lr'?"),
        ("tune: {space: {lr: 0.1}}", "lr: what is searched must be a list of choices or"),
        ("tune: {space: {lr: [0.1]}}", "lr: choices must be two values or more"),
        ("tune: {space: {lr: [0.1, 0.1]}}", "lr: choices must be two values or more"),
        ("tune: {space: {lr: [0.1, -1]}}", "lr must be greater than 0, got -1"),
        ("tune: {space: {lr: {low: 1, high: 0.1}}}", "lr: low must be below high, got 1 and 0.1"),
        (
            "tune: {space: {weight_decay: {low: 0, high: 1, log: true}}}",
            "weight_decay: a log range must start above 0, got 0",
        ),
        (
            "tune: {space: {lr: {low: 1, high: 2, log: true, step: 1}}}",
            "lr: a log range has no step",
        ),
        ("tune: {space: {batch_size: {low: 2.5, high: 4}}}", "batch_size must be a valid integer"),
        (
            "tune: {space: {batch_size: {low: 2, high: 4, step: 0.5}}}",
            "batch_size: step must be a whole number, got 0.5",
        ),
        (
            "tune: {space: {lr: {low: 1, hihg: 2}}}",
            "unknown key 'hihg' for 'lr'; did you mean 'high'?",
        ),
        (
            "tune: {space: {weight_decay: {find: valley}}}",
            "weight_decay: only lr can be looked for",
        ),
        (
            "tune: {space: {strategy: {two_rate: {lr: [1, 2]}}}}",
            "the suite has no strategy 'two_rate'; did you mean 'two_rates'?",
        ),
        (
            "tune: {space: {strategy: {two_rates: {decay: [1, 2]}}}}",
            "strategy 'two_rates' has no 'decay' that can be searched",
        ),
        (
            "tune: {space: {strategy: {two_rates: {backbone_multiplier: [0, -1]}}}}",
            "backbone_multiplier must be greater than or equal to 0, got -1",
        ),
        ("tune: {space: {strategy: two_rates}}", "tune.space.strategy must map names"),
        ("tune: {space: {lr: [1, 2]}, trials: 0}", "tune: trials must be greater than or equal"),
        (
            "tune: {space: {lr: [1, 2]}, trials: 5, images: 9}",
            "tune must have one budget, got trials and images",
        ),
        ("tune: {space: {lr: [1, 2]}, seeds: [1, 5]}", "which measure the result; both have 1"),
        ("tune: {space: {lr: [1, 2]}, seeds: [5, 5]}", "tune.seeds must differ from each other"),
        ("tune: {space: {lr: [1, 2]}, sampler: tbe}", "tune: sampler must be 'tpe', 'random'"),
        ("tune: {space: {lr: {low: 1, high: 2}}, sampler: grid}", "but lr has a range"),
        (
            "tune: {space: {lr: [1, 2]}, objective: [val_loss, seconds], pruner: median}",
            "pruner 'median' needs a single objective",
        ),
        ("tune: {space: {lr: [1, 2]}, objective: seconds}", "the first objective must be"),
        ("tune: {space: {lr: [1, 2]}, samper: tpe}", "unknown key 'samper' for 'tune'"),
        ("tune: {space: {lr: [1, 2]}, widen: -1}", "tune: widen must be greater than or equal to"),
        ("tune: {space: {lr: [1, 2]}, from: 5}", "tune.from must be a run folder or a list of"),
        ("tune: {space: {lr: [1, 2]}, from: [a, 5]}", "such as results/photos, got ['a', 5]"),
    ],
)
def test_mistakes_are_refused_with_rule_value_and_line(
    tmp_path: Path, section: str, said: str
) -> None:
    problems = _problems(tmp_path, section)
    assert any(said in problem for problem in problems), problems
    assert all(problem.endswith("suite.yaml:7)") for problem in problems), problems
