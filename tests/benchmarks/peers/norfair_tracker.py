"""Norfair on given poses. Runs in its own environment, without this project.

python norfair_tracker.py POSES.npz IDS.npy JSON, see `peers.tracked`; JSON has `near`, the pixels within which two
keypoints agree, and further arguments of norfair.Tracker
"""

from __future__ import annotations

import json
import sys

import numpy as np
from norfair import Detection, Tracker  # type: ignore[import-not-found]
from norfair.distances import create_keypoints_voting_distance  # type: ignore[import-not-found]


def main(source: str, target: str, settings: str) -> None:
    """Track as Norfair's own pose demos do: by a vote of near keypoints."""
    poses = np.load(source)
    options = json.loads(settings)
    vote = create_keypoints_voting_distance(options.pop("near"), options["detection_threshold"])
    tracker = Tracker(distance_function=vote, **options)
    ids = np.full(len(poses["frames"]), -1)
    for number in range(int(poses["count"])):
        rows = np.flatnonzero(poses["frames"] == number)
        detections = [Detection(poses["keypoints"][row], poses["keypoint_scores"][row], data=row) for row in rows]
        for person in tracker.update(detections):
            if person.last_detection.data in rows:  # else it is one that was not seen in this frame
                ids[person.last_detection.data] = person.id
    np.save(target, ids)


if __name__ == "__main__":
    main(*sys.argv[1:])
