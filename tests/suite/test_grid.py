"""From axes and rules to trials."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import SuiteError
from bench.runs.catalogue import catalogue
from bench.suite import Trial, dump_suite, expand, matches, selection
from bench.suite.schema import shortest_tails
from tests.suite.test_load import MINIMAL, load


def trials(tmp_path: Path, **changes: Any) -> list[Trial]:
    return expand(load(tmp_path, {**MINIMAL, "seed": 0, **changes}), catalogue())


def cells(found: list[Trial], *names: str) -> list[tuple[Any, ...]]:
    def value(trial: Trial, name: str) -> Any:
        holder = trial if hasattr(trial, name) else trial.settings
        result = getattr(holder, name)
        return getattr(result, "label", result)

    return [tuple(value(trial, name) for name in names) for trial in found]


def test_product_of_all_axes_with_seeds_together(tmp_path: Path) -> None:
    found = trials(tmp_path, strategy=["full_finetune", "lp_ft"], lr=[0.1, 0.01], seed=[0, 1])
    assert cells(found, "strategy", "lr", "seed") == [
        (strategy, lr, seed)
        for strategy in ("full_finetune", "lp_ft")
        for lr in (0.1, 0.01)
        for seed in (0, 1)
    ]


def test_settings_of_an_entry_hold_for_its_cells_only(tmp_path: Path) -> None:
    strategy = ["full_finetune", {"name": "linear_probe", "lr": [0.5, 1.0], "batch_size": 4}]
    found = trials(tmp_path, strategy=strategy, lr=0.1)
    assert cells(found, "strategy", "lr", "batch_size") == [
        ("full_finetune", 0.1, 16),
        ("linear_probe", 0.5, 4),
        ("linear_probe", 1.0, 4),
    ]


def test_exclude_by_name_option_and_setting(tmp_path: Path) -> None:
    strategy = ["linear_probe", {"name": "two_rates", "backbone_multiplier": 0.0}, "two_rates"]
    found = trials(
        tmp_path,
        strategy=strategy,
        lr=[0.1, 0.01],
        exclude=[
            {"strategy": "linear_probe", "lr": 0.1},
            {"strategy": {"name": "two_rates", "backbone_multiplier": 0.0}},
        ],
    )
    assert cells(found, "strategy", "lr") == [
        ("linear_probe", 0.01),
        ("two_rates", 0.1),
        ("two_rates", 0.01),
    ]


def test_exclude_with_a_list_matches_any_of_its_values(tmp_path: Path) -> None:
    found = trials(tmp_path, lr=[0.1, 0.01, 0.001], exclude=[{"lr": [0.1, 0.01]}])
    assert cells(found, "lr") == [(0.001,)]


def test_rules_match_the_settings_written_in_an_entry(tmp_path: Path) -> None:
    found = trials(
        tmp_path,
        strategy=[{"name": "linear_probe", "lr": [0.01, 0.001]}, "full_finetune"],
        exclude=[{"strategy": {"name": "linear_probe", "lr": 0.01}}],
    )
    assert cells(found, "strategy", "lr") == [("linear_probe", 0.001), ("full_finetune", 0.001)]


def test_an_augmentation_does_not_stand_for_its_mixes(tmp_path: Path) -> None:
    found = trials(
        tmp_path,
        augmentation=["none", "mixup", "standard", "standard+mixup"],
        exclude=[{"augmentation": "standard"}, {"augmentation": "mixup"}],
    )
    assert cells(found, "augmentation") == [("none",), ("standard(mix=mixup)",)]


def test_two_weight_files_are_two_configs(tmp_path: Path) -> None:
    for name in ("a.pth", "b.pth"):
        (tmp_path / name).write_bytes(b"x")
    found = trials(tmp_path, weights=[{"file": "a.pth"}, {"file": "b.pth"}])
    assert len(found) == len({trial.config for trial in found}) == 2


def test_files_of_weights_are_labelled_by_as_much_path_as_tells_them(tmp_path: Path) -> None:
    paths = ("a/best.pth", "b/best.pth", "b/other.pth")
    for name in paths:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    weights = [{"file": name} for name in paths[:2]]
    strategy = {
        "name": "full_finetune",
        "weights": {"file": paths[2], "mean": 0.5, "classes": ["x", "y"]},
    }
    content = {**MINIMAL, "weights": weights, "strategy": ["linear_probe", strategy]}
    loaded = load(tmp_path, content)
    found = expand(loaded, catalogue())
    labels = {loaded.suite.weights_label(trial.settings.weights) for trial in found}
    assert labels == {"a/best.pth", "b/best.pth", "other.pth(mean=0.5)"}
    assert {trial.settings.weights.label for trial in found} == {"best.pth", "other.pth(mean=0.5)"}


def test_shortest_tails() -> None:
    assert shortest_tails(["/x/a.pth"]) == {"/x/a.pth": "a.pth"}
    assert shortest_tails(["/1/x/a", "/2/x/a", "/a"]) == {
        "/1/x/a": "1/x/a",
        "/2/x/a": "2/x/a",
        "/a": "/a",
    }


def test_include_adds_settings_to_the_cells_that_it_matches(tmp_path: Path) -> None:
    found = trials(
        tmp_path,
        strategy=["full_finetune", "linear_probe"],
        include=[{"strategy": "linear_probe", "lr": 0.5}],
    )
    assert cells(found, "strategy", "lr") == [("full_finetune", 0.001), ("linear_probe", 0.5)]


def test_include_adds_cells_where_it_matches_none(tmp_path: Path) -> None:
    found = trials(
        tmp_path,
        lr=[0.1, 0.01],
        include=[{"strategy": "linear_probe", "lr": 0.5}, {"strategy": "lp_ft"}],
    )
    assert cells(found, "strategy", "lr") == [
        ("full_finetune", 0.1),
        ("full_finetune", 0.01),
        ("linear_probe", 0.5),
        ("lp_ft", 0.1),
        ("lp_ft", 0.01),
    ]


def test_strategies_that_ignore_a_setting_have_one_cell(tmp_path: Path) -> None:
    found = trials(
        tmp_path,
        strategy=["from_scratch", "full_finetune", "pretrained_head"],
        weights=["imagenet", "IMAGENET1K_V1"],
        schedule=["constant", "cosine"],
    )
    counts = dict.fromkeys(("from_scratch", "full_finetune", "pretrained_head"), 0)
    for trial in found:
        counts[trial.strategy.name] += 1
    # from_scratch drops the weights; pretrained_head drops the schedule.
    assert counts == {"from_scratch": 2, "full_finetune": 4, "pretrained_head": 2}
    scratch = next(t for t in found if t.strategy.name == "from_scratch")
    assert scratch.settings.weights.name == "none"
    untrained = next(t for t in found if t.strategy.name == "pretrained_head")
    assert (untrained.schedule.name, untrained.settings.head.name) == ("constant", "pretrained")


def test_probes_have_their_own_head(tmp_path: Path) -> None:
    head = ["linear", {"name": "mlp", "hidden": 32}]
    found = trials(tmp_path, strategy=["linear_probe", "full_finetune"], head=head)
    assert cells(found, "strategy", "head") == [
        ("linear_probe", "linear"),
        ("full_finetune", "linear"),
        ("full_finetune", "mlp(hidden=32)"),
    ]
    (probe,) = trials(tmp_path, strategy="mlp_probe")
    assert probe.settings.head.options == {"hidden": 512, "dropout": 0.5}


def test_ids_depend_on_meaning_alone(tmp_path: Path) -> None:
    (plain,) = trials(tmp_path, strategy="two_rates")
    (spelled,) = trials(
        tmp_path, strategy={"name": "two_rates", "backbone_multiplier": 0.1}, lr=0.001, name="other"
    )
    (other,) = trials(tmp_path, strategy={"name": "two_rates", "backbone_multiplier": 0.2})
    assert plain.id({}) == spelled.id({})
    assert plain.config == spelled.config
    assert other.id({}) != plain.id({})
    assert plain.id({}) != plain.id({"data": "changed"})


def test_seeds_share_a_config_and_nothing_else_does(tmp_path: Path) -> None:
    found = trials(tmp_path, lr=[0.1, 0.2], seed=[0, 1, 2])
    assert len({trial.id({}) for trial in found}) == 6
    assert len({trial.config for trial in found}) == 2
    assert found[0].config == found[2].config


def test_folds_are_trials_of_each_seed(tmp_path: Path) -> None:
    found = trials(tmp_path, lr=[0.1, 0.2], seed=[0, 1], folds=3)
    assert cells(found, "lr", "seed", "fold") == [
        (lr, seed, fold) for lr in (0.1, 0.2) for seed in (0, 1) for fold in range(3)
    ]
    assert len({trial.id({}) for trial in found}) == 12
    assert len({trial.config for trial in found}) == 2
    assert found[1].full_label.endswith(" · seed 0 · fold 2")
    # A rule that gives cells other settings leaves them their fold.
    rules = [{"lr": 0.1, "batch_size": 4}]
    assert len(trials(tmp_path, lr=[0.1, 0.2], seed=[0, 1], folds=3, include=rules)) == 12
    # What trains nothing is tested on every fold as well.
    untrained = trials(
        tmp_path, strategy=["pretrained_head", "full_finetune"], folds=2, schedule="cosine"
    )
    assert len(untrained) == 4


def test_suites_without_folds_and_choose_are_what_they_were(tmp_path: Path) -> None:
    """Ids are kept in run folders: these were given before there were the two settings."""
    found = trials(tmp_path, strategy=["two_rates", "pretrained_head"], lr=[0.1], threads=1)
    assert [(trial.id({}), trial.config) for trial in found] == [
        ("d509d201ea3b", "a41a263e041d"),
        ("47c943ab4b09", "8ca11a68794d"),
    ]
    (same,) = trials(tmp_path, strategy="two_rates", lr=0.1, choose="best", folds=None, threads=1)
    assert same.id({}) == "d509d201ea3b"
    (last,) = trials(tmp_path, strategy="two_rates", lr=0.1, choose="last", threads=1)
    assert last.id({}) != "d509d201ea3b"
    assert (
        not {"folds", "choose"} & yaml.safe_load(dump_suite(load(tmp_path, MINIMAL).suite)).keys()
    )
    kept = yaml.safe_load(dump_suite(load(tmp_path, {**MINIMAL, "folds": 3}).suite))
    assert kept["folds"] == 3


def test_the_path_of_data_does_not_change_a_config(tmp_path: Path) -> None:
    configs = set()
    for folder in ("here/photos", "there/photos"):
        (trial,) = trials(tmp_path, dataset={"name": "hymenoptera", "path": folder})
        configs.add(trial.config)
    assert len(configs) == 1


def test_only_selects_trials(tmp_path: Path) -> None:
    found = trials(tmp_path, strategy=["full_finetune", "lp_ft", "linear_probe"], seed=[0, 1])
    rules = selection(["strategy=lp_ft,seed=1", "strategy=linear_probe"], catalogue())
    chosen = [trial for trial in found if any(matches(trial, rule) for rule in rules)]
    assert cells(chosen, "strategy", "seed") == [
        ("lp_ft", 1),
        ("linear_probe", 0),
        ("linear_probe", 1),
    ]
    with pytest.raises(SuiteError, match=r"did you mean 'strategy'\? \(--only strateg=lp_ft\)"):
        selection(["strateg=lp_ft"], catalogue())


NAMES = ["full_finetune", "two_rates", "layerwise_decay"]


@settings(max_examples=60, deadline=None)
@given(
    strategies=st.lists(st.sampled_from(NAMES), min_size=1, unique=True),
    lrs=st.lists(st.sampled_from([0.1, 0.2, 0.3]), min_size=1, unique=True),
    seeds=st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True),
)
def test_a_grid_has_every_cell_once(
    tmp_path_factory: pytest.TempPathFactory,
    strategies: list[str],
    lrs: list[float],
    seeds: list[int],
) -> None:
    folder = tmp_path_factory.mktemp("grid")
    found = trials(folder, strategy=strategies, lr=lrs, seed=seeds)
    expected = {(s, lr, seed) for s in strategies for lr in lrs for seed in seeds}
    assert set(cells(found, "strategy", "lr", "seed")) == expected
    assert len(found) == len(expected) == len({trial.id({}) for trial in found})
