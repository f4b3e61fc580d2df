"""Rows of people that several formats share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engines.poses import Floats, Poses


def records(poses: Poses, id_key: str, **columns: Iterable[object]) -> list[dict[str, object]]:
    """Return one object per person from columns with one value per person. Ids, if there are any, come last."""
    if poses.ids is not None:
        columns[id_key] = poses.ids
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def keypoint_rows(keypoints: Floats, scores: Floats) -> Floats:
    """Join (N, K, 2) pixels and (N, K) scores to rounded (N, K, 3) rows of x, y, score."""
    return np.concatenate([keypoints.round(2), scores.round(3)[..., None]], axis=2)
