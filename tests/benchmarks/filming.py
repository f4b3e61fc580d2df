"""Cameras: clients of streams that send frames at a steady rate and record the results.

python -m tests.benchmarks.filming PORT FPS prints a line of JSON for every result until it is killed. It is a process
of its own so that it can be stopped.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from websockets.exceptions import ConnectionClosed

from tests.pictures import encoded, photo
from tests.streaming import Stream, stream


@dataclass(frozen=True, slots=True)
class Heard:
    """A result. at: time of its arrival in seconds of this process. latency: seconds since its frame was sent."""

    at: float
    frame: int
    age: float
    latency: float
    dropped: int


@dataclass(slots=True)
class Camera:
    """One stream. sent: number of frames. heard: results, in order. wrong: messages that are not results."""

    sent: int = 0
    heard: list[Heard] = field(default_factory=list)
    wrong: list[dict[str, Any]] = field(default_factory=list)


def film(frames: int = 16, width: int = 320, height: int = 240) -> list[bytes]:
    """A picture that moves back and forth by some pixels per frame."""
    scene = np.asarray(photo(2 * width, height))
    offsets = [3 * abs(n - frames // 2) for n in range(frames)]
    return [encoded(Image.fromarray(scene[:, x : x + width]), quality=85) for x in offsets]


async def shoot(port: int, pictures: Sequence[bytes], fps: float, until: float, phase: float = 0.0) -> Camera:
    """Stream until the monotonic time `until`. phase: delay of the first frame, as a share 0..1 of a frame's time."""
    camera = Camera()
    async with stream(port, timestamps=True, acknowledge=True) as opened:
        listening = asyncio.create_task(_listen(opened, camera))
        due = time.monotonic() + phase / fps
        with suppress(ConnectionClosed):
            while due < until:
                await asyncio.sleep(due - time.monotonic())
                await opened.send(pictures[camera.sent % len(pictures)], 1e3 * time.monotonic())
                camera.sent += 1
                due = max(due + 1 / fps, time.monotonic() - 1)  # a camera that was stopped does not catch up
        await asyncio.sleep(0.5)
        listening.cancel()
    return camera


async def shoot_all(port: int, pictures: Sequence[bytes], rates: Sequence[float], seconds: float) -> list[Camera]:
    """Run cameras with these rates at once, out of phase."""
    until = time.monotonic() + seconds
    phases = np.random.default_rng(3).uniform(size=len(rates))
    shots = (shoot(port, pictures, fps, until, phase) for fps, phase in zip(rates, phases, strict=True))
    return await asyncio.gather(*shots)


async def _listen(opened: Stream, camera: Camera, *, aloud: bool = False) -> None:
    with suppress(ConnectionClosed):
        while True:
            message = await opened.receive()
            now = time.monotonic()
            if message["type"] != "result":
                camera.wrong.append(message)
                continue
            latency = now - message["timestamp"] / 1e3
            heard = Heard(now, message["frame"], message["age_ms"] / 1e3, latency, message["dropped"])
            camera.heard.append(heard)
            if aloud:
                print(json.dumps(asdict(heard)), flush=True)


async def _aloud(port: int, fps: float) -> None:
    pictures = film()
    async with stream(port, timestamps=True) as opened:
        listening = asyncio.create_task(_listen(opened, Camera(), aloud=True))
        sent = 0
        while not listening.done():
            await opened.send(pictures[sent % len(pictures)], 1e3 * time.monotonic())
            sent += 1
            await asyncio.sleep(1 / fps)


if __name__ == "__main__":
    asyncio.run(_aloud(int(sys.argv[1]), float(sys.argv[2])))
