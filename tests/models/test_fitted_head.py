"""Heads that are fitted: what they may hold, and that they start empty."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bench.errors import PlanError
from bench.models import build_network, describe_weights, outline
from bench.models.fitted_head import FittedHead, ngram_tensors
from bench.models.text.ngrams import Vocabulary, parse_name
from bench.suite import Entry

FITTED = Entry(name="fitted")
LINEAR = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
NEIGHBOURS = {
    "bank": torch.eye(3),
    "answers": torch.tensor([[1.0, 0], [0, 1], [0, 1]]),
    "log_weights": torch.zeros(3),
    "k": torch.tensor(2),
    "temperature": torch.tensor(0.1),
    "link": torch.tensor(1),
}
TREES = {
    "feature": torch.tensor([1, 0, 0]),
    "threshold": torch.tensor([0.5, 0, 0]),
    "left": torch.tensor([1, 1, 2]),
    "right": torch.tensor([2, 1, 2]),
    "roots": torch.tensor([0]),
    "values": torch.tensor([[0.5, 0.5], [1, 0], [0, 1]]),
    "depth": torch.tensor(1),
    "link": torch.tensor(0),
}

NGRAMS = {
    **ngram_tensors(Vocabulary.of(parse_name("tfidf/words-1-1"), ["good film", "bad film"])),
    "weight": torch.tensor([[1.0, 0, -1], [-1, 0, 1]]),
    "bias": torch.tensor([0.5, 0]),
}


def test_it_gives_features_until_it_holds_something() -> None:
    head, features = FittedHead(3, 2), torch.tensor([[0.0, 1, 2], [1, 0, 0]])
    assert head(features) is features
    head.hold(TREES)
    assert head(features).tolist() == [[0, 1], [1, 0]]
    head.hold(LINEAR)
    assert head(features).tolist() == [[3, 3], [1, 1]]
    assert head.state_dict().keys() == LINEAR.keys()
    head.hold({})
    assert head(features) is features
    assert not head.state_dict()


def test_ngrams_of_bytes_are_weighted() -> None:
    head = FittedHead(12, 2)
    head.hold(NGRAMS)
    texts = [text.encode() for text in ("Good, good!", "unheard of", "")]
    rows = torch.tensor([[*text, *[-1] * (12 - len(text))] for text in texts]).float()
    assert head(rows).tolist() == [[-0.5, 1], [0.5, 0], [0.5, 0]]


@pytest.mark.parametrize(
    ("tensors", "changes", "message"),
    [
        (LINEAR, {"other": torch.zeros(2)}, "no fitted head holds bias, other, weight"),
        (LINEAR, {"weight": torch.ones(2, 4)}, "weight of a fitted head has the wrong shape"),
        (LINEAR, {"bias": torch.zeros(2, dtype=torch.int64)}, "bias of a fitted head"),
        (NEIGHBOURS, {"k": torch.tensor(4)}, r"k of a fitted head must lie in \[1, 3\]"),
        (NEIGHBOURS, {"temperature": torch.tensor(0.0)}, "temperature of .* must be above 0"),
        (NEIGHBOURS, {"link": torch.tensor(3)}, r"link .* must lie in \[0, 2\]"),
        (TREES, {"left": torch.tensor([1, 1, 3])}, r"left .* must lie in \[0, 2\]"),
        (TREES, {"feature": torch.tensor([3, 0, 0])}, r"feature .* must lie in \[0, 2\]"),
        (NGRAMS, {"terms": NGRAMS["terms"][:4]}, "2 n-grams with 3 weights"),
        (NGRAMS, {"terms": NGRAMS["terms"].float()}, "terms of a fitted head has the wrong"),
        (NGRAMS, {"unit": torch.tensor(3)}, r"unit .* must lie in \[0, 2\]"),
        (NGRAMS, {"longest": torch.tensor(11)}, r"longest .* must lie in \[1, 10\]"),
        (TREES, {"roots": torch.zeros(0, dtype=torch.int64)}, "roots of a fitted head"),
    ],
)
def test_what_makes_no_head_is_refused(
    tensors: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        FittedHead(3, 2).hold({**tensors, **changes})


def test_a_network_holds_and_lets_go() -> None:
    weights = describe_weights("shufflenet_v2_x0_5", Entry(name="none"))
    network = build_network(
        "shufflenet_v2_x0_5", weights=weights, head=FITTED, num_classes=2, seed=0, image_size=32
    ).eval()
    images, width = torch.zeros(2, 3, 32, 32), 1024
    assert network(images).shape == (2, width)
    network.load({"fc.weight": torch.zeros(2, width), "fc.bias": torch.ones(2)})
    assert network(images).tolist() == [[1, 1], [1, 1]]
    network.load({})
    assert network(images).shape == (2, width)
    assert not network.outline.plain_head


def test_maps_of_features_are_refused() -> None:
    with pytest.raises(PlanError, match="squeezenet1_1 classifies maps of them by a convolution"):
        outline("squeezenet1_1", FITTED)
