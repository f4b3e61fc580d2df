"""Streams beside a video job: python -m tests.benchmarks jobs [--json FILE]

Two streams of 5 fps each go to a server process, in rounds with and without a video job beside them, in turn. `age` is
the time from a frame's arrival at the server to its result. Streams should not feel jobs: the 99th percentile of the
age is to stay within 1.2 times that without a job. The networks take 30 ms a batch and no processor time (`fixed`), or
are those of the best default model; that needs ../shared/data/posetrack, pictures of four people at 960x540.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from contextlib import suppress
from pathlib import Path

import httpx
import numpy as np

from engines.poses import Frame
from service.media.decode import ImageLimits, decode
from tests.benchmarks.report import Row, main
from tests.graphs import tiny_catalogue
from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.service.media.videos import make_video
from tests.shared import SHARED, weights_catalogue
from tests.streaming import Stream, stream
from tests.waiting import wait_for

_STREAMS, _FPS = 2, 5.0
_WARM_S, _SECONDS, _ROUNDS = 2.0, 15.0, 6
_VIDEO_FRAMES = 400


async def film(port: int, pictures: list[bytes]) -> list[float]:
    """The ages of one stream's results in milliseconds."""
    loop, ages = asyncio.get_running_loop(), list[float]()

    async def listen(opened: Stream, begin: float) -> None:
        while True:
            result = await opened.receive()
            if loop.time() > begin + _WARM_S:
                ages.append(result["age_ms"])

    async with stream(port, detect_every=0, window=0) as opened:
        begin = loop.time()
        listening = asyncio.create_task(listen(opened, begin))
        for number, picture in enumerate(itertools.cycle(pictures)):
            due = begin + number / _FPS
            if due > begin + _WARM_S + _SECONDS:
                break
            await asyncio.sleep(max(0.0, due - loop.time()))
            await opened.send(picture)
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
    return ages


async def film_all(port: int, pictures: list[bytes]) -> list[float]:
    """The ages of all streams' results."""
    return list(itertools.chain(*await asyncio.gather(*(film(port, pictures) for _ in range(_STREAMS)))))


def measure(folder: Path, server: ServerProcess, pictures: list[bytes]) -> list[Row]:
    """A row without a job, and one with a job."""
    frames = [decode(picture, ImageLimits()).pixels for picture in pictures]
    height, width = (size - size % 2 for size in frames[0].shape[:2])

    def draw(number: int, *_: int) -> Frame:
        return frames[number % len(frames)][:height, :width]

    video = make_video(folder / "a.mp4", _VIDEO_FRAMES, size=(width, height), draw=draw).read_bytes()
    ages: dict[bool, list[float]] = {False: [], True: []}
    paces = []
    with server, httpx.Client(base_url=server.url, timeout=60) as client:
        for _ in range(_ROUNDS):
            ages[False] += asyncio.run(film_all(server.port, pictures))
            here = client.post("/videos", content=video).headers["location"]
            wait_for(lambda: client.get(here).json()["frames_done"] > 0)  # noqa: B023 - it is called at once
            ages[True] += asyncio.run(film_all(server.port, pictures))
            job = client.get(here).json()
            assert job["state"] == "running", job
            paces.append(job["fps"] or 0.0)
            client.delete(here)
    p99 = {jobs: float(np.percentile(found, 99)) for jobs, found in ages.items()}
    return [
        {
            "job": "yes" if jobs else "no",
            "results": len(found),
            "age ms": round(float(np.median(found)), 1),
            "p99": round(p99[jobs], 1),
            "times": round(p99[jobs] / p99[False], 2),
            "job fps": round(float(np.median(paces)), 1) if jobs else "",
        }
        for jobs, found in ages.items()
    ]


def run() -> list[Row]:
    """The rows of both kinds of networks."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {"data": folder / "data", "service_ms": 30}
        catalogue, module = tiny_catalogue(folder), "tests.slow_server"
        server = ServerProcess("--model", "pair", catalogue=catalogue, environment=environment, module=module)
        pictures = [encoded(photo(640, 480, seed)) for seed in range(4)]
        rows += [{"networks": "fixed", **row} for row in measure(folder, server, pictures)]
        if SHARED.exists():
            del environment["service_ms"]
            server = ServerProcess("--model", "auto", catalogue=weights_catalogue(folder), environment=environment)
            pictures = [file.read_bytes() for file in sorted((SHARED / "data/posetrack").glob("*.jpg"))]
            rows += [{"networks": "auto", **row} for row in measure(folder, server, pictures)]
    return rows


if __name__ == "__main__":
    main(run)
