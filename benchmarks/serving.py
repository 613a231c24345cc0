"""How fast does `bench serve` answer, and does it keep its memory?

The service runs as a process of its own. So many clients send one image after the other, each
waiting for its answer; then the same images go through the opened trial in this process, in the
batches of the service, without HTTP: the network and the decoding alone. Rounds of both are
interleaved. A last part sends many more requests, and shows the service's memory as it goes.

    python benchmarks/serving.py RUN PHOTOS --clients 16 --requests 400 --rounds 3 --endurance 10000
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

import bench
from bench.data.images.decode import decode_bytes
from bench.models.evaluation import EVALUATION_BATCH

STEPS = 5
"""How often memory is shown."""


def main() -> None:
    """Serve the run, ask, and print."""
    given = _parser().parse_args()
    photos = [path.read_bytes() for path in sorted(given.photos.rglob("*.jpg"))]
    model = bench.load(given.run, device="cpu")
    port = _free_port()
    command = "from bench.cli.main import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", command, "serve", given.run, "--port", str(port), "--device", "cpu"]
    )
    try:
        _wait(port)
        asyncio.run(_ask(port, photos, clients=given.clients, requests=given.clients))
        rates: list[tuple[float, float]] = []
        latencies: list[float] = []
        for _ in range(given.rounds):
            began = time.perf_counter()
            found = asyncio.run(_ask(port, photos, clients=given.clients, requests=given.requests))
            served = given.requests / (time.perf_counter() - began)
            latencies += found
            rates.append((served, _alone(model, photos, given.requests)))
        served, alone = (statistics.median(column) for column in zip(*rates, strict=True))
        ratios = [first / second for first, second in rates]
        cut = statistics.quantiles(latencies, n=100)
        print(f"{given.clients} clients, {len(latencies)} requests in {given.rounds} rounds")
        print(f"requests a second {served:.1f}, the module alone {alone:.1f}")
        print(f"ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        print(f"latency in ms: p50 {1000 * cut[49]:.0f}, p99 {1000 * cut[98]:.0f}")
        _endure(process.pid, port, photos, given.clients, given.endurance)
    finally:
        process.terminate()
        process.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--endurance", type=int, default=10_000)
    return parser


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as place:
        return int(place.getsockname()[1])


def _wait(port: int) -> None:
    for _ in range(600):
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz").raise_for_status()
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise SystemExit("the service does not answer")


async def _ask(port: int, photos: list[bytes], *, clients: int, requests: int) -> list[float]:
    """The seconds of every request."""
    left = iter(range(requests))
    seconds: list[float] = []

    async def client(session: httpx.AsyncClient) -> None:
        for number in left:
            began = time.perf_counter()
            answer = await session.post(
                "/predict",
                content=photos[number % len(photos)],
                headers={"Content-Type": "image/jpeg"},
            )
            answer.raise_for_status()
            seconds.append(time.perf_counter() - began)

    limits = httpx.Limits(max_connections=clients)
    address = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return seconds


def _alone(model: object, photos: list[bytes], requests: int) -> float:
    """Images a second without HTTP."""
    from concurrent.futures import ThreadPoolExecutor

    import numpy as np

    from bench.prediction.model import TrainedModel

    assert isinstance(model, TrainedModel)

    def prepared(content: bytes) -> np.ndarray:
        decoded = decode_bytes(content)
        assert isinstance(decoded, np.ndarray)
        return model.prepared(decoded)

    contents = list(itertools.islice(itertools.cycle(photos), requests))
    began = time.perf_counter()
    with ThreadPoolExecutor() as pool:
        for at in range(0, requests, EVALUATION_BATCH):
            stored = np.stack(list(pool.map(prepared, contents[at : at + EVALUATION_BATCH])))
            model.answers_of_prepared(stored)
    return requests / (time.perf_counter() - began)


def _endure(pid: int, port: int, photos: list[bytes], clients: int, requests: int) -> None:
    memory = [psutil.Process(pid).memory_info().rss / 2**20]
    for _ in range(STEPS if requests else 0):
        asyncio.run(_ask(port, photos, clients=clients, requests=requests // STEPS))
        memory.append(psutil.Process(pid).memory_info().rss / 2**20)
    shown = " ".join(f"{each:.0f}" for each in memory)
    print(f"memory of the service over {requests:,} further requests, in MiB: {shown}")


if __name__ == "__main__":
    main()
