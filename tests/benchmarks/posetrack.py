"""Identities on a real sequence: python -m tests.benchmarks posetrack [--json FILE]

Needs ../shared/data/posetrack: 41 frames, 960x540, of four people who cross and occlude each other, at an assumed 25
frames per second; once with all frames, once with every fifth. RTMDet-nano 640 + TinyPose find the people once, and
NanoDet + MoveNet Thunder, which are fetched from npm. Every tracker gets the same poses, and this project's tracker
also the frames. The truth has 14 joints per person. The similarity is OKS over the common joints (the middle of the
shoulders does not count as the neck), with the box around a person's labelled joints as the area.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from engines.catalogue import load
from engines.poses import Frame, Poses
from engines.skeletons import COCO_17, POSETRACK_15
from service.config import Settings
from service.evaluation import clear_mot, compare_poses, hota, identity
from service.formats.sequence import extent
from service.inference.model_registry import open_serving
from service.inference.stage import InferenceOptions
from service.media.decode import ImageLimits, decode
from service.tracking import PoseTracker, TrackerConfig
from tests.benchmarks.peers.greedy import greedy_iou
from tests.benchmarks.peers.tracked import NORFAIR, TRACKERS_PACKAGE, Ids, track_with
from tests.benchmarks.report import Row, main, table
from tests.shared import SHARED, weights_catalogue

_MODELS = ("tinypose", "movenet-thunder")
_FPS = 25.0
_STRIDES = (1, 5)
_MIN_SCORES = (0.3, 0.2)
"""Poses below it are left out. 0.3 is the API's default; below 0.2 there are hardly any real people."""
_SEQUENCE = SHARED / "data/posetrack"
_JOINTS = {"neck": "head_bottom"}
"""The sequence's names of keypoints that differ from PoseTrack's."""

# The settings of the peers are the best on this sequence of some two dozen each, at 25 and at 5 frames a second.
_NORFAIR = {"distance_threshold": 0.35, "detection_threshold": 0.3, "speed": 540.0}
_NORFAIR_FRAMES = 30
"""Frames for which it keeps somebody unseen."""
_BYTETRACK = {
    "tracker": "ByteTrackTracker",
    "lost_track_buffer": 150,
    "minimum_consecutive_frames": 1,
    "minimum_iou_threshold": 0.05,
}

Tracker = Callable[[Sequence[Poses], Sequence[Frame], float], Ids]
"""A function of the poses of each frame, the frames and the frames per second."""


def pictures() -> list[Path]:
    """The files of the sequence's frames, in order."""
    return sorted(_SEQUENCE.glob("*.jpg"))


def read_truth() -> list[Poses]:
    """The people of each frame, with their ids."""
    document = json.loads((_SEQUENCE / "ground_truth.json").read_text("utf-8"))
    names = {int(number): name for number, name in document["joint_ids"].items()}
    joints = {number: POSETRACK_15.keypoints.index(_JOINTS.get(name, name)) for number, name in names.items()}
    return [_people(frame["persons"], joints) for frame in document["frames"]]


def _people(persons: list[dict[str, Any]], joints: dict[int, int]) -> Poses:
    rows = np.zeros((len(persons), len(POSETRACK_15), 3), np.float32)
    for row, person in zip(rows, persons, strict=True):
        for point in person["points"]:
            row[joints[point["id"]]] = point["x"], point["y"], 1
    keypoints, labelled = rows[..., :2], rows[..., 2]
    ids = np.array([person["track_id"] for person in persons], np.int64)
    scores = np.ones(len(persons), np.float32)
    return Poses(keypoints, labelled, extent(keypoints, labelled), scores, POSETRACK_15, ids)


async def find_people(
    model: str, pictures: Sequence[Path], least: float = min(_MIN_SCORES)
) -> tuple[list[Poses], list[Frame]]:
    """Return the model's estimates of each picture, down to the score `least`, and the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        serving = open_serving(load([weights_catalogue(Path(folder))]), [model], Settings(precision="fp32"))
    await serving.start()
    options = InferenceOptions(min_score=least, admitted=True)
    try:
        frames = [decode(file.read_bytes(), ImageLimits()).pixels for file in pictures]
        seen = [await serving.default.pipeline.frame(frame, options) for frame in frames]
    finally:
        await serving.close(1.0)
    return [poses for poses, _ in seen], frames


def ours(config: TrackerConfig, people: Sequence[Poses], frames: Sequence[Frame], fps: float) -> Ids:
    """This project's tracker."""
    tracker = PoseTracker(COCO_17, config)
    tracked = [
        tracker.update(poses, frame, number / fps)
        for number, (poses, frame) in enumerate(zip(people, frames, strict=True))
    ]
    return [np.full(len(poses), -1) if poses.ids is None else poses.ids for poses in tracked]


def _greedy_iou(people: Sequence[Poses], _: object, fps: float) -> Ids:
    return greedy_iou(people, np.arange(len(people), dtype=float), 0.3, fps)  # times in frames, so a second


def _norfair(delay: int, people: Sequence[Poses], _: object, fps: float) -> Ids:
    settings = {**_NORFAIR, "memory": _NORFAIR_FRAMES / fps, "initialization_delay": delay}
    return track_with("norfair", NORFAIR, "norfair_tracker.py", settings, people, fps)


def _bytetrack(people: Sequence[Poses], _: object, fps: float) -> Ids:
    return track_with("trackers", TRACKERS_PACKAGE, "boxes_tracker.py", _BYTETRACK, people, fps)


TRACKERS: dict[str, Tracker] = {
    "posewire": partial(ours, TrackerConfig()),
    "posewire, without flow": partial(ours, TrackerConfig(use_flow=False)),
    "greedy box IoU": _greedy_iou,
    "norfair 2.3": partial(_norfair, 0),
    "norfair 2.3, a frame's delay": partial(_norfair, 1),
    "ByteTrack (trackers 2.6)": _bytetrack,
}


def measure(name: str, people: Sequence[Poses], ids: Ids, truth: Sequence[Poses]) -> Row:
    """Compute the tracking metrics."""
    video = [
        compare_poses(true, replace(poses, ids=given)) for true, poses, given in zip(truth, people, ids, strict=True)
    ]
    clear = clear_mot([video])
    return {
        "tracker": name,
        "IDF1": round(identity([video]).idf1, 3),
        "HOTA": round(hota([video]).hota, 3),
        "MOTA": round(clear.mota, 3),
        "switches": clear.switches,
        "misses": clear.misses,
        "false": clear.false_positives,
        "ids": len({int(number) for each in ids for number in each if number >= 0}),
    }


def run() -> list[Row]:
    """Measure every tracker on all frames and on every fifth, with each minimum score."""
    truth = read_truth()
    rows = []
    for model in _MODELS:
        estimates, frames = asyncio.run(find_people(model, pictures()))
        for stride, least in product(_STRIDES, _MIN_SCORES):
            fps = _FPS / stride
            people = [poses.select(poses.scores >= least) for poses in estimates[::stride]]
            for name, track in TRACKERS.items():
                ids = track(people, frames[::stride], fps)
                figures = measure(name, people, ids, truth[::stride])
                rows.append({"model": model, "fps": fps, "min_score": least, **figures})
    return rows


if __name__ == "__main__":
    main(run, table)
