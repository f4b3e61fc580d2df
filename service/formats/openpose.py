"""OpenPose's JSON output, version 1.3 (its doc/02_output.md), with the 25 keypoints of BODY_25."""

from __future__ import annotations

from engines.poses import Poses
from engines.skeletons import OPENPOSE_25
from service.formats.people import keypoint_rows

_VERSION = 1.3
_NOBODY = -1

# Parts that Posewire does not look for; readers expect the keys.
_OTHER_PARTS = (
    "face_keypoints_2d",
    "hand_left_keypoints_2d",
    "hand_right_keypoints_2d",
    "pose_keypoints_3d",
    "face_keypoints_3d",
    "hand_left_keypoints_3d",
    "hand_right_keypoints_3d",
)


def openpose_document(poses: Poses) -> dict[str, object]:
    """One frame: per person the id (-1 without tracking) and pose_keypoints_2d, x1, y1, score1, ...

    A keypoint that the poses' skeleton cannot give is 0, 0, 0, as OpenPose writes what it has not found. Pixels have 2
    decimals, scores 3; the numbers are numpy's, for orjson with OPT_SERIALIZE_NUMPY.
    """
    poses = poses.as_skeleton(OPENPOSE_25)
    ids = [_NOBODY] * len(poses) if poses.ids is None else poses.ids.tolist()
    people = [
        {"person_id": [number], "pose_keypoints_2d": row.ravel(), **{part: [] for part in _OTHER_PARTS}}
        for number, row in zip(ids, keypoint_rows(poses.keypoints, poses.keypoint_scores), strict=True)
    ]
    return {"version": _VERSION, "people": people}
