"""The service as a process of its own: under load, in a browser, and when it is ended."""

from __future__ import annotations

import asyncio
import io
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import bench
from tests.results.report.test_html import CHROMIUM, FLAGS

pytest.importorskip("fastapi")
httpx = pytest.importorskip("httpx")

pytestmark = [pytest.mark.campaign, pytest.mark.xdist_group("opened")]

COMMAND = [sys.executable, "-c", "from bench.cli.main import main; main()"]
CLIENTS = 200


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])


@contextmanager
def serving(run: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The service once it answers; killed in the end if it is still there."""
    process = subprocess.Popen(
        [*COMMAND, "serve", str(run), "--port", str(port), "--device", "cpu", *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(600):
            try:
                httpx.get(f"http://127.0.0.1:{port}/healthz").raise_for_status()
                break
            except httpx.HTTPError:
                assert process.poll() is None, process.communicate()
                time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.communicate()


def png(seed: int) -> bytes:
    content = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
    Image.fromarray(pixels).save(content, "png")
    return content.getvalue()


GOOD = [png(seed) for seed in range(8)]
BAD: list[tuple[bytes, str, set[int]]] = [
    (b"no image", "image/png", {422}),
    (b"", "image/jpeg", {422}),
    (GOOD[0][:200], "image/png", {422}),
    (b"{" * 5000, "application/json", {422}),
    (b"x", "text/html", {415}),
    (b"x" * 1_100_000, "image/png", {413}),
]


def test_many_clients_at_once_get_their_own_answers(opened_run: bench.Run) -> None:
    port = free_port()
    model = bench.load(opened_run.folder, device="cpu")
    wanted = model.probabilities([np.asarray(Image.open(io.BytesIO(each))) for each in GOOD])
    statuses: Counter[int] = Counter()

    async def client(session: Any, number: int) -> None:
        rng = random.Random(number)
        for _ in range(10):
            if rng.random() < 0.3:
                body, kind, allowed = rng.choice(BAD)
                answer = await session.post(
                    "/predict", content=body, headers={"Content-Type": kind}
                )
                assert answer.status_code in allowed | {429}, (answer.status_code, kind)
            else:
                which = rng.randrange(len(GOOD))
                answer = await session.post(
                    "/predict", content=GOOD[which], headers={"Content-Type": "image/png"}
                )
                assert answer.status_code in {200, 429}
                if answer.status_code == 200:
                    (row,) = answer.json()["predictions"]
                    found = [row["probabilities"][name] for name in model.classes]
                    assert found == pytest.approx(wanted[which], abs=1e-6)
            statuses[answer.status_code] += 1

    async def all_clients() -> None:
        # Connections are given up before the server may close them, after five seconds.
        limits = httpx.Limits(
            max_connections=CLIENTS, max_keepalive_connections=CLIENTS, keepalive_expiry=2
        )
        address = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as session:
            await asyncio.gather(*(client(session, number) for number in range(CLIENTS)))

    with serving(opened_run.folder, port, "--max-mib", "1"):
        asyncio.run(all_clients())
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    assert statuses.total() == 10 * CLIENTS
    assert statuses[200] > 1000
    assert "bench_waiting_images 0.0" in metrics
    # Images that wait together go together.
    sums = dict(line.split() for line in metrics.splitlines() if not line.startswith("#"))
    batches = float(sums["bench_batch_images_count"])
    assert float(sums["bench_batch_images_sum"]) == statuses[200]
    assert batches < statuses[200]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_it_answer_what_it_has(opened_run: bench.Run, number: signal.Signals) -> None:
    port = free_port()

    async def asked(process: subprocess.Popen[str]) -> list[int]:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as session:
            body = {"content": GOOD[0], "headers": {"Content-Type": "image/png"}}
            await session.post("/predict", **body)
            tasks = [asyncio.create_task(session.post("/predict", **body)) for _ in range(40)]
            await asyncio.sleep(0.02)
            process.send_signal(number)
            answers = await asyncio.gather(*tasks, return_exceptions=True)
        # Who was let in has an answer; who came later was refused a connection.
        for each in answers:
            assert isinstance(each, httpx.Response | httpx.ConnectError | httpx.ReadError), each
        return [each.status_code for each in answers if isinstance(each, httpx.Response)]

    with serving(opened_run.folder, port) as process:
        assert set(asyncio.run(asked(process))) <= {200}
        _, err = process.communicate(timeout=40)
        assert process.returncode == 0
        assert "Traceback" not in err


def test_killed_in_the_middle_it_starts_again_at_the_same_port(opened_run: bench.Run) -> None:
    port = free_port()
    body = {"content": GOOD[0], "headers": {"Content-Type": "image/png"}}
    before = sorted(os.listdir(opened_run.folder / "checkpoints"))
    for _ in range(2):
        with serving(opened_run.folder, port) as process:
            assert httpx.post(f"http://127.0.0.1:{port}/predict", **body).status_code == 200
            process.kill()
            process.wait()
    assert sorted(os.listdir(opened_run.folder / "checkpoints")) == before


def test_a_port_that_is_taken_is_one_message(opened_run: bench.Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [*COMMAND, "serve", str(opened_run.folder), "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 2
    assert "cannot listen at 127.0.0.1" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif(not Path(CHROMIUM or "").exists(), reason="there is no Chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_somebody_drops_a_picture_on_the_page(
    opened_run: bench.Run, tmp_path: Path, width: int
) -> None:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    port = free_port()
    wrong: list[str] = []
    (tmp_path / "good.png").write_bytes(GOOD[0])
    (tmp_path / "bad.png").write_bytes(b"no image")
    model = bench.load(opened_run.folder, device="cpu")
    (wanted,) = model.probabilities([np.asarray(Image.open(io.BytesIO(GOOD[0])))])
    with serving(opened_run.folder, port), api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((f"http://127.0.0.1:{port}/", "blob:"))
                else wrong.append(request.url)
            ),
        )
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector("#about:not(:empty)")
        page.set_input_files("#choose", str(tmp_path / "good.png"))
        page.wait_for_selector(".card h2")
        assert page.text_content(".card h2") == model.classes[int(wanted.argmax())]
        shown = page.locator(".row .number").all_text_contents()
        assert shown == [f"{100 * p:.1f} %" for p in sorted(map(float, wanted), reverse=True)]
        assert page.locator("html").evaluate("root => root.scrollWidth") <= width
        page.set_input_files("#choose", str(tmp_path / "bad.png"))
        page.wait_for_selector(".error")
        assert page.text_content(".error") == "not an image of a known format"
        # With the keyboard alone one reaches both buttons.
        page.keyboard.press("Tab")
        page.focus("#choose")
        page.keyboard.press("Tab")
        assert page.locator("#photo").evaluate("input => input === document.activeElement")
        browser.close()
    assert not wrong
