"""Compressed video against JPEG: python -m tests.benchmarks video_in [--json FILE]

Needs ../shared/data/posetrack: four people, enlarged to 1280x720 and played forwards and backwards, one frame after
the other, to a server process with the best default model and the detector on every frame. The same frames as PNG give
the keypoints to compare with: `difference` is the median distance of keypoints that both find, in hundredths of the
longer side of the person's box. `Mbit/s` is at 30 frames a second, with the first key frame. `server ms` is the
processor time of the server and its decoder process for each frame, including that of the model. `age` is the median
time from a frame's arrival to its result.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles, Frame
from service.client.video import VideoEncoder
from service.media.decode import ImageLimits, decode
from service.media.pixels import encode
from tests.benchmarks import goals
from tests.benchmarks.report import Row, main
from tests.servers import ServerProcess
from tests.shared import SHARED
from tests.streaming import Message, stream

_FRAMES, _FPS = 36, 30
_SIZE = (1280, 720)
_CODECS = ("vp8", "vp9", "h264", "av1")
_QUALITY = 80
_SURE = 0.3


def clip() -> list[Frame]:
    """The frames, RGB."""
    paths = sorted((SHARED / "data/posetrack").glob("*.jpg"))
    order = itertools.islice(itertools.cycle([*paths, *paths[-2:0:-1]]), _FRAMES)
    pixels = [decode(path.read_bytes(), ImageLimits()).pixels for path in order]
    return [np.asarray(cv2.resize(frame, _SIZE), np.uint8) for frame in pixels]


def encoded(way: str, frames: list[Frame]) -> list[bytes]:
    """The messages of a stream."""
    if way in _CODECS:
        encoder = VideoEncoder(way)
        return [encoder.encode(frame) for frame in frames]
    return [encode(frame, f"image/{way}", quality=_QUALITY) for frame in frames]


def _processor_seconds(server: ServerProcess) -> float:
    """Of the server and of the processes that decode for it."""
    total = server.cpu_seconds()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text("utf-8").rpartition(")")[2].split()
            if int(fields[1]) == server.process.pid and b"service.media." in (folder / "cmdline").read_bytes():
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    return total


async def play(server: ServerProcess, way: str, messages: list[bytes]) -> tuple[list[Message], float]:
    """The results, and the processor time for each frame in milliseconds, without the first ones."""
    hello: dict[str, Any] = {"video": way} if way in _CODECS else {}
    warm = len(messages) // 6
    async with stream(server.port, **hello) as opened:
        results = [await opened.ask(message) for message in messages[:warm]]
        began = _processor_seconds(server)
        results += [await opened.ask(message) for message in messages[warm:]]
        spent = _processor_seconds(server) - began
    return results, 1e3 * spent / (len(messages) - warm)


def _keypoints(result: Message) -> tuple[NDArray[np.float64], Doubles]:
    people = result["people"]
    points = np.array([person["keypoints"] for person in people], np.float64).reshape(len(people), -1, 3)
    boxes = np.array([person["box"] for person in people], np.float64).reshape(-1, 4)
    return points, (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)


def difference(truth: list[Message], found: list[Message]) -> float:
    """The median distance of keypoints, in hundredths of the people's sizes."""
    distances: list[float] = []
    for one, other in zip(truth, found, strict=True):
        (points, sizes), (others, _) = _keypoints(one), _keypoints(other)
        for person, size in zip(points, sizes, strict=True):
            if not len(others):
                continue
            far = np.hypot(*(others[..., :2] - person[None, :, :2]).transpose(2, 0, 1))
            nearest = far[far.mean(axis=1).argmin()]
            match = others[far.mean(axis=1).argmin()]
            if nearest.mean() < size / 5:  # else it is another person
                sure = (person[:, 2] > _SURE) & (match[:, 2] > _SURE)
                distances += (100 * nearest[sure] / size).tolist()
    return float(np.median(distances))


def run() -> list[Row]:
    """A row for each way to send frames."""
    frames = clip()
    rows: list[Row] = []
    rates, moved = {}, {}
    with ServerProcess() as server:
        truth, _ = asyncio.run(play(server, "png", encoded("png", frames)))
        for way in ("jpeg", *_CODECS):
            messages = encoded(way, frames)
            results, spent = asyncio.run(play(server, way, messages))
            rates[way] = sum(map(len, messages)) * 8 * _FPS / _FRAMES / 1e6
            moved[way] = difference(truth, results)
            rows.append(
                {
                    "frames as": f"JPEG, quality {_QUALITY}" if way == "jpeg" else way,
                    "Mbit/s": f"{rates[way]:.2f}",
                    "of JPEG": f"1/{rates['jpeg'] / rates[way]:.1f}",
                    "difference, %": f"{moved[way]:.2f}",
                    "server ms": f"{spent:.1f}",
                    "age ms": f"{np.median([result['age_ms'] for result in results[10:]]):.1f}",
                    "people": round(float(np.mean([len(result["people"]) for result in results])), 2),
                }
            )
    return [
        *rows,
        goals.goal("VP8's bytes, of JPEG's", rates["vp8"] / rates["jpeg"], "<", 1 / 6),
        goals.goal("VP8's difference, % of a person's size", moved["vp8"], "<", 0.5),
    ]


if __name__ == "__main__":
    main(run, goals.show)
