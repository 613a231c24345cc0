"""What a suite may ask of penalties and batch norms: refused or told before anything is trained."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from bench.errors import SuiteError
from tests.runs.test_notes import TINY, is_of_validation, said

FRACTALS = {"name": "fractals", "classes": 3, "images_per_class": 8, "epochs": 1}
FULL: dict[str, Any] = {"weights": FRACTALS, "backbone": "shufflenet_v2_x0_5"}


def _strategy(name: str = "full_finetune", **options: Any) -> dict[str, Any]:
    return {**FULL, "strategy": {"name": name, **options}}


HALF = {"unlabelled_fraction": 0.5}
BSS, CO_TUNING = {"penalty": {"bss": 0.001}}, {"penalty": {"co_tuning": 1}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {**_strategy(**BSS), "micro_batch": 2},
            "penalty 'bss' looks at all images of a batch together, and micro_batch 2 cuts it",
        ),
        (
            {**_strategy(**BSS), "devices_per_trial": 2},
            "penalty 'bss' looks at all images of a batch together, and devices_per_trial 2 cuts",
        ),
        (
            _strategy(**CO_TUNING),
            "penalty 'co_tuning' needs weights with a classifier of known classes, got 'fractals'",
        ),
        (
            {"strategy": {"name": "from_scratch", **CO_TUNING}},
            "penalty 'co_tuning' needs weights with a classifier of known classes, got 'none'",
        ),
        (
            {**_strategy(**CO_TUNING), "task": "regression"},
            "penalty 'co_tuning' relates the classes of the weights to those of the images, and "
            "none of them means a number",
        ),
        (
            {**_strategy(stoch_norm=0.5), "backbone": "squeezenet1_1", "image_size": 64},
            "stoch_norm needs batch norm: squeezenet1_1 has none",
        ),
        (
            {"strategy": {"name": "side_tuning", "penalty": {"delta": 0.01}}},
            "penalty 'delta' holds layers of the backbone, and side_tuning leaves them as they are",
        ),
        (
            _strategy(penalty={"mcc": 1}),
            "penalty 'mcc' looks at target data without labels, and the suite has none",
        ),
        (_strategy(stoch_norm=1.5), "stoch_norm must be less than or equal to 1, got 1.5"),
        (_strategy(penalty={"bss": {"k": 0}}), "bss: k must be greater than or equal to 1, got 0"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(SuiteError) as caught:
        said(tmp_path, change)
    assert message in str(caught.value)


FROZEN = "no effect, the strategy trains nothing in front of the head. (2 trials)"


@pytest.mark.parametrize(
    ("change", "notes"),
    [
        (
            {**_strategy(**BSS), "micro_batch": 4},
            ["micro_batch: no effect, batches are no larger. (2 trials)"],
        ),
        ({**_strategy(penalty={"delta": 0.01}), "micro_batch": 2}, []),
        (
            {**_strategy(penalty={"mcc": 1}), "dataset": {**TINY["dataset"], **HALF}},
            [
                "unlabelled_fraction 0.5: 4 images of the training split are used without labels, "
                "for penalties such as mcc, and 4 images train; which ones depends on the seed. "
                "(2 trials)"
            ],
        ),
        ({**_strategy(penalty={"bss": 0}), "micro_batch": 2}, []),
        (_strategy(penalty={"co_tuning": 0}), []),
        (_strategy("lp_ft", **BSS, stoch_norm=0.5), []),
        (
            _strategy("linear_probe", penalty={"delta": 0.01, "l2_sp": 0.1}),
            [f"penalty delta of strategy 'linear_probe': {FROZEN}"],
        ),
        (
            _strategy(norm="fixed", stoch_norm=0.5),
            [
                "stoch_norm of strategy 'full_finetune': no effect, the strategy keeps "
                "the statistics of all batch norms fixed. (2 trials)"
            ],
        ),
        (
            _strategy("pretrained_head", stoch_norm=0.5)
            | {"strategy": ["full_finetune", {"name": "bitfit", "stoch_norm": 0.5}]},
            [
                "stoch_norm of strategy 'bitfit': no effect, the strategy keeps "
                "the statistics of all batch norms fixed. (2 trials)"
            ],
        ),
    ],
)
def test_what_has_no_effect_is_told(
    change: dict[str, Any], notes: list[str], tmp_path: Path
) -> None:
    found = [note for note in said(tmp_path, change) if not is_of_validation(note)]
    assert [re.sub(r" \(s\.yaml:\d+\)", "", note) for note in found] == notes
