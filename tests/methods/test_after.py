"""What an entry of the section `after` says, as the recipe that is followed."""

from __future__ import annotations

from bench.methods.after import (
    AFTER,
    GRID,
    Ensemble,
    Interpolation,
    Soup,
    TargetStatistics,
    Temperature,
    Views,
    Vote,
    recipe,
)


def test_every_entry_is_a_recipe_with_its_defaults() -> None:
    found = {name: recipe(name, AFTER.get(name).options().model_dump()) for name in AFTER}
    assert found == {
        "ensemble": Ensemble(greedy=False),
        "vote": Vote(majority=True),
        "temperature": Temperature(),
        "soup": Soup(greedy=False),
        "wise_ft": Interpolation(alphas=GRID),
        "tta": Views(kind="flip", count=2),
        "adabn": TargetStatistics(),
    }


def test_options_reach_the_recipe() -> None:
    assert recipe("ensemble", {"members": "greedy"}) == Ensemble(greedy=True)
    assert recipe("vote", {"by": "mean"}) == Vote(majority=False)
    assert recipe("soup", {"members": "greedy"}) == Soup(greedy=True)
    assert recipe("wise_ft", {"alphas": (0.5,)}) == Interpolation(alphas=(0.5,))
    assert recipe("tta", {"views": "random", "count": 8}) == Views(kind="random", count=8)
    assert recipe("tta", {"views": "five_crops", "count": 8}) == Views(kind="five_crops", count=5)
