"""The report's section "Judging without labels": what validators choose, beside the oracle."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from bench.errors import counted
from bench.methods.label_free import VALIDATORS
from bench.results.analysis.label_free import VALIDATION, Judge, LabelFreeChoices
from bench.results.grid import UNKNOWN, Grid
from bench.results.metric import Metric
from bench.results.report.blocks import Block, Heading, Table, paragraph
from bench.results.report.wording import (
    as_json,
    difference,
    difference_interval,
    number,
    seeds_text,
)

MAX_ROWS = 50


def label_free_section(found: LabelFreeChoices, grid: Grid) -> Iterator[Block]:
    """The blocks of a run with samples without labels."""
    yield Heading("Judging without labels", 3)
    yield paragraph(
        f"What label-free validators say of each config, from its predictions for "
        f"{counted(found.samples, 'image')} whose labels nobody looks at, at the epoch that each "
        f"trial keeps; means over {seeds_text(len(found.seeds))}. More is better, and nothing of "
        "this run was chosen by it."
    )
    yield _values(found, grid)
    if len(found.configs) > MAX_ROWS:
        more = counted(len(found.configs) - MAX_ROWS, "more config")
        yield paragraph(f"{more} in trials.parquet.")
    if len(found.configs) > 1:
        yield from _choices(found, grid)


def _values(found: LabelFreeChoices, grid: Grid) -> Table:
    metric = grid.metric
    of_target = () if found.figures is None else (f"test {metric.axis_label}",)
    header = ("config", *(_title(judge, metric) for judge in found.judges), *of_target)
    rows = tuple(
        (
            grid.labels[config],
            *(_value(judge, config, metric) for judge in found.judges),
            *(() if found.figures is None else (number(found.figures[config], metric),)),
        )
        for config in found.configs[:MAX_ROWS]
    )
    shown = [VALIDATORS[judge.name] for judge in found.judges if judge.name != VALIDATION]
    terms = tuple((each.title, each.meaning) for each in shown)
    return Table("label_free_values", header, rows, tuple(range(1, len(header))), terms)


def _choices(found: LabelFreeChoices, grid: Grid) -> Iterator[Block]:
    metric = grid.metric
    if found.figures is None or found.oracle is None:
        yield paragraph(
            "Which config each of them would choose. The target data has no test split, so nobody "
            "knows what these reach there."
        )
        alone = tuple((_title(each, metric), grid.labels[each.chosen]) for each in found.judges)
        yield Table("label_free", ("chosen by", "config"), alone)
        return
    yield paragraph(
        "Which config each of them would choose, and what this one reaches on the test split. The "
        "oracle is the best config on that split itself: only somebody with the labels could "
        "choose so, and nothing may."
    )
    figures = {config: number(own, metric) for config, own in found.figures.items()}
    rows = (
        *(
            (
                _title(each, metric),
                grid.labels[each.chosen],
                figures[each.chosen],
                *_regret(each, metric),
                UNKNOWN if each.correlation is None else f"{each.correlation:+.2f}",
            )
            for each in found.judges
        ),
        ("oracle", grid.labels[found.oracle], figures[found.oracle], "", "", ""),
    )
    header = ("chosen by", "config", f"test {metric.axis_label}", "regret", "interval", "τ")
    yield Table(
        "label_free",
        header,
        rows,
        tuple(range(2, len(header))),
        terms=(
            ("regret", "by how much the oracle is ahead, on the same seeds and test images"),
            (
                "interval",
                "of the regret, by the test of the verdict, for all of these pairs together; as "
                "the oracle was found on these images, it lies rather too high",
            ),
            ("τ", "weighted Kendall rank correlation with the test figures over all configs"),
        ),
    )
    yield paragraph(
        f"{counted(len(found.configs), 'config')} of one data set are no evidence for or against a "
        "validator: some agree with the test split by chance. Most of them are the higher, the "
        "more certain predictions are, right or wrong, and so favour a penalty that makes them "
        "certain."
    )


def _title(judge: Judge, metric: Metric) -> str:
    if judge.name == VALIDATION:
        return f"validation {metric.axis_label}"
    return VALIDATORS[judge.name].title


def _value(judge: Judge, config: str, metric: Metric) -> str:
    merit = judge.merits[config]
    if judge.name == VALIDATION:
        return number(metric.sign * merit, metric)
    return f"{merit:.4f}" if math.isfinite(merit) else UNKNOWN


def _regret(judge: Judge, metric: Metric) -> tuple[str, str]:
    if judge.regret is None:
        return difference(0.0, metric), ""
    return (
        difference(judge.regret.lead, metric),
        difference_interval(judge.regret.lead_interval, metric),
    )


def label_free_json(found: LabelFreeChoices, grid: Grid) -> dict[str, Any]:
    """What stands in `verdict.json`; figures of the target are there where it is tested."""
    told: dict[str, Any] = {
        "samples": found.samples,
        "seeds": len(found.seeds),
        "configs": len(found.configs),
        "validators": [_judge_json(each, found, grid) for each in found.judges],
    }
    if found.figures is not None and found.oracle is not None:
        told["oracle"] = {
            "config": grid.labels[found.oracle],
            "figure": found.figures[found.oracle],
        }
    return told


def _judge_json(judge: Judge, found: LabelFreeChoices, grid: Grid) -> dict[str, Any]:
    told: dict[str, Any] = {"name": judge.name, "config": grid.labels[judge.chosen]}
    if found.figures is None:
        return told
    regret = judge.regret
    low, high = (math.nan, math.nan) if regret is None else regret.lead_interval
    return {
        **told,
        "figure": found.figures[judge.chosen],
        "regret": 0.0 if regret is None else regret.lead,
        "low": as_json(low),
        "high": as_json(high),
        "correlation": judge.correlation,
    }
