"""The base of families that take the whole frame: from people in input pixels to poses or boxes in the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.families.regions import letterbox
from engines.inputs import PixelInput
from engines.ops.nms import nms
from engines.poses import Detections, Floats, Poses, Region, to_frame
from engines.skeletons import COCO_17, Skeleton

_MAX_REACH = 8.0  # input sizes; points further out come from a broken graph
_COUNTED = 0.2  # keypoints with lower scores do not extend a person's box, unless there are no others
_MAX_BOXES = 512  # bounds the work for unusual images; suppression compares all pairs
_ENDLESS = 1e6  # pixels
MAX_SCORE = 1.5
"""The largest score of a detection: a probability, with rounding errors. Larger ones come from a broken graph."""
_MARGIN = 0.05  # of the longer side of a box around keypoints: skull, hands and clothes (measured on COCO's boxes)

Indices = NDArray[np.intp]


@dataclass(eq=False)
class WholeFrameFamily:
    """A `OneStageModel` without `decode`. Its input shows the whole frame at the top left."""

    pixels: PixelInput
    skeleton: Skeleton = COCO_17

    def region(self, width: int, height: int) -> Region:
        return letterbox(width, height, self.pixels.width, self.pixels.height)

    def _poses(
        self, points: Floats, keypoint_scores: Floats, scores: Floats, region: Region, boxes: Floats | None = None
    ) -> Poses:
        """The poses of one region in frame pixels, best first.

        points: (N, K, 2) and boxes: (N, 4) x1, y1, x2, y2 in input pixels; None: boxes around the keypoints.
        keypoint_scores: (N, K), scores: (N,); clipped to 0..1. People with non-finite or far-out coordinates or a
        score of 0 are dropped.
        """
        if not len(scores):
            return Poses.empty(self.skeleton)
        if boxes is None:
            boxes = boxes_around(points, keypoint_scores)
        flat = np.concatenate([points.reshape(len(points), -1), boxes], axis=1)
        reach = _MAX_REACH * max(self.pixels.width, self.pixels.height)
        sane = (np.abs(flat) < reach).all(axis=1) & np.isfinite(keypoint_scores).all(axis=1) & (scores > 0)
        order = np.argsort(-scores, kind="stable")
        kept = order[sane[order]]
        if not len(kept):
            return Poses.empty(self.skeleton)
        corners = np.concatenate([points[kept], boxes[kept].reshape(-1, 2, 2)], axis=1)
        placed = to_frame(corners, [region] * len(kept), self.pixels.width, self.pixels.height)
        return Poses(
            keypoints=placed[:, :-2],
            keypoint_scores=keypoint_scores[kept].clip(0, 1).astype(np.float32),
            boxes=placed[:, -2:].reshape(-1, 4),
            scores=scores[kept].clip(0, 1).astype(np.float32),
            skeleton=self.skeleton,
        )


@dataclass(eq=False)
class WholeFrameDetector:
    """A `Detector` without `decode`. Its input shows the whole frame at the top left."""

    pixels: PixelInput

    def regions(self, width: int, height: int) -> list[Region]:
        return [letterbox(width, height, self.pixels.width, self.pixels.height)]

    def merge(self, parts: Sequence[Detections], regions: Sequence[Region]) -> Detections:  # noqa: ARG002 - one
        return parts[0]

    def _detections(self, boxes: Floats, scores: Floats, region: Region) -> Detections:
        """The detections of one region in frame pixels, from (N, 4) boxes in input pixels and (N,) scores."""
        near = (np.abs(boxes) < _MAX_REACH * max(self.pixels.width, self.pixels.height)).all(axis=1) & (scores > 0)
        placed = to_frame(boxes[near].reshape(1, -1, 2), [region], self.pixels.width, self.pixels.height)
        return Detections(placed.reshape(-1, 4), scores[near].clip(0, 1).astype(np.float32))


def boxes_around(points: Floats, keypoint_scores: Floats, least: float = _COUNTED) -> Floats:
    """Boxes (N, 4) around the keypoints with scores of at least `least`, or else around all, with a margin."""
    counted = keypoint_scores >= least
    counted |= ~counted.any(axis=1, keepdims=True)
    low = np.where(counted[..., None], points, np.inf).min(axis=1)
    high = np.where(counted[..., None], points, -np.inf).max(axis=1)
    with np.errstate(invalid="ignore"):  # infinities, which the caller drops
        margin = _MARGIN * (high - low).max(axis=1, keepdims=True)
        return np.concatenate([low - margin, high + margin], axis=1).astype(np.float32)


def missing_at_mean(points: Floats, scores: Floats) -> Floats:
    """(N, K, 2) points, with missing ones (score 0) moved to the mean of the person's others."""
    seen = (scores > 0)[..., None]
    middle = (points * seen).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)
    return np.where(seen, points, middle[:, None]).astype(np.float32)


def best_boxes(boxes: Floats, scores: Floats, least: float, overlap: float) -> Indices:
    """The indices of the (N, 4) boxes x1, y1, x2, y2 that remain, best first.

    Boxes with scores under `least`, garbage, and boxes whose IoU with a better one exceeds `overlap` are dropped.
    """
    good = np.flatnonzero((scores >= least) & (scores <= MAX_SCORE) & (np.abs(boxes) < _ENDLESS).all(axis=1))
    good = good[np.argsort(-scores[good], kind="stable")][:_MAX_BOXES]
    return good[nms(boxes[good], scores[good], overlap)]


def corners(boxes: Floats) -> Floats:
    """Boxes (..., 4) of centre x, y, width, height as x1, y1, x2, y2."""
    with np.errstate(invalid="ignore"):  # infinities
        half = boxes[..., 2:] / 2
        return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)
