"""Norfair on given poses. Runs in its own environment, without this project.

python norfair_tracker.py POSES.npz IDS.npz, see `peers.tracked`; the standard input has a JSON list of settings:
`speed`, pixels a second within which two keypoints agree, `memory`, seconds for which somebody unseen is kept, and
further arguments of norfair.Tracker.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any

import numpy as np
from norfair import Detection, Tracker  # type: ignore[import-not-found]
from norfair.distances import create_keypoints_voting_distance  # type: ignore[import-not-found]


def track(poses: Any, video: int, options: dict[str, Any], ids: Any) -> float:
    """Track as Norfair's own pose demos do: by a vote of near keypoints. Returns processor seconds."""
    options, fps = dict(options), float(poses["fps"][video])
    vote = create_keypoints_voting_distance(options.pop("speed") / fps, options["detection_threshold"])
    kept = max(2, round(options.pop("memory") * fps))
    tracker = Tracker(distance_function=vote, hit_counter_max=kept, **options)
    took = 0.0
    for frame in np.flatnonzero(poses["videos"] == video):
        rows = np.arange(*np.searchsorted(poses["frames"], [frame, frame + 1]))
        detections = [Detection(poses["keypoints"][row], poses["keypoint_scores"][row], data=row) for row in rows]
        began = time.process_time()
        seen = tracker.update(detections)
        took += time.process_time() - began
        for person in seen:
            if person.last_detection.data in rows:  # else it is one that was not seen in this frame
                ids[person.last_detection.data] = person.id
    return took


def main(source: str, target: str) -> None:
    """Track the poses with each of the settings."""
    logging.disable()  # it recommends other distances than its own pose demos
    with np.load(source) as stored:
        poses = dict(stored)
    settings = json.load(sys.stdin)
    ids = np.full((len(settings), len(poses["frames"])), -1)
    seconds = np.zeros((len(settings), len(poses["fps"])))
    for n, options in enumerate(settings):
        for video in range(len(poses["fps"])):
            seconds[n, video] = track(poses, video, options, ids[n])
    np.savez(target, ids=ids, seconds=seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
