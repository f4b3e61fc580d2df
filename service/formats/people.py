"""People in Posewire's own JSON format."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engines.poses import Floats, Poses


def people_list(poses: Poses) -> list[dict[str, object]]:
    """Return for each person: score, box [x1, y1, x2, y2], keypoints [[x, y, score], ...] and, if the poses have them,
    keypoints_3d [[x, y, z], ...] in metres and id.

    Pixels have 2 decimals, scores and metres 3. Numbers are numpy's, for orjson with OPT_SERIALIZE_NUMPY.
    """
    rows = keypoint_rows(poses.keypoints, poses.keypoint_scores)
    metres = {} if poses.keypoints_3d is None else {"keypoints_3d": poses.keypoints_3d.round(3)}
    return records(poses, "id", score=poses.scores.round(3), box=poses.boxes.round(2), keypoints=rows, **metres)


def records(poses: Poses, id_key: str, **columns: Iterable[object]) -> list[dict[str, object]]:
    """Return one object per person from columns with one value per person. Ids, if there are any, come last."""
    if poses.ids is not None:
        columns[id_key] = poses.ids
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def keypoint_rows(keypoints: Floats, scores: Floats) -> Floats:
    """Join (N, K, 2) pixels and (N, K) scores to rounded (N, K, 3) rows of x, y, score."""
    return np.concatenate([keypoints.round(2), scores.round(3)[..., None]], axis=2)
