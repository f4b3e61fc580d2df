"""The time of a peer per frame. Runs in the peer's own environment, without this project.

python matching_times.py norfair|bytetrack POSES.npz prints JSON; the arrays of the npz have a row for each frame
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

_NEAR = 18.0
"""Pixels within which two keypoints agree for Norfair: 540 a second at 30 frames a second."""


def norfair_update() -> Callable[..., Any]:
    """Norfair on keypoints, by a vote of near keypoints, as in its pose demos."""
    from norfair import Detection, Tracker  # type: ignore[import-not-found]
    from norfair.distances import create_keypoints_voting_distance  # type: ignore[import-not-found]

    vote = create_keypoints_voting_distance(_NEAR, 0.3)
    tracker = Tracker(vote, distance_threshold=0.35, detection_threshold=0.3, initialization_delay=0)

    def update(keypoints: Any, keypoint_scores: Any, boxes: Any, scores: Any) -> None:
        tracker.update([Detection(k, s) for k, s in zip(keypoints, keypoint_scores)])  # noqa: B905

    return update


def bytetrack_update() -> Callable[..., Any]:
    """ByteTrack on boxes."""
    import supervision  # type: ignore[import-not-found]
    from trackers import ByteTrackTracker  # type: ignore[import-not-found]

    tracker = ByteTrackTracker()

    def update(keypoints: Any, keypoint_scores: Any, boxes: Any, scores: Any) -> None:
        tracker.update(supervision.Detections(xyxy=boxes, confidence=scores))

    return update


def main(name: str, source: str) -> None:
    """Process every frame once."""
    poses = np.load(source)
    update = {"norfair": norfair_update, "bytetrack": bytetrack_update}[name]()
    times = []
    for columns in zip(*(poses[array] for array in ("keypoints", "keypoint_scores", "boxes", "scores"))):  # noqa: B905
        started = time.process_time()
        update(*columns)
        times.append(time.process_time() - started)
    print(json.dumps({"ms": 1e3 * float(np.median(times))}))


if __name__ == "__main__":
    main(*sys.argv[1:])
