"""What the service answers, and what it refuses."""

from __future__ import annotations

import base64
import io
import json
import random
import re
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import bench
from bench.prediction.model import TrainedModel
from tests.hostile import mutated_bytes, mutated_text

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from bench.prediction.serve import Limits
from bench.prediction.serve.app import make_app

pytestmark = pytest.mark.xdist_group("opened")

LIMITS = Limits(request_bytes=200_000, images=4, pixels=10_000, requests=8)


@pytest.fixture(scope="module")
def model(opened_run: bench.Run) -> TrainedModel:
    return bench.load(opened_run.folder, device="cpu")


@pytest.fixture(scope="module")
def client(model: TrainedModel) -> Iterator[TestClient]:
    with TestClient(make_app(model, limits=LIMITS)) as client:
        yield client


def pixels(seed: int, side: int = 40) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (side, side + seed, 3), np.uint8)


def png(image: npt.NDArray[np.uint8]) -> bytes:
    content = io.BytesIO()
    Image.fromarray(image).save(content, "png")
    return content.getvalue()


def assert_is_of(row: dict[str, Any], model: TrainedModel, image: npt.NDArray[np.uint8]) -> None:
    (wanted,) = model.probabilities([image])
    found = [row["probabilities"][name] for name in model.classes]
    assert found == pytest.approx(wanted, abs=1e-6)
    assert row["predicted"] == model.classes[int(wanted.argmax())]
    assert row["confidence"] == pytest.approx(wanted.max(), abs=1e-6)


def test_every_kind_of_body_gives_the_models_probabilities(
    client: TestClient, model: TrainedModel
) -> None:
    one, other = pixels(1), pixels(2)
    form = [("file", ("../../etc/passwd", png(one))), ("anything", ("b.png", png(other)))]
    answer = client.post("/predict", files=form).json()
    assert answer["trial"] == model.chosen.id
    first, second = answer["predictions"]
    assert_is_of(first, model, one)
    assert_is_of(second, model, other)
    assert first["name"] == "../../etc/passwd"  # it is only given back
    raw = client.post("/predict", content=png(one), headers={"Content-Type": "image/png"})
    assert_is_of(raw.json()["predictions"][0], model, one)
    text = base64.b64encode(png(other)).decode()
    for body in ({"image": text}, {"images": [f"data:image/png;base64,{text}"]}, [text]):
        found = client.post("/predict", json=body).json()["predictions"]
        assert_is_of(found[0], model, other)


def test_only_so_many_classes_and_unsure(client: TestClient, model: TrainedModel) -> None:
    body = {"content": png(pixels(3)), "headers": {"Content-Type": "image/png"}}
    row = client.post("/predict?top=2", **body).json()["predictions"][0]
    shown = list(row["probabilities"].values())
    assert len(shown) == 2
    assert shown == sorted(shown, reverse=True)
    row = client.post("/predict?min_confidence=1", **body).json()["predictions"][0]
    assert row["predicted"] == "unsure"


def test_one_bad_image_among_good_ones_has_its_own_error(
    client: TestClient, model: TrainedModel
) -> None:
    form = [("f", ("a.png", png(pixels(1)))), ("f", ("b.png", b"no")), ("f", ("c.png", b""))]
    answer = client.post("/predict", files=form)
    assert answer.status_code == 200
    good, bad, empty = answer.json()["predictions"]
    assert_is_of(good, model, pixels(1))
    assert bad == {"name": "b.png", "error": "not an image of a known format"}
    assert empty["error"] == "empty file"


def bomb(side: int) -> bytes:
    """A PNG of a few bytes that says that it has side × side pixels."""
    content = bytearray(png(np.zeros((1, 1, 3), np.uint8)))
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"data": {"x": "1"}}, 415, "send files as multipart/form-data"),
        ({"content": b"x"}, 415, "got no type"),
        ({"json": {"pictures": []}}, 422, "JSON must be"),
        ({"json": {"images": []}}, 422, "contains no image"),
        ({"json": {"image": "!"}}, 422, "not valid base64"),
        (
            {"content": b"{", "headers": {"Content-Type": "application/json"}},
            422,
            "the body is not valid JSON",
        ),
        (
            {"content": b"[" * 100_000, "headers": {"Content-Type": "application/json"}},
            422,
            "the body is not valid JSON",
        ),
        ({"files": [("f", ("a", b"x"))]}, 422, "not an image"),
        ({"files": [("f", ("a", b"x")), ("f", ("b", b"y"))]}, 422, "none of the images"),
        (
            {"content": b"--x", "headers": {"Content-Type": "multipart/form-data; boundary=y"}},
            422,
            "the form cannot be read|contains no image",
        ),
        ({"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, 422, "form"),
        (
            {"files": [("f", (str(n), b"x")) for n in range(9)]},
            413,
            "may have at most 4 images|form",
        ),
        ({"content": b"x" * 200_001, "headers": {"Content-Type": "image/png"}}, 413, "MiB"),
        ({"content": png(pixels(0, 101)), "headers": {"Content-Type": "image/png"}}, 413, "pixels"),
        ({"content": bomb(50_000), "headers": {"Content-Type": "image/png"}}, 413, "pixels"),
    ],
)
def test_what_it_refuses(
    client: TestClient, body: dict[str, Any], status: int, message: str
) -> None:
    answer = client.post("/predict", **body)
    assert (answer.status_code, list(answer.json())) == (status, ["error"])

    assert re.search(message, answer.json()["error"])
    assert client.get("/healthz").text == "ok\n"


def form_of(name: bytes, content: bytes, charset: str) -> dict[str, Any]:
    """A form whose head names a character set, and whose file has a name of any bytes."""
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="' + name + b'"\r\n\r\n'
    kind = f"multipart/form-data; boundary=x; charset={charset}"
    return {"content": head + content + b"\r\n--x--\r\n", "headers": {"Content-Type": kind}}


@pytest.mark.parametrize(
    ("name", "charset"),
    [
        (b"a\\ud800.png", "unicode_escape"),
        (b"a\xff.png", "utf-7"),
        (b"xn--0.png", "idna"),
        (b"a.png", "punycode"),
        (b"\x1b[2J\xff", "utf-8"),
        (b"abc", "rot13"),
        (b"a" * 5000, "none-such"),
    ],
)
def test_a_name_of_any_bytes_in_any_character_set_is_given_back_or_refused(
    client: TestClient, name: bytes, charset: str
) -> None:
    answer = client.post("/predict", **form_of(name, png(pixels(1)), charset))
    assert answer.status_code in (200, 422)
    if answer.status_code == 200:
        assert len(answer.json()["predictions"][0]["name"]) <= 10 * 200
    else:
        assert "the form cannot be read" in answer.json()["error"]


def test_nothing_is_written_to_a_disk(model: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be full: a form of several MiB stays in memory."""
    from starlette import formparsers

    rolled = []

    class Watched(formparsers.SpooledTemporaryFile):  # type: ignore[name-defined,misc]
        def rollover(self) -> None:
            rolled.append(1)
            super().rollover()

    monkeypatch.setattr(formparsers, "SpooledTemporaryFile", Watched)
    image = np.random.default_rng(0).integers(0, 256, (1000, 1500, 3), np.uint8)
    with TestClient(make_app(model, limits=Limits())) as client:
        files = [("f", ("a.png", png(image))), ("f", ("b.png", png(pixels(1))))]
        answer = client.post("/predict", files=files)
    assert answer.status_code == 200
    assert_is_of(answer.json()["predictions"][0], model, image)
    assert rolled == []


def test_answers_that_are_no_numbers_are_refused(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(model, limits=LIMITS)
    nothing = np.full((1, len(model.classes)), np.nan, np.float32)
    monkeypatch.setattr(app.state.service.batcher, "_classify", lambda _: nothing)
    with TestClient(app) as client:
        body = {"content": png(pixels(1)), "headers": {"Content-Type": "image/png"}}
        answer = client.post("/predict", **body)
        assert (answer.status_code, list(answer.json())) == (422, ["error"])
        assert "no numbers" in answer.json()["error"]


@pytest.mark.campaign
# Parts of a form that never end are closed when they are collected.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_changed_requests_are_answered_or_refused(client: TestClient) -> None:
    """Bodies, types and query strings at random: never a 500."""
    rng, image = random.Random(0), png(pixels(1))
    text = base64.b64encode(image).decode()
    form = form_of(b"a.png", image, "utf-8")
    bodies = [
        (form["content"], form["headers"]["Content-Type"]),
        (json.dumps({"images": [text, text]}).encode(), "application/json"),
        (image, "image/png"),
    ]
    for number in range(1000):
        content, kind = rng.choice(bodies)
        content = mutated_bytes(content, rng) if rng.random() < 0.8 else content
        if rng.random() < 0.3:
            kind = mutated_text(kind, rng)
        headers = {"Content-Type": kind.encode("utf-8", "replace").translate(None, b"\r\n\0")}
        query = {
            "top": rng.choice(("1", "-1", "9" * 5000, "x", "\x00", "")),
            "min_confidence": "nan",
        }
        chosen = query if rng.random() < 0.2 else {}
        answer = client.post("/predict", content=content, headers=headers, params=chosen)
        assert answer.status_code in (200, 400, 413, 415, 422), (number, answer.text)
    assert client.get("/healthz").text == "ok\n"


def test_too_many_at_once_are_told_to_come_again(model: TrainedModel) -> None:
    app = make_app(model, limits=Limits(requests=1))
    with TestClient(app) as client:
        room = app.state.service.room
        room.requests = 1
        body = {"content": png(pixels(1)), "headers": {"Content-Type": "image/png"}}
        answer = client.post("/predict", **body)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
        room.requests = 0
        assert client.post("/predict", **body).status_code == 200
        assert (room.requests, room.bytes) == (0, 0)
    app = make_app(model, limits=Limits(bytes_at_once=100))
    with TestClient(app) as client:
        assert client.post("/predict", **body).status_code == 429
        assert app.state.service.room.bytes == 0


def test_an_answer_that_takes_too_long_is_given_up(
    model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(model, limits=Limits(answer_seconds=0.05))
    go_on = threading.Event()

    def slow(_: object) -> object:
        go_on.wait(20)
        raise RuntimeError("late")

    monkeypatch.setattr(app.state.service.batcher, "_classify", slow)
    with TestClient(app) as client:
        body = {"content": png(pixels(1)), "headers": {"Content-Type": "image/png"}}
        answer = client.post("/predict", **body)
        go_on.set()
        assert answer.status_code == 503
        assert "it took too long" in answer.json()["error"]


def test_a_token_is_asked_for(model: TrainedModel) -> None:
    with TestClient(make_app(model, limits=LIMITS, token="geheim")) as client:
        body = {"content": png(pixels(1))}
        kind = {"Content-Type": "image/png"}
        for header in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer ünder"}):
            values = {k: v.encode() for k, v in {**kind, **header}.items()}
            assert client.post("/predict", **body, headers=values).status_code == 401
        right = {**kind, "Authorization": "Bearer geheim"}
        assert client.post("/predict", **body, headers=right).status_code == 200
        assert client.get("/model").json()["needs_token"] is True


def test_pages_need_no_other_host(client: TestClient) -> None:
    for address in ("/", "/app.js", "/style.css", "/docs", "/openapi.json"):
        answer = client.get(address)
        assert answer.status_code == 200
        assert "//" not in answer.text.replace("http://HOST:PORT", "").replace("://www.w3", "")
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    schema = client.get("/openapi.json").json()
    assert set(schema["paths"]) == {"/predict", "/model", "/healthz", "/metrics"}
    assert {"413", "415", "422", "429", "503"} <= set(
        schema["paths"]["/predict"]["post"]["responses"]
    )


def test_what_is_counted(model: TrainedModel) -> None:
    with TestClient(make_app(model, limits=LIMITS)) as client:
        form = [("f", (str(n), png(pixels(n)))) for n in range(3)]
        assert client.post("/predict", files=[*form, ("f", ("x", b"x"))]).status_code == 200
        assert client.post("/predict", content=b"x").status_code == 415
        lines = client.get("/metrics").text.splitlines()
    assert 'bench_requests_total{status="200"} 1.0' in lines
    assert 'bench_requests_total{status="415"} 1.0' in lines
    assert 'bench_images_total{outcome="classified"} 3.0' in lines
    assert 'bench_images_total{outcome="refused"} 1.0' in lines
    assert "bench_request_seconds_count 2.0" in lines
    assert "bench_waiting_images 0.0" in lines
