"""COCO's results format for keypoints (cocodataset.org, "Results Format"), as pycocotools reads it."""

from __future__ import annotations

import numpy as np

from engines.poses import Poses
from engines.skeletons import COCO_17

_PERSON = 1


def coco_results(poses: Poses, image_id: int) -> list[dict[str, object]]:
    """One entry per person, with COCO's 17 keypoints as x1, y1, v1, ... and its box as x, y, width, height.

    The visibility v is 1, which COCO recommends for results, or 0 for a keypoint that was not looked for or has no
    score at all. The format has no scores of keypoints. Pixels have 2 decimals, scores 3; the numbers are numpy's, for
    orjson with OPT_SERIALIZE_NUMPY. image_id: the image's number in the annotations.
    """
    poses = poses.as_skeleton(COCO_17)
    visibility = (poses.keypoint_scores > 0).astype(np.float32)
    rows = np.concatenate([poses.keypoints.round(2), visibility[:, :, None]], axis=2)
    x1, y1, x2, y2 = poses.boxes.T
    boxes = np.stack([x1, y1, x2 - x1, y2 - y1], axis=1).round(2)
    return [
        {"image_id": image_id, "category_id": _PERSON, "keypoints": row.ravel(), "score": score, "bbox": box}
        for row, score, box in zip(rows, poses.scores.round(3), boxes, strict=True)
    ]
