"""Inputs in sentences: every rule is said with its numbers, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.results.folder import InputView, read_run, write_input_views
from bench.results.folder.inputs import InputRule
from bench.results.plots import draw_figures
from bench.results.report import Findings, document, render_markdown
from bench.results.report.inputs import input_sentences, sentence
from tests.made_up_run import made_up_run


def rule(**changes: Any) -> InputRule:
    told = {"size": 64, "resized_to": 64, "interpolation": "bilinear", "used_by": ("net · w",)}
    return InputRule(**{**told, **changes})


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (
            rule(resize="squash", native_size=64, squares=True),
            "All images are 64 × 64 px and are taken as they are.",
        ),
        (
            rule(resize="squash", native_size=96, squares=True),
            "All images are squares of 96 px and are resized to 64 × 64 px (bilinear, "
            "antialiased); nothing is cropped.",
        ),
        (
            rule(resize="squash", squares=True, interpolation="nearest"),
            "All images are squares and are resized to 64 × 64 px (nearest); nothing is cropped.",
        ),
        (
            rule(resize="squash"),
            "Each image is resized to 64 × 64 px (bilinear, antialiased), whatever its aspect "
            "ratio; nothing is cropped.",
        ),
        (
            rule(kind="text", unit="bytes"),
            "Texts as bytes, at most 64 of each; networks see no more of it.",
        ),
        (
            rule(resize="pad"),
            "The longer side of each image is resized to 64 px (bilinear, antialiased), and black "
            "fills the 64 × 64 px; nothing is cropped.",
        ),
        (
            rule(resize="crop", resized_to=73),
            "The shorter side of each image is resized to 73 px (bilinear, antialiased), and "
            "networks see the central 64 × 64 px: 77 % of the area of a square image, less of "
            "others; resize: squash or resize: pad keeps all of it.",
        ),
        (
            rule(resize="crop", resized_to=73, native_size=64, squares=True, interpolation=None),
            "The shorter side of each image is resized to 73 px, and networks see the central "
            "64 × 64 px: 77 % of the area of a square image, less of others; resize: squash or "
            "resize: pad keeps all of it.",
        ),
        (
            rule(resized_to=None, interpolation=None),
            "Networks see 64 × 64 px; how images were resized to it is not known.",
        ),
        (rule(kind="vector", size=1024), "Vectors of length 1,024, as they are."),
    ],
)
def test_each_rule_in_words(told: InputRule, said: str) -> None:
    assert sentence(told) == said


def test_normalisation_and_what_is_not_known_of_it() -> None:
    told = rule(resize="pad", mean=(0.485, 0.5, 0), std=(0.25, 0.25, 1), unknown=("std", "classes"))
    assert sentence(told).endswith(
        "Values in [0, 1] are normalised with mean 0.485, 0.5, 0 and std 0.25, 0.25, 1 for red, "
        "green and blue. The std of the weights is not known; those of ImageNet weights are used."
    )


def test_several_rules_say_who_uses_them() -> None:
    one, two = rule(resize="pad"), rule(resize="squash", used_by=tuple("abcdefgh"))
    said = input_sentences([one, two])
    assert said[0].startswith("inputs of net · w: The longer side")
    assert said[1].startswith("inputs of a, b, c, d, e, f and 2 more: Each image")
    assert input_sentences([one])[0].startswith("inputs: The longer side")


def test_the_report_says_and_shows_inputs(tmp_path: Path) -> None:
    made_up_run(tmp_path, strategies=["a", "b"], schedules=["s"], seeds=1, epochs=1)
    content = json.loads((tmp_path / "data.json").read_text())
    told = {"used_by": ["a <b> · w"], "kind": "image", "size": 8, "resize": "pad"}
    pixels = np.zeros((8, 8, 3), np.uint8)
    views = [InputView(sample="s", label="ants", view=name, pixels=pixels) for name in ("x", "y")]
    for rules, text in (
        ([told], "The longer side of each image is resized to 8 px"),
        ([told, {**told, "resize": "squash"}], "a &lt;b&gt; · w"),
    ):
        (tmp_path / "data.json").write_text(json.dumps({**content, "inputs": rules}))
        run = read_run(tmp_path)
        found = Findings(run=run)
        assert "plots/inputs.png" not in render_markdown(document(found, {}))
        report = render_markdown(document(found, {"inputs": "plots/inputs.png"}))
        assert "### Inputs" in report
        assert text in report
        assert report.count("plots/inputs.png") == 1
        assert "did not note it" not in report
    assert "inputs" not in dict(draw_figures(run))
    write_input_views(tmp_path, views)
    figure = dict(draw_figures(run))["inputs"]
    assert [ax.get_ylabel() for ax in figure.axes] == ["x", "y"]


def test_a_report_of_an_earlier_run_says_whence_it_knows(tmp_path: Path) -> None:
    def change(row: dict[str, Any], _: dict[str, Any]) -> None:
        row["settings"] = json.dumps({"resize": "auto", "image_size": 64})

    run = made_up_run(tmp_path, strategies=["a"], schedules=["s"], seeds=1, change=change)
    report = render_markdown(document(Findings(run=run), {}))
    assert "the central 64 × 64 px: 77 % of the area" in report
    assert "The version of bench that made this run did not note it" in report
