"""Suites: what is accepted, and that every mistake is told at once with its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.errors import SuiteError
from bench.methods.metrics import MetricTraits
from bench.runs.catalogue import catalogue
from bench.suite import (
    AXES,
    LoadedSuite,
    Settings,
    dump_suite,
    expand,
    load_suite,
    selection,
)
from bench.suite.registry import Registry

REPOSITORY = Path(__file__).parents[2]
MINIMAL = {"dataset": "fractals", "backbone": "resnet18", "strategy": "full_finetune"}

OWN = {"file": __file__}
"""A file that exists."""


def load(tmp_path: Path, content: str | dict[str, Any], *overrides: str) -> LoadedSuite:
    path = tmp_path / "s.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_suite(path, catalogue(), overrides)


def problems(tmp_path: Path, content: str | dict[str, Any], *overrides: str) -> list[str]:
    def load_and_expand() -> None:
        expand(load(tmp_path, content, *overrides), catalogue())

    with pytest.raises(SuiteError) as caught:
        load_and_expand()
    return [
        str(problem).replace(str(tmp_path / "s.yaml"), "s.yaml")
        for problem in caught.value.problems
    ]


def test_defaults_make_a_suite_of_three_lines(tmp_path: Path) -> None:
    loaded = load(tmp_path, MINIMAL)
    assert loaded.suite.name == "s"
    trials = expand(loaded, catalogue())
    assert [trial.settings.seed for trial in trials] == [0, 1, 2]
    assert {trial.label for trial in trials} == {"resnet18 · full_finetune · constant · flip_crop"}
    assert trials[0].settings.weights.name == "imagenet"


def test_all_mistakes_are_told_at_once_with_line_rule_value_and_nearest_name(
    tmp_path: Path,
) -> None:
    text = """\
dataset: fractal
backbone: resnet81
strategy: [linear_prob, {name: two_rates, backbone_multiplyer: 1}]
schedule: {name: step, step_size: 0}
augmentation: []
lr: [0.1, -1, 0.1]
epochs: 1.5
optimiser: sgd
momentum: 1.0
exclude: [{stratgy: x}]
"""
    found = problems(tmp_path, text)
    expected = [
        "unknown key 'optimiser'; did you mean 'optimizer'? (s.yaml:8)",
        "dataset must be a known name, got 'fractal'; did you mean 'fractals'? (s.yaml:1)",
        "backbone must be a known name, got 'resnet81'; did you mean 'resnet18'? (s.yaml:2)",
        "strategy must be a known name, got 'linear_prob'; did you mean 'linear_probe'? (s.yaml:3)",
        "unknown key 'backbone_multiplyer' for 'two_rates'; "
        "did you mean 'backbone_multiplier'? (s.yaml:3)",
        "step: step_size must be greater than or equal to 1, got 0 (s.yaml:4)",
        "augmentation must not be empty, got [] (s.yaml:5)",
        "lr must be greater than 0, got -1 (s.yaml:6)",
        "lr 0.1 is given twice: a duplicate cell (s.yaml:6)",
        "epochs must be a valid integer, got 1.5 (s.yaml:7)",
        "momentum must be less than 1, got 1.0 (s.yaml:9)",
        "unknown key 'stratgy' in a rule; did you mean 'strategy'? (s.yaml:10)",
    ]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": None}, "dataset must be a name"),
        ({"dataset": "./nowhere/at/all"}, None),
        ({"backbone": []}, "backbone must not be empty, got []"),
        (
            {"strategy": 3},
            "strategy must be a name, or a mapping with 'name' and its options, got 3",
        ),
        ({"strategy": ["lp_ft", "lp_ft"]}, "strategy 'lp_ft' is given twice"),
        ({"strategy": ["lp_ft", ""]}, "strategy must be a name, or a mapping with 'name'"),
        ({"dataset": ""}, "dataset must be a name, or a mapping with 'name'"),
        ({"weights": {"name": ""}}, "weights must be a name, or a mapping with 'name'"),
        ({"augmentation": "+mixup"}, "augmentation must be a known name, got '+mixup'"),
        ({"schedule": "multistep"}, "'multistep' needs the option 'milestones'"),
        ({"schedule": {"name": "cosine", "warmup_epochs": -1}}, "warmup_epochs must be greater"),
        ({"augmentation": "flip_crop+mixupp"}, "mix must be a known mix; did you mean 'mixup'?"),
        ({"optimizer": "sdg"}, "optimizer must be 'sgd', 'adam' or 'adamw', got 'sdg'"),
        ({"batch_size": True}, "batch_size must be a valid integer, got True"),
        ({"lr": "fast"}, "lr must be a valid number, got 'fast'"),
        ({"lr": float("nan")}, "lr must be"),
        ({"seed": -1}, "seed must be greater than or equal to 0, got -1"),
        ({"weights": {"file": "missing.pth"}}, "no such weights file"),
        ({"weights": "file"}, "weights from a file must read {file: PATH}"),
        ({"weights": {"file": "~nobody-here/w"}}, "not a usable path"),
        (
            {"weights": {**OWN, "maen": 0.5}},
            "unknown key 'maen' for 'weights'; did you mean",
        ),
        (
            {"weights": {**OWN, "mean": 123.7}},
            "mean must be one number or three (red, green",
        ),
        (
            {"weights": {**OWN, "mean": [0.5, 0.5]}},
            "values up to 255 by 255), got [0.5, 0.5",
        ),
        ({"weights": {**OWN, "std": 0}}, "blue) above 0 and at most 1"),
        (
            {"weights": {**OWN, "image_size": 4}},
            "image_size must be greater than or equal",
        ),
        (
            {"weights": {**OWN, "interpolation": "cubic"}},
            "interpolation must be 'nearest', ",
        ),
        (
            {"weights": {**OWN, "classes": "imagnet"}},
            "classes must be 'imagenet' or a list",
        ),
        ({"dataset": "~nobody-here/photos"}, "not a usable path"),
        ({"dataset": "./a\0b"}, "not a usable path"),
        ({"dataset": "x" * 400}, "dataset must be a known name"),
        ({"weights": {"fil": "x"}}, "weights must be a name"),
        ({"weights": {"name": "fractals", "clases": 3}}, "did you mean 'classes'?"),
        ({"weights": {"name": "imagenet", "tag": 1}}, "unknown key 'tag' for weights 'imagenet'"),
        ({"head": "mpl"}, "head must be a known name, got 'mpl'; did you mean 'mlp'?"),
        ({"name": "../up"}, "name must be letters"),
        ({"exclude": {"strategy": "lp_ft"}}, "exclude must be a list of mappings"),
        ({"exclude": [{}]}, "a rule must be a mapping"),
        ({"exclude": [{"strategy": "lp_ft"}]}, "this exclude rule matches no cell"),
        ({"exclude": [{"strategy": "full_finetune"}]}, "the rules leave no trial"),
        ({"include": [{"strategy": "full_finetune"}]}, "this include rule adds nothing"),
        ({"weights": "none"}, "weights must not be 'none'"),
        (
            {"weights": "none", "strategy": "linear_probe"},
            "strategy 'linear_probe' freezes the backbone, and a random one would never learn",
        ),
        (
            {"weights": {"name": "fractals", "family_seed": 0}},
            "must differ in family_seed, got 0 for both",
        ),
        ({"weights": {"name": "fractals", "image_size": 8}}, "image_size must be greater"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs optimizer sgd and a momentum"),
        ({"nesterov": True, "optimizer": "adam"}, "nesterov needs optimizer sgd"),
    ],
)
def test_each_kind_of_mistake(tmp_path: Path, change: dict[str, Any], message: str | None) -> None:
    if message is None:
        loaded = load(tmp_path, {**MINIMAL, **change})
        assert loaded.suite.dataset.options["path"] == str(tmp_path / "nowhere/at/all")
        return
    (found,) = problems(tmp_path, {**MINIMAL, **change})
    assert message in found
    assert found.endswith(")")
    assert "s.yaml:" in found


@pytest.mark.parametrize("missing", ["dataset", "backbone", "strategy"])
def test_required_keys(tmp_path: Path, missing: str) -> None:
    content = {key: value for key, value in MINIMAL.items() if key != missing}
    (found,) = problems(tmp_path, content)
    assert f"{missing} is required" in found


@pytest.mark.parametrize("text", ["", "just text", "- a\n- b\n", "3"])
def test_a_suite_is_a_mapping(tmp_path: Path, text: str) -> None:
    (found,) = problems(tmp_path, text)
    assert "a suite must be a mapping" in found


def test_dataset_forms(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    forms = {
        "fractals": ("fractals", {}),
        "torchvision:CIFAR10": ("torchvision", {"dataset": "CIFAR10"}),
        "photos": ("folder", {"path": str(tmp_path / "photos")}),
        "./photos": ("folder", {"path": str(tmp_path / "photos")}),
        "photos.tar.gz": ("folder", {"path": str(tmp_path / "photos.tar.gz")}),
        "labels.csv": ("table", {"path": str(tmp_path / "labels.csv")}),
        "photos/Labels.TSV": ("table", {"path": str(tmp_path / "photos" / "Labels.TSV")}),
    }
    for text, (name, options) in forms.items():
        dataset = load(tmp_path, {**MINIMAL, "dataset": text}).suite.dataset
        assert dataset.name == name
        assert options.items() <= dataset.options.items()
    mapping = {**MINIMAL, "dataset": {"path": "photos", "val_fraction": 0.3}}
    dataset = load(tmp_path, mapping).suite.dataset
    assert (dataset.name, dataset.options["val_fraction"]) == ("folder", 0.3)
    tables = {"train": "a.csv", "test": str(tmp_path / "b.csv")}
    mapping = {**MINIMAL, "dataset": {"path": tables, "root": "photos"}}
    dataset = load(tmp_path, mapping).suite.dataset
    assert dataset.name == "table"
    assert dataset.options["path"] == {k: str(tmp_path / f"{n}.csv") for k, n in
                                       (("train", "a"), ("test", "b"))}  # fmt: skip
    assert dataset.options["root"] == str(tmp_path / "photos")


@pytest.mark.parametrize(
    ("own", "target", "name"),
    [
        ({"path": "photos"}, "./phone", "folder"),
        ({"path": "photos"}, {"path": "phone/files.csv"}, "table"),
        ({"name": "text", "path": "a.csv"}, "phone", "text"),
        ({"name": "text", "path": "a.csv"}, {"lists": {"text": ["so"]}}, "text"),
    ],
)
def test_target_data_are_read_as_their_path_says(
    own: dict[str, Any], target: Any, name: str, tmp_path: Path
) -> None:
    dataset = load(tmp_path, {**MINIMAL, "dataset": {**own, "target_data": target}}).suite.dataset
    given = dataset.options["target_data"]
    path = target if isinstance(target, str) else target.get("path")
    assert given["name"] == name
    assert given["path"] == (None if path is None else str(tmp_path / path))


def test_mixes_combine_with_any_augmentation(tmp_path: Path) -> None:
    content = {
        **MINIMAL,
        "augmentation": ["mixup", "standard+cutmix", {"name": "none+mixup", "mix_alpha": 0.2}],
    }
    entries = [e.entry for e in load(tmp_path, content).suite.axes["augmentation"]]
    assert [(e.name, e.options["mix"], e.options["mix_alpha"]) for e in entries] == [
        ("none", "mixup", 1.0),
        ("standard", "cutmix", 1.0),
        ("none", "mixup", 0.2),
    ]


def test_overrides_are_checked_like_the_file(tmp_path: Path) -> None:
    assert load(tmp_path, MINIMAL, "lr=1e-2").suite.settings["lr"] == (0.01,)
    (found,) = problems(tmp_path, MINIMAL, "lr=-1")
    assert found == "lr must be greater than 0, got -1 (--set lr=-1)"


def test_no_option_of_an_entry_has_the_name_of_a_setting() -> None:
    names = catalogue()
    for axis in AXES[1:]:
        registry = getattr(names, axis)
        for entry in registry:
            assert not set(registry.get(entry).options.model_fields) & set(Settings.model_fields)


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "suites").glob("*.yaml")), ids=lambda p: p.stem
)
def test_shipped_suites_load_and_say_how_to_run_them(path: Path, tmp_path: Path) -> None:
    loaded = load_suite(path, catalogue())
    trials = expand(loaded, catalogue())
    header = path.read_text().splitlines()
    command = "run" if loaded.suite.tune is None else "tune"
    assert header[0] == f"# bench {command} suites/{path.name}"
    comment = " ".join(line for line in header if line.startswith("#"))
    assert "Time on two cores:" in comment
    assert "Expect" in comment
    again = tmp_path / path.name
    again.write_text(dump_suite(loaded.suite))
    same = expand(load_suite(again, catalogue()), catalogue())
    assert [trial.id({}) for trial in same] == [trial.id({}) for trial in trials]


def test_a_resolved_suite_gives_the_same_trials(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"x")
    content = {
        **MINIMAL,
        "strategy": ["from_scratch", {"name": "linear_probe", "lr": [0.1, 0.01]}],
        "schedule": ["constant", {"name": "multistep", "milestones": [2, 4]}],
        "augmentation": ["none", "flip_crop+mixup"],
        "weights": [
            {"file": "w.pth"},
            {"file": "w.pth", "mean": 0, "std": [0.1, 0.2, 1], "classes": ["a", "b"]},
        ],
        "head": ["linear", {"name": "mlp", "hidden": 8}],
        "exclude": [{"strategy": "from_scratch", "schedule": "multistep"}],
        "include": [
            {"strategy": "from_scratch", "weight_decay": 0.1},
            {"strategy": "lp_ft", "seed": 7},
        ],
    }
    loaded = load(tmp_path, content)
    again = tmp_path / "again" / "s.yaml"
    again.parent.mkdir()
    again.write_text(dump_suite(loaded.suite))
    expected = expand(loaded, catalogue())
    assert [t.id({}) for t in expand(load_suite(again, catalogue()), catalogue())] == [
        trial.id({}) for trial in expected
    ]


# What holds for a whole suite -----------------------------------------------------------------


def test_a_metric_is_one_name_for_the_whole_suite(tmp_path: Path) -> None:
    def problems(text: str) -> list[str]:
        path = tmp_path / "suite.yaml"
        base = "dataset: fractals\nbackbone: resnet18\naugmentation: none\n"
        path.write_text(f"{base}{text}")
        with pytest.raises(SuiteError) as caught:
            load_suite(path, catalogue())
        return [problem.message for problem in caught.value.problems]

    scratch = "strategy: from_scratch\n"
    assert problems(f"{scratch}metric: macro_f2\n") == [
        "metric must be a known name, got 'macro_f2'; did you mean 'macro_f1'?"
    ]
    assert problems(f"{scratch}metric: [ece, brier]\n") == [
        "metric must be one name, as trials are compared by it"
    ]
    assert problems("strategy: [{name: from_scratch, metric: ece}]\n") == [
        "metric holds for the whole suite: give it at the top"
    ]
    assert problems(f"{scratch}exclude: [{{metric: ece}}]\n") == [
        "metric holds for the whole suite: give it at the top"
    ]


def test_the_metric_is_one_name_for_the_whole_suite(tmp_path: Path) -> None:
    loaded = load(tmp_path, {**MINIMAL, "metric": "brier", "strategy": "pretrained_head"})
    trials = expand(loaded, catalogue())
    assert {trial.settings.metric for trial in trials} == {"brier"}  # also where nothing trains
    assert "metric: brier\n" in dump_suite(loaded.suite)
    assert "metric: accuracy\n" in dump_suite(load(tmp_path, MINIMAL).suite)
    default = expand(load(tmp_path, MINIMAL), catalogue())
    named = expand(load(tmp_path, {**MINIMAL, "metric": "accuracy"}), catalogue())
    assert [t.id({}) for t in named] == [t.id({}) for t in default]


def test_a_metric_inside_a_suite_is_refused(tmp_path: Path) -> None:
    inside = {"strategy": [{"name": "full_finetune", "metric": "brier"}]}
    for place in (inside, {"exclude": [{"metric": "brier"}]}, {"include": [{"metric": "brier"}]}):
        found = problems(tmp_path, {**MINIMAL, **place})
        assert "metric holds for the whole suite" in found[0]
    with pytest.raises(SuiteError, match="metric holds for the whole suite"):
        selection(["metric=brier"], catalogue())
    tune = {"tune": {"space": {"metric": ["accuracy", "brier"]}}}
    assert "'metric' cannot be searched" in problems(tmp_path, {**MINIMAL, **tune})[0]


@pytest.mark.parametrize("name", ["loss", "top 5", "a" * 42, "<b>"])
def test_a_metric_whose_name_can_name_no_column_is_refused(tmp_path: Path, name: str) -> None:
    registry: Registry[Any, Any] = Registry(
        "metric", MetricTraits, takes=("labels", "probabilities")
    )

    def of_nothing(labels: Any, probabilities: Any) -> float:
        """Nothing."""
        return 0.0

    registry.register(name)(of_nothing)
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump({**MINIMAL, "metric": name}))
    with pytest.raises(SuiteError, match="the name of a metric names columns"):
        load_suite(path, replace(catalogue(), metric=registry))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"folds": 1}, "folds must be greater than or equal to 2, got 1"),
        ({"folds": [2, 3]}, "folds must be one value, as trials are compared by it"),
        ({"choose": "first"}, "choose must be 'best' or 'last', got 'first'"),
        (
            {"strategy": {"name": "lp_ft", "choose": "last"}},
            "choose holds for the whole suite: give it at the top",
        ),
        (
            {"folds": 2, "tune": {"space": {"lr": [0.1, 0.2]}}},
            "folds and tune cannot be combined: every image is a test image of some fold, so the "
            "search would see them all; remove one of the two",
        ),
        ({"diagnose": "test"}, "diagnose must be 'test_curve', got 'test'"),
        (
            {"diagnose": "test_curve", "tune": {"space": {"lr": [0.1, 0.2]}}},
            "diagnose and tune cannot be combined: a search must not look at the test split; "
            "remove one of the two",
        ),
        (
            {"dataset": {"name": "fractals", "val_fraction": 0}},
            "val_fraction 0 leaves no validation split to choose the epoch by: set choose: last, "
            "or a val_fraction above 0",
        ),
        (
            {
                "dataset": {"name": "fractals", "val_fraction": 0},
                "choose": "last",
                "tune": {"space": {"lr": [0.1, 0.2]}},
            },
            "tune scores settings on the validation split, and val_fraction is 0: leave tune out, "
            "or give a val_fraction above 0",
        ),
        (
            {
                "dataset": {"name": "fractals", "val_fraction": 0},
                "choose": "last",
                "early_stopping": 3,
            },
            "early_stopping looks at validation, and val_fraction is 0: leave it out, or give a "
            "val_fraction above 0",
        ),
        (
            {
                "dataset": {"name": "fractals", "val_fraction": 0},
                "choose": "last",
                "schedule": "plateau",
            },
            "schedule 'plateau' looks at the validation loss, and val_fraction is 0: give another "
            "schedule, or give a val_fraction above 0",
        ),
    ],
    ids=str,
)
def test_folds_and_choosing_that_cannot_be(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    (found,) = problems(tmp_path, {**MINIMAL, **change})
    assert found.startswith(message)
    assert "s.yaml:" in found


def test_a_suite_may_choose_without_validation(tmp_path: Path) -> None:
    whole = {"name": "fractals", "val_fraction": 0}
    loaded = load(tmp_path, {**MINIMAL, "dataset": whole, "choose": "last", "folds": 4})
    assert len(expand(loaded, catalogue())) == 3 * 4


def test_what_comes_after_training_is_no_part_of_a_trial(tmp_path: Path) -> None:
    after = ["temperature", {"name": "ensemble", "members": "greedy"}, {"name": "tta"}]
    loaded = load(tmp_path, {**MINIMAL, "after": after})
    labels = [entry.label for entry in loaded.suite.after]
    assert labels == ["temperature", "ensemble(members=greedy)", "tta"]
    plain = expand(load(tmp_path, MINIMAL), catalogue())
    assert [trial.id({}) for trial in plain] == [
        trial.id({}) for trial in expand(loaded, catalogue())
    ]
    again = load(tmp_path, dump_suite(loaded.suite)).suite.after
    assert [entry.identity() for entry in again] == [e.identity() for e in loaded.suite.after]
    assert load(tmp_path, {**MINIMAL, "after": "soup"}).suite.after[0].name == "soup"


@pytest.mark.parametrize("kept", ["best", "none"])
def test_what_needs_weights_needs_all_checkpoints(tmp_path: Path, kept: str) -> None:
    """Told before training, not after it."""
    of_predictions = ["temperature", "ensemble", {"name": "ensemble", "members": "greedy"}]
    whole = {**MINIMAL, "checkpoints": kept, "after": of_predictions}
    assert len(load(tmp_path, whole).suite.after) == 3
    of_weights = ["soup", "wise_ft", "tta"]
    found = problems(tmp_path, {**whole, "after": [*of_predictions, *of_weights]})
    assert len(found) == 3
    for name, problem in zip(of_weights, found, strict=True):
        rule = f"after {name!r} needs the weights of all trials (checkpoints: all)"
        assert problem.startswith(f"{rule}, got checkpoints: {kept} (s.yaml:")
    assert load(tmp_path, {**MINIMAL, "after": of_weights}).suite.checkpoints == "all"


@pytest.mark.parametrize(
    ("after", "message"),
    [
        (
            "ensembel",
            "after must be a known name, got 'ensembel'; did you mean 'ensemble'? (s.yaml:1)",
        ),
        ({"name": "tta", "view": "flip"}, "unknown key 'view' for 'tta'; did you mean 'views'"),
        ({"name": "tta", "count": 0}, "tta: count must be greater than or equal to 1, got 0"),
        (
            ["soup", {"name": "soup", "members": "uniform"}],
            "after 'soup(members=uniform)' is given",
        ),
        ([], "after must not be empty"),
        (3, "after must be a name, or a mapping with 'name' and its options, got 3"),
    ],
)
def test_mistakes_in_what_comes_after(tmp_path: Path, after: Any, message: str) -> None:
    (problem,) = problems(tmp_path, {"after": after, **MINIMAL})
    assert message in problem


def test_nothing_comes_after_folds(tmp_path: Path) -> None:
    content = {**MINIMAL, "after": "soup", "folds": 5, "dataset": {"name": "fractals"}}
    assert any("after and folds cannot be combined" in each for each in problems(tmp_path, content))


def test_one_rule_for_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` is the home folder, and all else starts at the folder of the suite."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "suites").mkdir()
    rest = {"backbone": "resnet18", "strategy": "linear_probe"}
    for given, expected in (
        ("~/photos", tmp_path / "home" / "photos"),
        ("../photos", tmp_path / "photos"),
        (str(tmp_path / "here"), tmp_path / "here"),
    ):
        for dataset in (given, {"path": given}, {"name": "table", "path": "a.csv", "root": given}):
            path = tmp_path / "suites" / "suite.yaml"
            path.write_text(yaml.safe_dump({"dataset": dataset, **rest}))
            options = load_suite(path, catalogue()).suite.dataset.options
            assert options.get("root") in (None, str(expected))
            assert options["path"] in (str(expected), str(tmp_path / "suites" / "a.csv"))
    path.write_text(yaml.safe_dump({"dataset": "x", "weights": {"file": "~/no.pth"}, **rest}))
    with pytest.raises(SuiteError) as caught:
        load_suite(path, catalogue())
    assert f"no such weights file: {tmp_path / 'home' / 'no.pth'} (a relative path" in str(
        caught.value
    )
