"""People in Posewire's own JSON format."""

from __future__ import annotations

import numpy as np

from engines.poses import Floats, Poses


def people_list(poses: Poses) -> list[dict[str, object]]:
    """Return for each person: score, box [x1, y1, x2, y2], keypoints [[x, y, score], ...] and, if the poses have them,
    keypoints_3d [[x, y, z], ...] in metres and id.

    Pixels have 2 decimals, scores and metres 3. Numbers are numpy's, for orjson with OPT_SERIALIZE_NUMPY.
    """
    rows = keypoint_rows(poses.keypoints, poses.keypoint_scores)
    people: list[dict[str, object]] = [
        {"score": score, "box": box, "keypoints": row}
        for score, box, row in zip(poses.scores.round(3), poses.boxes.round(2), rows, strict=True)
    ]
    if poses.keypoints_3d is not None:
        for person, metres in zip(people, poses.keypoints_3d.round(3), strict=True):
            person["keypoints_3d"] = metres
    if poses.ids is not None:
        for person, identity in zip(people, poses.ids, strict=True):
            person["id"] = identity
    return people


def keypoint_rows(keypoints: Floats, scores: Floats) -> Floats:
    """Join (N, K, 2) pixels and (N, K) scores to rounded (N, K, 3) rows of x, y, score."""
    return np.concatenate([keypoints.round(2), scores.round(3)[..., None]], axis=2)
