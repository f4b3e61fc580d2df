"""The people found in a frame, and the regions of it that networks run on.

`to_frame` maps network coordinates back to frame coordinates; `Region.to_input` is its inverse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.skeletons import Skeleton, convert_keypoints

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Floating = NDArray[np.floating[Any]]
"""Floats or Doubles."""
Frame = NDArray[np.uint8]
"""(height, width, 3) uint8 RGB."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The people that a detector found in one frame, best first.

    boxes: (N, 4) float32 x1, y1, x2, y2 in frame pixels; may extend beyond the frame.
    scores: (N,) float32 in 0..1.
    anchors: (N, A, 2) float32 alignment points in frame pixels, from detectors that have them (BlazePose), or None.
    """

    boxes: Floats
    scores: Floats
    anchors: Floats | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def select(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Detections:
        """The detections at `index`, in its order."""
        return Detections(self.boxes[index], self.scores[index], None if self.anchors is None else self.anchors[index])


@dataclass(frozen=True, slots=True, eq=False)
class Poses:
    """The N people of one frame, each with the K keypoints of `skeleton`.

    keypoints: (N, K, 2) float32 x, y in frame pixels.
    keypoint_scores: (N, K) float32 in 0..1.
    boxes: (N, 4) float32 x1, y1, x2, y2 in frame pixels.
    scores: (N,) float32 in 0..1.
    ids: (N,) int64 identities, unique within a session, or None without tracking.
    keypoints_3d: (N, K, 3) float32 metres from the middle of the hips (x right, y down, z away), or None.
    """

    keypoints: Floats
    keypoint_scores: Floats
    boxes: Floats
    scores: Floats
    skeleton: Skeleton
    ids: NDArray[np.int64] | None = None
    keypoints_3d: Floats | None = None

    def __len__(self) -> int:
        return len(self.scores)

    @staticmethod
    def empty(skeleton: Skeleton) -> Poses:
        """No people."""
        k = len(skeleton)
        return Poses(
            np.zeros((0, k, 2), np.float32),
            np.zeros((0, k), np.float32),
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            skeleton,
        )

    @staticmethod
    def join(parts: Sequence[Poses]) -> Poses:
        """Concatenate `parts`: at least one, all of the same skeleton, all or none with ids and 3D keypoints."""
        if len(parts) == 1:
            return parts[0]

        def column(arrays: list[NDArray[np.float32] | None]) -> NDArray[np.float32] | None:
            return None if arrays[0] is None else np.concatenate([a for a in arrays if a is not None])

        return Poses(
            np.concatenate([p.keypoints for p in parts]),
            np.concatenate([p.keypoint_scores for p in parts]),
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.scores for p in parts]),
            parts[0].skeleton,
            None if parts[0].ids is None else np.concatenate([p.ids for p in parts if p.ids is not None]),
            column([p.keypoints_3d for p in parts]),
        )

    def select(self, index: NDArray[np.intp] | NDArray[np.bool_] | slice) -> Poses:
        """The people at `index`, in its order."""
        return replace(
            self,
            keypoints=self.keypoints[index],
            keypoint_scores=self.keypoint_scores[index],
            boxes=self.boxes[index],
            scores=self.scores[index],
            ids=None if self.ids is None else self.ids[index],
            keypoints_3d=None if self.keypoints_3d is None else self.keypoints_3d[index],
        )

    def as_skeleton(self, skeleton: Skeleton) -> Poses:
        """Convert the keypoints to another skeleton, see `convert_keypoints`."""
        if skeleton == self.skeleton:
            return self
        points, scores = convert_keypoints(self.keypoints, self.keypoint_scores, self.skeleton, skeleton)
        in_3d = self.keypoints_3d
        if in_3d is not None:
            in_3d, _ = convert_keypoints(in_3d, self.keypoint_scores, self.skeleton, skeleton)
        return replace(self, keypoints=points, keypoint_scores=scores, keypoints_3d=in_3d, skeleton=skeleton)

    def scaled(self, factor: float) -> Poses:
        """Convert coordinates to those of the original frame, which was shrunk by `factor`.

        Coordinates are pixel indices: the first pixel of the small frame covers the first `factor` pixels of the
        original.
        """
        k, offset = np.float32(factor), np.float32((factor - 1) / 2)
        return replace(self, keypoints=self.keypoints * k + offset, boxes=self.boxes * k + offset)


@dataclass(frozen=True, slots=True)
class Region:
    """A box of a frame, rotated around its centre, that becomes the whole input of a network.

    In frame pixels; may extend beyond the frame. `rotation` is in radians, clockwise on the screen.
    """

    center_x: float
    center_y: float
    width: float
    height: float
    rotation: float = 0.0

    def to_input(self, width: int, height: int) -> NDArray[np.float64]:
        """The (2, 3) affine map from frame pixels to a network input of `width` x `height` pixels."""
        cos, sin = np.cos(self.rotation), np.sin(self.rotation)
        sx, sy = width / self.width, height / self.height
        linear = np.array([[cos * sx, sin * sx], [-sin * sy, cos * sy]])
        offset = np.array([width / 2, height / 2]) - linear @ np.array([self.center_x, self.center_y])
        return np.column_stack([linear, offset])


def to_frame(points: Floats, regions: Sequence[Region], width: int, height: int) -> Floats:
    """Map (N, K, 2) points in input pixels back to frame pixels, row n by `regions[n]`.

    The inverse of `Region.to_input`, for a whole batch at once.
    """
    if not regions:
        return points.astype(np.float32)
    r = np.array([(r.center_x, r.center_y, r.width, r.height, r.rotation) for r in regions])
    local = (points.astype(np.float64) - (width / 2, height / 2)) * (r[:, None, 2:4] / (width, height))
    cos, sin = np.cos(r[:, 4:5]), np.sin(r[:, 4:5])
    x = local[..., 0] * cos - local[..., 1] * sin + r[:, 0:1]
    y = local[..., 0] * sin + local[..., 1] * cos + r[:, 1:2]
    return np.stack([x, y], axis=-1).astype(np.float32)
