"""Who gets further seeds after a look, and when there is nothing more to look for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from bench.results.analysis import Contender, Verdict, compare
from bench.results.analysis.choice import ONE_BLOCK, Choice
from bench.results.analysis.intervals import UNKNOWN
from bench.results.analysis.scores import Scores
from bench.results.analysis.verdict import with_recommended
from bench.results.metric import ACCURACY
from bench.results.report.wording import rounded_up
from bench.runs.decide import PATIENCE, Step, next_step, seeds_may_do
from bench.runs.race_text import end_text, round_text


def verdict(
    accuracies: dict[str, float],
    seeds: dict[str, int],
    *,
    images: int = 400,
    luck: float = 0.01,
    margin: float = 0.01,
    own: float = 0.0,
) -> Verdict:
    """Validation ranks as the accuracies do; the later ones are dearer.

    `own` is how much each has images of its own that it finds easy.
    """
    scores, contenders = {}, []
    easy = np.random.default_rng(0).random(images)
    for place, (name, accuracy) in enumerate(accuracies.items()):
        number = seeds[name]
        rng = np.random.default_rng([2, place])
        lucky = accuracy + luck * rng.normal(size=(20, 1))
        hard = (1 - own) * easy + own * rng.random(images)
        values = (0.8 * hard + 0.2 * rng.random((20, images)) < lucky)[:number].astype(float)
        scores[name] = {
            ONE_BLOCK: Scores(seeds=tuple(range(number)), samples=_samples(images), values=values)
        }
        val = dict.fromkeys(range(number), accuracy)
        choice = Choice(config=name, candidates=1, trials={}, configs={}, val=val)
        contenders.append(
            Contender(
                name=name,
                choices={ONE_BLOCK: choice},
                seeds=tuple(range(number)),
                figure=float(values.mean()),
                interval=UNKNOWN,
                val=accuracy,
                costs={"train_seconds": 1.0 + place},
            )
        )
    found = Verdict(
        metric=ACCURACY,
        axis="strategy",
        contenders=tuple(sorted(contenders, key=lambda each: -each.figure)),
        comparisons=tuple(compare(scores, margin=margin)),
        margin=margin,
        cost="train_seconds",
        samples=images,
        train_samples=None,
        look=1,
    )
    return with_recommended(found, (ONE_BLOCK,))


def _samples(images: int) -> tuple[str, ...]:
    return tuple(map(str, range(images)))


def three(accuracies: Sequence[float], *, seeds: int = 3, **options: float) -> Verdict:
    named = dict(zip("abc", accuracies, strict=True))
    return verdict(named, dict.fromkeys(named, seeds), **options)  # type: ignore[arg-type]


THREE = dict.fromkeys("abc", 3)


def test_the_worse_stop_and_the_open_get_twice_as_many_seeds() -> None:
    found = three([0.80, 0.795, 0.50])
    assert found.recommended == "a"
    step = next_step(found, THREE)
    assert step == Step(racing=("a", "b"), seeds=6, stopped={"c": "worse"})
    assert next_step(found, THREE, max_seeds=4).seeds == 4
    assert next_step(found, THREE, grown=lambda seeds: seeds + 1).seeds == 4


def test_when_all_others_are_worse_it_is_decided() -> None:
    found = three([0.9, 0.6, 0.5])
    step = next_step(found, THREE)
    assert step == Step(stopped={"b": "worse", "c": "worse"}, ended="decided")
    text = end_text(found, step, (9, 9, 3))
    assert text == (
        "look 1: decided: a; b and c (shown to be worse). 9 trainings; 3 seeds for all would be 9."
    )


def test_what_is_as_good_stops_too() -> None:
    found = three([0.80, 0.799, 0.5], images=20_000, luck=0.0, margin=0.05)
    step = next_step(found, THREE)
    assert (step.ended, step.stopped) == ("decided", {"b": "as good", "c": "worse"})


def test_whoever_is_behind_in_seeds_catches_up_first() -> None:
    named = {"a": 0.8, "b": 0.795, "c": 0.5}
    seeds = {"a": 6, "b": 3, "c": 3}
    step = next_step(verdict(named, seeds), seeds)
    assert (step.racing, step.seeds) == (("a", "b"), 6)


def test_nothing_is_hopeless_with_few_seeds() -> None:
    """Two that differ by little, on few images that each finds easy or hard for itself."""
    options = {"luck": 0.0, "own": 0.5, "images": 100}
    few = three([0.801, 0.80, 0.2], **options)
    assert not seeds_may_do(few, few.rivals["b"], 20)
    assert next_step(few, THREE).racing == ("a", "b")
    assert next_step(few, THREE, patience=3).ended == "images"
    many = three([0.801, 0.80, 0.2], seeds=PATIENCE, **options)
    step = next_step(many, dict.fromkeys("abc", PATIENCE))
    assert (step.ended, step.stopped["b"]) == ("images", "images")
    text = end_text(many, step, (18, 18, 6))
    assert "not decided: b is open against a with 6 seeds: no number of seeds is enough" in text
    assert "images might be (it has 100)." in text


def test_more_images_give_hope_to_be_shown_as_good() -> None:
    same = three([0.80, 0.80, 0.5], images=20_000, luck=0.003, margin=0.02, seeds=PATIENCE)
    assert seeds_may_do(same, same.against("a")["b"], 20)


def test_the_most_seeds_end_it() -> None:
    found = three([0.80, 0.795, 0.5])
    step = next_step(found, THREE, max_seeds=3)
    assert (step.ended, step.stopped) == ("seeds", {"b": "seeds", "c": "worse"})
    assert "with 3 seeds, the most that --max-seeds allows: " in end_text(found, step, (9, 9, 3))


@pytest.mark.parametrize("selected", ["a", "b", ""])
def test_what_only_leaves_out_is_not_trained(selected: str) -> None:
    found = three([0.80, 0.795, 0.5])
    step = next_step(found, THREE, selected=list(selected))
    assert (step.ended, step.stopped["b"]) == ("left out", "left out")
    assert next_step(found, THREE, selected=["a", "b"]).racing == ("a", "b")


def test_without_one_that_could_be_recommended_it_ends() -> None:
    found = replace(three([0.80, 0.795, 0.5]), recommended=None)
    step = next_step(found, THREE)
    assert step == Step(ended="none")
    assert "not decided: none can be recommended" in end_text(found, step, (0, 0, 0))


def test_with_too_few_common_seeds_it_goes_on() -> None:
    """One of the three trainings of `b` failed: claims need a third common seed."""
    named = {"a": 0.8, "b": 0.795, "c": 0.5}
    found = verdict(named, {"a": 3, "b": 2, "c": 3})
    assert next_step(found, THREE).racing == ("a", "b")
    # It was tried with all the seeds that it may have: that is the end.
    step = next_step(found, dict.fromkeys("abc", 20))
    assert (step.ended, step.stopped["b"]) == ("seeds", "seeds")


def test_a_line_for_each_look() -> None:
    found = three([0.80, 0.795, 0.50])
    text = round_text(found, next_step(found, THREE), 6, 240.0)
    assert text == (
        "look 1: a and b go on to 6 seeds (6 trainings, about 4 min); stopped: c (shown to be "
        "worse)"
    )
    other = replace(found, axis="lr")
    assert round_text(other, next_step(other, THREE), 1, None).startswith(
        "look 1 of lr: a and b go on to 6 seeds (1 training);"
    )
    assert [rounded_up(number) for number in (7, 99, 101, 5432)] == [7, 99, 110, 5500]
