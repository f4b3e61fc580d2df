"""A camera at 30 fps beside nothing else: python -m tests.benchmarks live [--json FILE]

Needs ../shared/data/posetrack: four people at 960x540, played forwards and backwards as one endless stream to a server
process. `age` is the time from a frame's arrival at the server to its result. The models are the best default on this
machine, and RTMDet-nano 640 + TinyPose. The client takes a little of the processor time, too.
"""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from tests.benchmarks.report import Row, main
from tests.servers import ServerProcess
from tests.shared import SHARED, weights_catalogue
from tests.streaming import Message, Stream, stream

_FPS = 30.0
_WARM_S, _SECONDS = 4.0, 15.0
_MODELS = ("auto", "tinypose")
_EVERY: tuple[int | str, ...] = (0, 200, "auto")


async def film(port: int, pictures: Sequence[bytes], every: int | str) -> Row:
    """The results of one stream."""
    loop, results = asyncio.get_running_loop(), list[tuple[float, Message]]()

    async def listen(opened: Stream) -> None:
        while True:
            results.append((loop.time(), await opened.receive()))

    async with stream(port, detect_every=every, window=0) as opened:
        listening = asyncio.create_task(listen(opened))
        began = loop.time()
        for number, picture in enumerate(_there_and_back(pictures)):
            due = began + number / _FPS
            if due > began + _WARM_S + _SECONDS:
                break
            await asyncio.sleep(max(0.0, due - loop.time()))
            await opened.send(picture)
        listening.cancel()
        with suppress(asyncio.CancelledError):
            await listening
    counted = [message for at, message in results if at > began + _WARM_S]
    ages = [message["age_ms"] for message in counted]
    return {
        "model": opened.welcome["model"],
        "detect_every": every,
        "results/s": round(len(counted) / _SECONDS, 1),
        "age ms": round(float(np.median(ages)), 1),
        "p99": round(float(np.percentile(ages, 99)), 1),
        "dropped": sum(message["dropped"] for message in counted),
        "people": round(float(np.mean([len(message["people"]) for message in counted])), 2),
        "ids": len({person["id"] for message in counted for person in message["people"]}),
    }


def _there_and_back(pictures: Sequence[bytes]) -> Iterator[bytes]:
    return itertools.cycle([*pictures, *pictures[-2:0:-1]])


def run() -> list[Row]:
    """A row for each model and setting."""
    pictures = [file.read_bytes() for file in sorted((SHARED / "data/posetrack").glob("*.jpg"))]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for model in _MODELS:
            with ServerProcess("--model", model, catalogue=weights_catalogue(Path(folder))) as server:
                rows += [asyncio.run(film(server.port, pictures, every)) for every in _EVERY]
    return rows


if __name__ == "__main__":
    main(run)
