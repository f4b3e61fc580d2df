"""Watchers of one camera: python -m tests.benchmarks watchers [--json FILE]

What watchers cost a server: its processor time a second with so many watchers of the results of one camera, and of its
live pictures, beside the time that it takes with nobody watching. The camera gives 25 pictures of 640x480 a second with
two people, and the network takes no time. The watchers run in another process.

Seconds of each measurement: POSEWIRE_BENCH_SECONDS, 10 by default.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.benchmarks.report import Row, main
from tests.camera_servers import HttpCamera, camera_file
from tests.graphs import tiny_catalogue
from tests.servers import ServerProcess
from tests.streaming import watch
from tests.waiting import wait_for

_RESULTS, _PICTURES = (1, 10, 100), (1, 10)
_WARM_S = 3.0


async def _watch_results(port: int) -> None:
    async with watch(port, "door") as opened:
        print(".", flush=True)
        while True:
            await opened.receive()


async def _watch_pictures(port: int) -> None:
    async with (
        httpx.AsyncClient(timeout=None) as client,  # noqa: S113 - until it is killed
        client.stream("GET", f"http://127.0.0.1:{port}/cameras/door/live.mjpg?fps=25") as response,
    ):
        print(".", flush=True)
        async for _ in response.aiter_raw():
            pass


async def _crowd(kind: str, port: int, number: int) -> None:
    """Watch until this process is killed. Prints a line for each watcher that has begun."""
    one = _watch_results if kind == "results" else _watch_pictures
    await asyncio.gather(*(one(port) for _ in range(number)))


def _measure(server: ServerProcess, kind: str, number: int, seconds: float) -> Row:
    crowd = None
    if number:
        command = [sys.executable, "-m", "tests.benchmarks.watchers", kind, str(server.port), str(number)]
        crowd = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8")
        assert crowd.stdout is not None
        for _ in range(number):
            crowd.stdout.readline()
    try:
        time.sleep(_WARM_S)
        began, cpu = time.monotonic(), server.cpu_seconds()
        time.sleep(seconds)
        used = (server.cpu_seconds() - cpu) / (time.monotonic() - began)
        rate = httpx.get(f"{server.url}/cameras/door").json()["fps_done"]
    finally:
        if crowd is not None:
            crowd.kill()
            crowd.wait()
    return {"watchers": number, "of": kind, "CPU, ms a second": round(1e3 * used), "results/s": rate}


def run() -> list[Row]:
    """Measure nobody first, then more and more."""
    seconds = float(os.environ.get("POSEWIRE_BENCH_SECONDS", "10"))
    with tempfile.TemporaryDirectory() as name, HttpCamera(fps=25) as camera:
        camera.size = (640, 480)
        folder = Path(name)
        environment = {"cameras": camera_file(folder, camera.url, "door"), "log_level": "warning"}
        catalogue = tiny_catalogue(folder)
        with ServerProcess("--model", "pair", catalogue=catalogue, environment=environment) as server:
            wait_for(lambda: httpx.get(f"{server.url}/cameras/door/picture.jpg").is_success)
            rows = [_measure(server, "nothing", 0, seconds)]
            rows += [_measure(server, "results", number, seconds) for number in _RESULTS]
            rows += [_measure(server, "pictures", number, seconds) for number in _PICTURES]
    return rows


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] in ("results", "pictures"):
        asyncio.run(_crowd(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
    else:
        main(run)
