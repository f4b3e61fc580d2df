"""The trackers of the package `trackers` on given poses' boxes. Runs in its own environment, without this project.

python boxes_tracker.py POSES.npz IDS.npz, see `peers.tracked`; the standard input has a JSON list of settings:
`tracker`, the name of the class, `iou`, the name of a similarity of boxes, `timed`, whether it gets timestamps, and
arguments of the class. Trackers that compensate the camera's motion get the pictures.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import cv2
import numpy as np
import supervision  # type: ignore[import-not-found]
import trackers  # type: ignore[import-not-found]


def track(poses: Any, video: int, options: dict[str, Any], ids: Any) -> float:
    """Write the ids of one video's people to `ids`. Returns processor seconds."""
    options = dict(options)
    if "iou" in options:
        options["iou"] = getattr(trackers, options["iou"])()
    timed = options.pop("timed", False)
    tracker = getattr(trackers, options.pop("tracker"))(frame_rate=float(poses["fps"][video]), **options)
    looks = bool(options.get("enable_cmc", False))
    took = 0.0
    for frame in np.flatnonzero(poses["videos"] == video):
        rows = np.arange(*np.searchsorted(poses["frames"], [frame, frame + 1]))
        boxes, scores = poses["boxes"][rows], poses["scores"][rows]
        detections = supervision.Detections(xyxy=boxes, confidence=scores, data={"row": rows})
        more: dict[str, Any] = {"timestamp": float(poses["times"][frame])} if timed else {}
        if looks and poses["pictures"][frame]:
            more["frame"] = cv2.imread(str(poses["pictures"][frame]))
        began = time.process_time()
        seen = tracker.update(detections, **more)
        took += time.process_time() - began
        if len(seen):
            ids[seen.data["row"]] = seen.tracker_id
    return took


def main(source: str, target: str) -> None:
    """Track the boxes with each of the settings."""
    warnings.simplefilter("ignore")
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
