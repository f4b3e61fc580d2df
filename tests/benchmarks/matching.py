"""The cost of tracking: python -m tests.benchmarks matching [--json FILE]

Milliseconds of processor time per frame, medians, on one thread: people of 17 keypoints who walk in 1280 x 720
pixels, in any order. This project's tracker alternates, frame by frame, with a minimal tracker, thirty lines of
numpy that compare every pose with all poses of the last frame; norfair 2.3 and ByteTrack of the package `trackers` run
in environments of their own, created if missing. With flow, the tracker also gets pixels.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.ops.oks import oks
from engines.poses import Frame, Poses
from engines.skeletons import COCO_17
from service.tracking import PoseTracker, TrackerConfig
from tests.benchmarks import goals
from tests.benchmarks.peers.environment import peer_python
from tests.benchmarks.report import Row, main
from tests.scenes import texture

_FRAMES, _FPS = 150, 30.0
_WIDTH, _HEIGHT = 1280, 720
_PEERS = {"norfair 2.3": ("norfair", "norfair==2.3.0"), "ByteTrack (trackers 2.3)": ("bytetrack", "trackers==2.3.0")}

Update = Callable[[Poses, Frame | None, float], object]


class PlainGreedy:
    """The best OKS first, against the poses of the last frame."""

    def __init__(self, least: float = 0.3) -> None:
        self._least = least
        self._poses = np.zeros((0, len(COCO_17), 2), np.float32)
        self._areas = np.zeros(0, np.float32)
        self._ids = np.zeros(0, np.int64)
        self._next = 1

    def update(self, poses: Poses, _frame: Frame | None, _now: float) -> NDArray[np.int64]:
        """The ids of the poses."""
        ids = np.full(len(poses), -1)
        alike = oks(self._poses, poses.keypoints, self._areas, COCO_17.sigmas)
        while alike.size and alike.max() >= self._least:
            row, column = np.unravel_index(alike.argmax(), alike.shape)
            ids[column] = self._ids[row]
            alike[row], alike[:, column] = -1, -1
        new = ids < 0
        ids[new] = self._next + np.arange(new.sum())
        self._next += int(new.sum())
        self._poses, self._ids = poses.keypoints, ids
        self._areas = (poses.boxes[:, 2:] - poses.boxes[:, :2]).prod(axis=1)
        return ids


def crowd(count: int, seed: int = 0) -> list[Poses]:
    """The poses of `count` walking people in each frame, in any order."""
    rng = np.random.default_rng(seed)
    places, speeds = rng.uniform((0, 0), (_WIDTH, _HEIGHT), (count, 2)), rng.normal(0, 60, (count, 2))
    figures = rng.uniform(-0.5, 0.5, (count, len(COCO_17), 2)) * (55, 160)
    frames = []
    for number in range(_FRAMES):
        points = figures + (places + speeds * number / _FPS)[:, None] + rng.normal(0, 1, figures.shape)
        keypoints = points[rng.permutation(count)].astype(np.float32)
        boxes = np.concatenate([keypoints.min(axis=1), keypoints.max(axis=1)], axis=1)
        scores = np.full((count, len(COCO_17)), 0.9, np.float32)
        frames.append(Poses(keypoints, scores, boxes, scores[:, 0], COCO_17))
    return frames


def pictures() -> list[Frame]:
    """Two textured frames to alternate, as if the camera shakes by 3 pixels."""
    wall = texture(np.random.default_rng(0), _HEIGHT, _WIDTH + 3).astype(np.uint8)
    return [np.ascontiguousarray(wall[:, shift : shift + _WIDTH]) for shift in (0, 3)]


def by_turns(ways: dict[str, Update], people: list[Poses], frames: list[Frame] | None = None) -> dict[str, float]:
    """Median milliseconds of each tracker, alternating frame by frame."""
    times = np.zeros((len(people), len(ways)))
    for number, poses in enumerate(people):
        frame = None if frames is None else frames[number % len(frames)]
        for column, update in enumerate(ways.values()):
            started = time.process_time()
            update(poses, frame, number / _FPS)
            times[number, column] = time.process_time() - started
    return dict(zip(ways, np.median(times, axis=0) * 1e3, strict=True))


def peer(name: str, requirement: str, people: list[Poses]) -> float:
    """Median milliseconds of a peer."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "poses.npz"
        np.savez(
            source,
            keypoints=np.stack([poses.keypoints for poses in people]),
            keypoint_scores=np.stack([poses.keypoint_scores for poses in people]),
            boxes=np.stack([poses.boxes for poses in people]),
            scores=np.stack([poses.scores for poses in people]),
        )
        script = Path(__file__).parent / "peers/matching_times.py"
        ran = subprocess.run(
            [peer_python(name, requirement), script, name, source], check=True, capture_output=True, encoding="utf-8"
        )
    return float(json.loads(ran.stdout)["ms"])


def run() -> list[Row]:
    """Measure the trackers with 20 and 100 people, and compare them with the goals."""
    cv2.setNumThreads(1)
    rows, ours = [], {}
    for count in (20, 100):
        people = crowd(count)
        greedy = PoseTracker(COCO_17, TrackerConfig(assignment="greedy"))
        ways: dict[str, Update] = {
            "plain numpy, greedy": PlainGreedy().update,
            "posewire": PoseTracker(COCO_17).update,
            "posewire, greedy": greedy.update,
        }
        times = by_turns(ways, people)
        times |= {way: peer(*which, people) for way, which in _PEERS.items()}
        times |= by_turns({"posewire with flow, 720p": PoseTracker(COCO_17).update}, people, pictures())
        plain = times["plain numpy, greedy"]
        rows += [
            {"people": count, "way": way, "ms": f"{ms:.3f}", "ratio": f"{ms / plain:.2f}"} for way, ms in times.items()
        ]
        ours[count] = times
    return [
        *rows,
        goals.goal("matching 20 people, ms", ours[20]["posewire"], "<", 0.4),
        goals.goal("matching 100 people, ms", ours[100]["posewire"], "<", 1.5),
        goals.goal("20 people with flow at 720p, ms", ours[20]["posewire with flow, 720p"], "<", 5.0),
    ]


if __name__ == "__main__":
    main(run, goals.show)
