"""Savings and costs of running the detector less often: python -m tests.benchmarks detect_every [--json FILE]

Needs ../shared/data/posetrack: see `posetrack`. Its frames pass a stream's FrameProcessor with timestamps of 25 frames
per second, and RTMDet-nano 640 + TinyPose. Between two runs of the detector, the estimator uses the boxes that the
tracker predicts. Processor time is that of the whole process, which alternates between all settings. With auto, the
number of detector runs depends on how long each takes here.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path

import numpy as np

from engines.catalogue import load
from engines.poses import Poses
from service.config import Settings
from service.inference.model_registry import Serving, open_serving
from service.inference.stage import InferenceOptions
from service.streams.frame_processor import FrameProcessor
from service.streams.protocol import Hello
from service.tracking.detector_pace import DetectEvery
from tests.benchmarks.posetrack import measure, read_truth
from tests.benchmarks.report import Row, main
from tests.shared import SHARED, weights_catalogue
from tests.tracking_workers import tracking_workers

_FPS = 25.0
_EVERY: dict[str, DetectEvery] = {
    "0 ms": 0.0,
    "100 ms": 0.1,
    "200 ms": 0.2,
    "500 ms": 0.5,
    "1000 ms": 1.0,
    "auto": None,
}
_TURNS = 3
_MIN_SCORE = 0.3


async def watch(serving: Serving, pictures: list[bytes], every: DetectEvery) -> tuple[list[Poses], int, float]:
    """Return the people of every frame, the number of detector runs, and processor seconds."""
    pipeline = serving.default.pipeline
    runtime = pipeline.stages[0].runtime
    run, runs = runtime.run, 0

    def counted(feeds: object) -> object:
        nonlocal runs
        runs += 1
        return run(feeds)  # type: ignore[arg-type]

    runtime.run = counted  # type: ignore[method-assign, assignment]
    hello = Hello(min_score=_MIN_SCORE, detect_every=every)
    async with tracking_workers() as workers, workers.stream(serving.default.skeleton, hello.tracking) as stream:
        processor = FrameProcessor(pipeline, stream, hello, InferenceOptions(min_score=_MIN_SCORE))
        seen = [await processor.process(pictures[0], -1 / _FPS, time.monotonic() + 60)]  # starts the process
        began = time.process_time()
        seen = [await processor.process(data, n / _FPS, time.monotonic() + 60) for n, data in enumerate(pictures)]
        took = time.process_time() - began + sum(one.seconds["track"] for one in seen)
    runtime.run = run  # type: ignore[method-assign]
    return [one.poses for one in seen], runs, took


async def compare() -> list[Row]:
    """A row per setting."""
    pictures = [file.read_bytes() for file in sorted((SHARED / "data/posetrack").glob("*.jpg"))]
    truth = read_truth()
    with tempfile.TemporaryDirectory() as folder:
        serving = open_serving(load([weights_catalogue(Path(folder))]), ["tinypose"], Settings(precision="fp32"))
    await serving.start()
    try:
        await watch(serving, pictures[:5], 0.0)  # warm up
        turns = [[await watch(serving, pictures, every) for every in _EVERY.values()] for _ in range(_TURNS)]
    finally:
        await serving.close(1.0)
    costs = [float(np.median([turn[n][2] for turn in turns])) for n in range(len(_EVERY))]
    rows = []
    for (people, runs, _), name, seconds in zip(turns[0], _EVERY, costs, strict=True):
        ids = [np.full(len(poses), -1) if poses.ids is None else poses.ids for poses in people]
        row = measure(f"detect_every {name}", people, ids, truth)
        cost = {
            "cpu ms a frame": round(1e3 * seconds / len(pictures), 1),
            "of every frame's": round(seconds / costs[0], 2),
        }
        rows.append({**row, "detector runs": runs, **cost})
    return rows


def run() -> list[Row]:
    """Measure with the real sequence."""
    return asyncio.run(compare())


if __name__ == "__main__":
    main(run)
