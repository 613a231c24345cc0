"""The sections on texts of a report, and the file that they are read from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bench.results.analysis import confident_mistakes, wilson_interval
from bench.results.analysis.by_length import length_figures
from bench.results.folder import Run
from bench.results.folder.texts import (
    FILE,
    MAX_TEXT,
    LeftOut,
    ShownText,
    TestTexts,
    beginning,
    read_texts,
    write_texts,
)
from bench.results.report import Findings, document, render_html, render_markdown
from tests.made_up_run import made_up_run
from tests.results.report.rendered import table_with

HOSTILE = "<script>alert(1)</script> **b** [l](http://x) | `c` an image \u202egnp"


@pytest.fixture
def of_texts(tmp_path: Path) -> Run:
    """One training, with the texts that it gets wrong."""
    made = made_up_run(
        tmp_path / "r", strategies=["full_finetune"], schedules=["cosine"], seeds=1, epochs=2
    )
    rule = {"used_by": ["bert · none"], "kind": "text", "size": 32}
    run = Run(**{**vars(made), "data": {**made.data, "inputs": [rule]}})
    trial = str(run.trials["trial"].iloc[0])
    worst = confident_mistakes(run.judged, [trial], count=2)
    samples = list(run.judged["sample"])
    lengths = {sample: 5 + at % 25 for at, sample in enumerate(samples)}
    write_texts(
        run.folder,
        TestTexts(
            trial=trial,
            most=32,
            tokens={**lengths, **dict.fromkeys(samples[:20], 32)},
            cut=tuple(samples[:20]),
            shown=(
                ShownText(
                    sample=worst[0].sample,
                    text=HOSTILE,
                    parts=(LeftOut(part="image", falls=0.25), LeftOut(part="很好", falls=-0.125)),
                ),
                ShownText(sample=worst[1].sample, text="فيلم رائع"),
                ShownText(sample="of no mistake", text="unseen"),
            ),
        ),
    )
    return run


def test_accuracy_by_length_is_that_of_the_texts_of_each_length(of_texts: Run) -> None:
    texts = read_texts(of_texts.folder)
    assert texts is not None
    own = of_texts.judged
    right = (own["label"] == own["predicted"]).to_numpy()
    lengths = np.array([texts.tokens[sample] for sample in own["sample"]])
    cut = own["sample"].isin(texts.cut).to_numpy()
    found = length_figures(own, {0: [texts.trial]}, texts.tokens, texts.cut)
    assert [each.cut for each in found] == [False] * 4 + [True]
    assert sum(each.texts for each in found) == len(own)
    for each in found:
        of_part = (lengths >= each.shortest) & (lengths <= each.longest) & (cut == each.cut)
        hits, count = int(right[of_part].sum()), int(of_part.sum())
        assert (each.texts, each.accuracy.value) == (count, pytest.approx(hits / count))
        assert each.accuracy.interval == pytest.approx(wilson_interval(hits, count), abs=2e-3)
    report = render_markdown(list(document(Findings(run=of_texts), {})))
    table = table_with(report, "tokens")
    assert list(table["texts"]) == [str(each.texts) for each in found]
    assert table["tokens"].iloc[-1] == "more than 32"


def test_lengths_are_told_in_what_the_trial_reads(of_texts: Run) -> None:
    backbone = of_texts.trials["backbone"].iloc[0]
    rules = [
        {"used_by": ["bert · none"], "kind": "text", "size": 32},
        {"used_by": [f"{backbone} · none"], "kind": "text", "size": 32, "unit": "bytes"},
    ]
    run = replace(of_texts, data={**of_texts.data, "inputs": rules})
    report = render_markdown(list(document(Findings(run=run), {})))
    assert "lengths, in bytes as the network gets them" in report
    assert len(table_with(report, "bytes"))


def test_texts_that_are_wrong_are_shown_as_text(of_texts: Run) -> None:
    found = Findings(run=of_texts)
    blocks = list(document(found, {}))
    report = render_markdown(blocks)
    assert "an image" in report  # of the text itself
    assert "\\[image +25; 很好 -12\\]" in report
    assert "فيلم رائع" in report
    assert "unseen" not in report
    assert "\u202e" not in report
    assert "<script>" not in report
    page = render_html(blocks, found, {})
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)" in page
    plain = report.replace("an image", "").replace("[image", "").replace("imagenet", "")
    assert "image" not in plain.lower().partition("## how it was obtained")[0]
    assert "image" not in " ".join(map(str, found.lines))


def test_what_is_kept_of_texts_is_refused_where_it_is_damaged(of_texts: Run) -> None:
    path = of_texts.folder / FILE
    written = json.loads(path.read_text())
    assert read_texts(of_texts.folder) is not None
    for change in (
        {"most": 0},
        {"further": 1},
        {"tokens": {"a": -1}},
        {"tokens": [1]},
        {"shown": [{"sample": "a", "text": "x" * (MAX_TEXT + 2)}]},
        {"shown": [{"sample": "a", "text": "x", "parts": [{"part": "x", "falls": 2}]}]},
        {"shown": [{"sample": "a", "text": "x"}] * 101},
    ):
        path.write_text(json.dumps({**written, **change}))
        assert read_texts(of_texts.folder) is None, change
    for content in ("", "[]", "{", "\0"):
        path.write_text(content)
        assert read_texts(of_texts.folder) is None
    path.unlink()
    assert read_texts(of_texts.folder) is None
    assert "Most confidently wrong" not in render_markdown(
        list(document(Findings(run=of_texts), {}))
    )


def test_the_beginning_of_a_text_is_one_line() -> None:
    assert beginning("a \n b", 5) == "a b"
    assert beginning("abcdef", 5) == "abcde…"
    assert beginning(" " * 100 + "a", 5) == "…"
