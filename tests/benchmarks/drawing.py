"""The cost of drawing: python -m tests.benchmarks drawing [--json FILE]

Milliseconds of processor time per frame, on one thread: 20 standing people, a sixth to nearly half of the frame high,
with keypoints of all scores, on a textured frame. Medians, and the tenth percentile, which other work on the machine
disturbs less.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import cv2
import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17
from service.media.draw import HeatMap, Trails, draw
from service.media.faces import head_circles
from tests.benchmarks import goals
from tests.benchmarks.report import Row, main
from tests.people import standing
from tests.scenes import texture

_ROUNDS, _FPS = 150, 30.0
_PEOPLE = 20


def crowd(width: int, height: int, seed: int) -> Poses:
    """Standing people anywhere in a frame, with ids."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(height / 6, height / 2.2, _PEOPLE)
    places = rng.uniform((0.05 * width, 0.3 * height), (0.95 * width, 0.8 * height), (_PEOPLE, 2))
    points = np.stack([standing(x, y, size) for (x, y), size in zip(places, sizes, strict=True)])
    boxes = np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)
    scores = rng.uniform(0.35, 1, (_PEOPLE, len(COCO_17))).astype(np.float32)
    return Poses(points, scores, boxes, scores.mean(axis=1), COCO_17, np.arange(_PEOPLE))


def measure(ways: dict[str, Callable[[Poses, float], object]], people: list[Poses]) -> dict[str, tuple[float, float]]:
    """Median and tenth percentile in milliseconds of each way, alternating frame by frame."""
    times = np.zeros((len(people), len(ways)))
    for number, poses in enumerate(people):
        for column, way in enumerate(ways.values()):
            started = time.process_time()
            way(poses, number / _FPS)
            times[number, column] = 1e3 * (time.process_time() - started)
    return {way: (float(np.median(t)), float(np.percentile(t, 10))) for way, t in zip(ways, times.T, strict=True)}


def run() -> list[Row]:
    """Measure what pictures can have, at two sizes, and compare the skeletons with the goal."""
    cv2.setNumThreads(1)
    rows, ours = [], 0.0
    for width, height in ((1280, 720), (1920, 1080)):
        frame = texture(np.random.default_rng(0), height, width).astype(np.uint8)
        trails, heat = Trails(1.0), HeatMap(width, height)

        def with_heat(poses: Poses, seconds: float, heat: HeatMap = heat, frame: np.ndarray = frame) -> None:
            heat.update(poses, seconds)
            draw(frame, poses, heat=heat, in_place=True)

        ways: dict[str, Callable[[Poses, float], object]] = {
            "skeletons": lambda poses, _, f=frame: draw(f, poses, in_place=True),  # type: ignore[misc]
            "and boxes, ids": lambda poses, _, f=frame: draw(f, poses, boxes=True, ids=True, in_place=True),  # type: ignore[misc]
            "and blurred faces": lambda poses, _, f=frame: draw(f, poses, faces=head_circles(poses), in_place=True),  # type: ignore[misc]
            "and trails": lambda poses, s, f=frame, t=trails: draw(  # type: ignore[misc]
                f, poses, trails=t.update(poses, s), in_place=True
            ),
            "and a heat map": with_heat,
        }
        times = measure(ways, [crowd(width, height, seed) for seed in range(_ROUNDS)])
        rows += [
            {"frame": f"{width} x {height}", "drawn": way, "ms": f"{median:.2f}", "tenth percentile": f"{least:.2f}"}
            for way, (median, least) in times.items()
        ]
        ours = ours or times["skeletons"][1]
    return [*rows, goals.goal("drawing 20 people at 720p, ms", ours, "<", 4.0)]


if __name__ == "__main__":
    main(run, goals.show)
