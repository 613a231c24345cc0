"""Heads that start from texts: what they are at first, what trains, what stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bench.errors import BenchError
from bench.models.fitted_head import FittedHead
from bench.models.image_text.towers import read_text_tower
from bench.training.fits import FITS, Candidate
from bench.training.fits.base import Samples
from bench.training.fits.texts import ALPHAS, BETAS, Prompted
from tests.tiny_clip import CONTEXT, FEATURES, WIDTH, clip_backbone
from tests.training.fits.test_fits import drawn

pytest.importorskip("open_clip")

NAMES = ("ant", "bee", "wasp")
WORDING: dict[str, Any] = {"templates": ["a {}."], "names": {}, "prompts": {}}
TIP: dict[str, Any] = {"alpha": None, "beta": None, "train": 0, "rate": 1e-3, **WORDING}
COOP: dict[str, Any] = {"context": 16, "train": 2, "batch": 32, "rate": 2e-3, "names": {}}


def text_tower() -> Any:
    from bench.models import obtain_weights
    from bench.suite import Entry

    weights = obtain_weights(clip_backbone(), Entry(name="pretrained"))
    assert weights.described is not None
    assert weights.path is not None
    return read_text_tower(weights.described, weights.path)


class Texts:
    """As a training has them, without the cache."""

    classes = NAMES

    def __init__(self) -> None:
        self._tower = text_tower()

    def directions(self, texts: Any) -> torch.Tensor:
        found: torch.Tensor = self._tower.scale * self._tower.directions(texts)
        return found

    def tower(self) -> Any:
        return self._tower


def samples(count: int = 30) -> Samples:
    found = drawn(count=count, width=FEATURES, apart=2.0)
    return Samples(
        features=found.features,
        targets=found.targets,
        outputs=3,
        task=found.task,
        texts=Texts(),
    )


def scores(candidate: Candidate, features: torch.Tensor) -> torch.Tensor:
    head = FittedHead(FEATURES, 3)
    head.hold(candidate.tensors)
    found: torch.Tensor = head(features)
    return found


def test_tip_adapter_without_a_cache_is_zero_shot_and_else_its_formula() -> None:
    own = samples()
    (plain,) = FITS["zero_shot"](own, **WORDING)
    found = list(FITS["tip_adapter"](own, **TIP))
    assert len(found) == 1 + (len(ALPHAS) - 1) * len(BETAS)
    assert torch.equal(scores(found[0], own.features), scores(plain, own.features))
    (given,) = FITS["tip_adapter"](own, **{**TIP, "alpha": 2.0, "beta": 5.5})
    keys = F.normalize(own.features, dim=1)
    assert torch.equal(given.tensors["keys"], keys)
    near = np.exp(-5.5 * (1 - (keys @ keys.T).double().numpy()))
    expected = scores(plain, own.features).double().numpy() + 2.0 * near @ own.answers
    assert scores(given, own.features).numpy() == pytest.approx(expected, abs=1e-4)


def test_keys_of_tip_adapter_train_and_nothing_else() -> None:
    own = samples()
    still, trained = (
        next(FITS["tip_adapter"](own, **{**TIP, "alpha": 2.0, "beta": 1.0, "train": epochs}))
        for epochs in (0, 30)
    )
    assert not torch.equal(still.tensors["keys"], trained.tensors["keys"])
    for name in ("directions", "values", "alpha", "beta"):
        assert torch.equal(still.tensors[name], trained.tensors[name])
    targets = torch.from_numpy(own.targets)
    first, last = (F.cross_entropy(scores(c, own.features), targets) for c in (still, trained))
    assert last < first


def test_coop_learns_its_vectors_and_nothing_else() -> None:
    tower = text_tower()
    before = {name: tensor.clone() for name, tensor in tower.text.state_dict().items()}
    prompts = Prompted(tower, NAMES, 16, seed=0)
    assert prompts.context.numel() == 16 * WIDTH
    prompts.directions().sum().backward()
    assert prompts.context.grad is not None
    assert bool((prompts.context.grad != 0).any(dim=1).all())
    assert all(parameter.grad is None for parameter in tower.text.parameters())
    own = samples()
    first, again = (next(FITS["coop"](own, **COOP)).tensors["directions"] for _ in range(2))
    assert torch.equal(first, again)
    after = own.texts.tower().text.state_dict()  # type: ignore[union-attr]
    assert all(torch.equal(before[name], after[name]) for name in before)
    (longer,) = FITS["coop"](own, **{**COOP, "train": 20, "rate": 0.1})
    targets = torch.from_numpy(own.targets)
    losses = [
        F.cross_entropy(
            scores(Candidate(chosen={}, tensors={"directions": each}), own.features), targets
        )
        for each in (first, longer.tensors["directions"])
    ]
    assert losses[1] < losses[0]


def test_vectors_equal_to_words_are_these_words() -> None:
    tower = text_tower()
    prompts = Prompted(tower, NAMES, 2, seed=0)
    ids = tower.tokens([f"X X {name}." for name in NAMES])
    words = tower.text.token_embedding(ids)[0, 1:3]
    prompts.context = words.detach()
    assert torch.equal(prompts.directions(), tower.scale * tower.embeddings(ids))


def test_vectors_that_leave_no_room_are_refused() -> None:
    with pytest.raises(BenchError, match="do not fit into the 32 tokens"):
        Prompted(text_tower(), NAMES, CONTEXT - 2, seed=0)
