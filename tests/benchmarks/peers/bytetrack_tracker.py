"""ByteTrack of the package `trackers` on given poses' boxes. Runs in its own environment, without this project.

python bytetrack_tracker.py POSES.npz IDS.npy JSON, see `peers.tracked`; JSON has arguments of ByteTrackTracker
"""

from __future__ import annotations

import json
import sys

import numpy as np
import supervision  # type: ignore[import-not-found]
from trackers import ByteTrackTracker  # type: ignore[import-not-found]


def main(source: str, target: str, settings: str) -> None:
    """Track the boxes."""
    poses = np.load(source)
    tracker = ByteTrackTracker(**json.loads(settings))
    ids = np.full(len(poses["frames"]), -1)
    for number in range(int(poses["count"])):
        rows = np.flatnonzero(poses["frames"] == number)
        boxes, scores = poses["boxes"][rows], poses["scores"][rows]
        seen = tracker.update(supervision.Detections(xyxy=boxes, confidence=scores, data={"row": rows}))
        if len(seen):
            ids[seen.data["row"]] = seen.tracker_id
    np.save(target, ids)


if __name__ == "__main__":
    main(*sys.argv[1:])
