"""A service of texts: what it answers, and what it refuses."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

import bench
from bench.prediction.model import TrainedModel
from tests.hostile import mutated_text
from tests.prediction.texts import LENGTH

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from bench.prediction.serve import Limits
from bench.prediction.serve.app import make_app

pytestmark = pytest.mark.xdist_group("texts")

LIMITS = Limits(request_bytes=20_000, texts=3, characters=2_000)
PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


@pytest.fixture(scope="module")
def model(text_run: bench.Run) -> TrainedModel:
    return bench.load(text_run.folder, device="cpu")


@pytest.fixture(scope="module")
def client(model: TrainedModel) -> Iterator[TestClient]:
    with TestClient(make_app(model, limits=LIMITS)) as client:
        yield client


def test_every_kind_of_body_gives_the_models_probabilities(
    client: TestClient, model: TrainedModel
) -> None:
    texts = ["a good film", "bad <b>plot</b> 😀 فيلم", "the end " * LENGTH]
    rows = client.post("/predict", json={"texts": texts}).json()["predictions"]
    for row, text, wanted in zip(rows, texts, model.probabilities(texts), strict=True):
        found = [row["probabilities"][name] for name in model.classes]
        assert found == pytest.approx(wanted, abs=1e-6)
        assert row["predicted"] == model.classes[int(wanted.argmax())]
        assert row["truncated"] == (text == texts[2])
    one = client.post("/predict", json={"text": texts[0]}).json()["predictions"]
    raw = client.post("/predict", content=texts[0].encode(), headers=PLAIN).json()["predictions"]
    assert one == raw
    assert one[0]["probabilities"] == pytest.approx(rows[0]["probabilities"], abs=1e-6)
    several = client.post("/predict", json=["good", " \x00 "]).json()["predictions"]
    assert several[0]["predicted"] == "good"
    assert several[1]["error"].startswith("it says nothing")


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"json": {"images": ["x"]}}, 422, 'JSON must be {"texts": ["TEXT", …]}'),
        ({"json": {"texts": []}}, 422, "contains no text"),
        ({"json": {"texts": ["a", 3]}}, 422, "JSON must be"),
        ({"json": {"text": ""}}, 422, "it says nothing"),
        ({"json": {"texts": ["", "\u200b"]}}, 422, "none of the texts can be read"),
        ({"json": {"texts": ["a"] * 4}}, 413, "at most 3 texts, got 4"),
        ({"json": {"text": "a" * 2_001}}, 413, "at most 2,000 characters, got 2,001"),
        ({"content": b"a" * 30_000, "headers": PLAIN}, 413, "may have at most"),
        ({"files": [("file", ("a.txt", b"good"))]}, 415, "send JSON"),
        ({"content": b"x"}, 415, "got no type"),
    ],
)
def test_what_is_refused(
    client: TestClient, body: dict[str, Any], status: int, message: str
) -> None:
    answer = client.post("/predict", **body)
    assert answer.status_code == status, answer.text
    assert message in answer.json()["error"]


def test_bodies_that_were_changed_at_random_are_answered_or_refused(client: TestClient) -> None:
    draw = random.Random(5)
    body = json.dumps({"texts": ["a good film", "\ud800", "é"]})
    for _ in range(30):
        content = mutated_text(body, draw).encode("utf-8", "surrogatepass")
        headers = draw.choice([PLAIN, {"Content-Type": "application/json"}])
        answer = client.post("/predict", content=content, headers=headers)
        assert answer.status_code in (200, 413, 422), content


def test_the_page_and_what_it_is_told_speak_of_texts(client: TestClient) -> None:
    assert client.get("/model").json()["takes"] == "text"
    assert '<textarea id="text"' in client.get("/").text
    docs = client.get("/docs").text
    assert "Classify texts" in docs
    assert "image" not in docs
    assert "bench_texts_total" in client.get("/metrics").text
