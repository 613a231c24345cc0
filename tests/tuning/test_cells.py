"""Cells of a grid, their trials, and the plain suite that says what was found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bench.runs.catalogue import catalogue
from bench.suite import Trial, Tune, dump_compact, expand, load_suite
from bench.tuning.cells import Cell, cells_of, own_params, search_in_words
from bench.tuning.tuned import tuned_suite

SUITE = """\
name: many
dataset: fractals
backbone: [resnet18, resnet34]
weights: [fractals, none]
strategy:
  - from_scratch
  - {name: full_finetune, lr: [0.1, 0.01]}
  - two_rates
  - {name: two_rates, backbone_multiplier: 0.0}
  - {name: mlp_probe, lr: 0.02}
schedule: [constant, {name: step, step_size: 3}]
head: linear
exclude:
  - {weights: none, strategy: full_finetune}
  - {weights: none, strategy: two_rates}
  - {weights: none, strategy: mlp_probe}
seed: [0, 1]
tune:
  space:
    lr: {low: 1e-4, high: 1.0, log: true}
    optimizer: [sgd, adam]
    momentum: {low: 0.5, high: 0.99}
    strategy:
      two_rates: {backbone_multiplier: {low: 0, high: 1}, lr: {low: 1e-3, high: 0.1}}
    schedule: {step: {step_size: {low: 1, high: 6}}}
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Trial], Tune]:
    path = tmp_path_factory.mktemp("suite") / "many.yaml"
    path.write_text(SUITE)
    found = load_suite(path, catalogue())
    assert found.suite.tune is not None
    return expand(found, catalogue()), found.suite.tune


def test_cells_differ_in_what_is_not_searched(loaded: tuple[list[Trial], Tune]) -> None:
    cells = cells_of(*loaded)
    # 2 backbones × 2 schedules × (from_scratch, full_finetune, two_rates, mlp_probe): the learning
    # rates of full_finetune and the multipliers of two_rates are searched, so they make no cell.
    assert len(cells) == 16
    assert len({cell.key for cell in cells}) == 16
    labels = [cell.label for cell in cells]
    assert len(set(labels)) == 16
    assert "two_rates · resnet18 · constant" in labels
    assert "from_scratch · resnet34 · step" in labels
    by_label = {cell.label: cell for cell in cells}
    two = by_label["two_rates · resnet18 · step"]
    assert [trial.strategy.options["backbone_multiplier"] for trial in two.own] == [0.1, 0.0]
    assert set(two.space) == {
        "lr", "optimizer", "momentum", "strategy.backbone_multiplier", "schedule.step_size",
    }  # fmt: skip
    # What is said of an entry goes before the general.
    assert two.space["lr"].values.model_dump()["high"] == 0.1
    full = by_label["full_finetune · resnet18 · constant"]
    assert full.space["lr"].values.model_dump()["high"] == 1.0
    assert {trial.settings.lr for trial in full.own} == {0.1, 0.01}
    assert {trial.settings.seed for cell in cells for trial in cell.own} == {0}


def test_own_values_and_found_values(loaded: tuple[list[Trial], Tune]) -> None:
    cells = {cell.label: cell for cell in cells_of(*loaded)}
    cell = cells["two_rates · resnet18 · step"]
    assert own_params(cell.own[1], cell.space) == {
        "lr": 0.001, "optimizer": "sgd", "momentum": 0.9,
        "strategy.backbone_multiplier": 0.0, "schedule.step_size": 3,
    }  # fmt: skip
    trial = cell.trial(
        {"lr": 0.05, "strategy.backbone_multiplier": 0.25, "schedule.step_size": 5}, seed=7
    )
    assert trial.settings.lr == 0.05
    assert trial.settings.seed == 7
    assert trial.strategy.label == "two_rates(backbone_multiplier=0.25)"
    assert trial.schedule.options == {"step_size": 5, "gamma": 0.1, "warmup_epochs": 0.0}
    assert cell.trial({"optimizer": "adam"}, seed=7).settings.momentum == 0.0


def test_a_cell_that_trains_nothing_has_nothing_to_search(tmp_path: Path) -> None:
    path = tmp_path / "head.yaml"
    path.write_text(
        "dataset: {name: folder, path: .}\nbackbone: resnet18\n"
        "strategy: [pretrained_head, linear_probe]\n"
        "tune: {space: {lr: [0.1, 0.2]}}\n"
    )
    found = load_suite(path, catalogue())
    assert found.suite.tune is not None
    cells = cells_of(expand(found, catalogue()), found.suite.tune)
    assert [cell.label.partition(" ")[0] for cell in cells] == ["pretrained_head", "linear_probe"]
    assert [list(cell.space) for cell in cells] == [[], ["lr"]]


@pytest.mark.parametrize("number", range(40))
@pytest.mark.campaign
def test_the_tuned_suite_means_the_chosen_trials_and_no_others(
    loaded: tuple[list[Trial], Tune], number: int, tmp_path: Path
) -> None:
    draw = random.Random(number)
    cells = cells_of(*loaded)
    cells = draw.sample(cells, draw.randint(1, len(cells)))
    chosen = [cell.trial(_drawn(cell, draw), seed=0) for cell in cells]
    path = tmp_path / "suite.yaml"
    path.write_text(SUITE)
    suite = load_suite(path, catalogue()).suite
    tuned = tmp_path / "tuned.yaml"
    tuned.write_text(dump_compact(tuned_suite(suite, chosen)))
    read = load_suite(tuned, catalogue())
    trials = expand(read, catalogue())
    assert {trial.config for trial in trials} == {trial.config for trial in chosen}
    assert {trial.settings.seed for trial in trials} == {0, 1}
    assert read.suite.name == "many_tuned"
    labels = {trial.config: trial.label for trial in chosen}
    assert {trial.config: trial.label for trial in trials} == labels


def test_each_number_of_training_images_has_values_of_its_own(tmp_path: Path) -> None:
    """And what reads files or follows training stays as in the suite."""
    path = tmp_path / "suite.yaml"
    more = "shots: [2, all]\nafter: temperature\nlimits: {megapixels: 300}\n"
    path.write_text(f"{SUITE}{more}")
    loaded = load_suite(path, catalogue())
    tune = loaded.suite.tune
    assert tune is not None
    cells = [
        cell
        for cell in cells_of(expand(loaded, catalogue()), tune)
        if cell.label.startswith("full_finetune · resnet18 · constant")
    ]
    assert [cell.label.rpartition(" · ")[2] for cell in cells] == ["shots 2", "shots all"]
    chosen = [
        cell.trial({"lr": lr, "optimizer": "adam"}, seed=0)
        for cell, lr in zip(cells, (0.01, 0.02), strict=True)
    ]
    tuned = tmp_path / "tuned.yaml"
    tuned.write_text(dump_compact(tuned_suite(loaded.suite, chosen)))
    read = load_suite(tuned, catalogue())
    found = {trial.settings.shots: trial.settings.lr for trial in expand(read, catalogue())}
    assert found == {2: 0.01, None: 0.02}
    assert (read.suite.after, read.suite.limits) == (loaded.suite.after, loaded.suite.limits)


@pytest.mark.parametrize(
    "strategies",
    [
        ["linear_probe", "mlp_probe", "knn", "{name: ridge, l2: 2.0}", "pretrained_head"],
        ["linear_probe", "knn"],
        ["knn", "ridge"],
    ],
)
def test_heads_that_come_with_a_strategy_do_not_stand_in_the_tuned_suite(
    strategies: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(
        "name: many\ndataset: fractals\nbackbone: resnet18\nweights: fractals\nhead: mlp\n"
        f"strategy: [{', '.join(strategies)}]\nseed: [0, 1]\ntune: {{space: {{lr: [0.1, 0.01]}}}}\n"
    )
    loaded = load_suite(path, catalogue())
    assert loaded.suite.tune is not None
    chosen = [cell.own[0] for cell in cells_of(expand(loaded, catalogue()), loaded.suite.tune)]
    tuned = tmp_path / "tuned.yaml"
    tuned.write_text(dump_compact(tuned_suite(loaded.suite, chosen)))
    found = expand(load_suite(tuned, catalogue()), catalogue())
    assert {trial.config for trial in found} == {trial.config for trial in chosen}
    assert len(found) == 2 * len(strategies)


def _drawn(cell: Cell, draw: random.Random) -> dict[str, object]:
    values: dict[str, object] = {
        "lr": draw.choice([0.05, draw.uniform(1e-3, 0.1)]),
        "optimizer": draw.choice(["sgd", "adam"]),
        "momentum": draw.uniform(0.5, 0.99),
        "strategy.backbone_multiplier": draw.choice([0.0, 0.1, draw.random()]),
        "schedule.step_size": draw.randint(1, 6),
    }
    return {name: value for name, value in values.items() if name in cell.space}


def test_what_a_search_asks_for_in_words(loaded: tuple[list[Trial], Tune]) -> None:
    trials, tune = loaded
    total = 16 * 20 * 2 * 12
    start = "bench tune searches 16 cells, "
    assert search_in_words(trials, tune) == (
        f"{start}20 trials each, on 2 tuning seeds: {total:,} trial-epochs"
    )

    def asked(**method: object) -> str:
        changed = tune.method.model_copy(update={"trials": None, **method})
        return search_in_words(trials, tune.model_copy(update={"method": changed}))

    assert asked(trials=1, pruner="median", seeds=(7,)) == (
        f"{start}1 trial each, on 1 tuning seed: 192 trial-epochs at most"
    )
    assert asked(images=5000) == f"{start}5,000 images each, on 2 tuning seeds"
    assert asked(seconds=90.0) == f"{start}90 s each, on 2 tuning seeds"
