"""BlazePose: 33 keypoints of a person in the frame and in metres (Bazarevsky et al., 2020).

The graph's properties are from MediaPipe's description of it (google-ai-edge/mediapipe: modules/pose_landmark/
pose_landmark_by_roi_cpu.pbtxt, tensors_to_pose_landmarks_and_segmentation.pbtxt and the calculators named there).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.families.blazepose_detector import BODY_CENTRE, BODY_TOP
from engines.families.poses_in_frame import distinct
from engines.families.regions import PADDING, person_regions
from engines.families.whole_frame import boxes_around
from engines.inputs import Arrays, PixelInput
from engines.ops.activations import sigmoid
from engines.ops.nms import group, within
from engines.poses import Detections, Floats, Poses, Region, to_frame
from engines.skeletons import BLAZEPOSE_33, Skeleton

_LANDMARKS = 39  # 33 keypoints and 6 auxiliary ones; MediaPipe uses 2 of these for the next frame's region
_WINDOW = 7  # heatmap cells
_MIN_PEAK = 0.5
_SAME_PERSON = 0.5  # OKS
_PART_OF = 0.8  # share of a box; a tile may show a part of a person that is taken for a whole one
_INSIDE = 0.5  # keypoints that are less likely inside the frame do not extend a person's box
_MAX_REACH = 8.0  # input sizes; keypoints further out come from a broken graph


@dataclass(eq=False)
class BlazePose:
    """Outputs: landmarks `Identity`, presence `Identity_1`, heatmaps `Identity_3`, landmarks in metres `Identity_4`.

    min_presence: people with a lower presence are dropped, 0..1.
    Raises ValueError for another skeleton than BlazePose's.
    """

    outputs = ("Identity", "Identity_1", "Identity_3", "Identity_4")  # Identity_2, a mask, takes a quarter of the time

    pixels: PixelInput
    skeleton: Skeleton = BLAZEPOSE_33
    _: KW_ONLY
    min_presence: float = 0.5

    def __post_init__(self) -> None:
        if self.skeleton != BLAZEPOSE_33:
            raise ValueError(f"skeleton {self.skeleton.name}: BlazePose gives {BLAZEPOSE_33.name}")

    def regions(self, people: Detections) -> list[Region]:
        """Squares around bodies, rotated upright if the detector gives alignment points."""
        if people.anchors is None:
            return person_regions(people, self.pixels.width, self.pixels.height)
        centre = people.anchors[:, BODY_CENTRE].astype(float)
        spine = people.anchors[:, BODY_TOP] - centre
        sides = 2 * PADDING * np.hypot(*spine.T).clip(min=1.0)
        turns = np.arctan2(spine[:, 0], -spine[:, 1])  # from straight up, clockwise
        return [
            Region(x, y, side, side, turn)
            for (x, y), side, turn in zip(centre.tolist(), sides.tolist(), turns.tolist(), strict=True)
        ]

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        """A pose's score is its presence, or 0 if that is too low or an output is garbage."""
        landmarks = _landmarks(outputs["Identity"])
        metres = _landmarks(outputs["Identity_4"])
        presence = np.asarray(outputs["Identity_1"], np.float32)[:, 0]
        size = np.array([self.pixels.width, self.pixels.height], np.float32)

        sane = (np.abs(landmarks) < _MAX_REACH * size.max()).all(axis=(1, 2)) & (np.abs(metres) < 100).all(axis=(1, 2))
        sane &= (presence >= self.min_presence) & (presence <= 1)
        landmarks, metres = (np.where(sane[:, None, None], values, 0) for values in (landmarks, metres))

        points = refine(landmarks[..., :2] / size, np.asarray(outputs["Identity_3"], np.float32)) * size
        keypoints = to_frame(points, regions, self.pixels.width, self.pixels.height)
        visible, inside = sigmoid(landmarks[..., 3]), sigmoid(landmarks[..., 4])
        return Poses(
            keypoints=keypoints,
            # They are trained separately, but a keypoint outside the frame is not visible.
            keypoint_scores=np.minimum(visible, inside),
            boxes=boxes_around(keypoints, inside, _INSIDE),
            scores=np.where(sane, presence, 0),
            skeleton=self.skeleton,
            keypoints_3d=_rotated(metres, regions),
        )

    def merge(self, poses: Poses, people: Detections) -> Poses:
        poses = replace(poses, scores=poses.scores * people.scores)
        poses = distinct(poses.select(poses.scores > 0), _SAME_PERSON)
        if len(poses) < 2:
            return poses
        return poses.select(group(within(poses.boxes), poses.scores, _PART_OF)[0])


def refine(points: Floats, heatmaps: Floats) -> Floats:
    """Move keypoints to the weighted mean of the heatmap around them, if its maximum is high enough.

    After MediaPipe's refine_landmarks_from_heatmap_calculator.
    points: (n, K, 2) x, y in 0..1 of the input. heatmaps: (n, H, W, K or more) logits. Returns new points.
    """
    n, k = points.shape[:2]
    size = np.array(heatmaps.shape[2:0:-1], np.float32)
    reach = np.arange(_WINDOW, dtype=np.float32) - _WINDOW // 2
    cell = np.floor(points * size)
    xs, ys = (cell[..., axis, None] + reach for axis in (0, 1))  # (n, K, window)

    in_x, in_y = (xs >= 0) & (xs < size[0]), (ys >= 0) & (ys < size[1])
    rows = np.where(in_y, ys, 0).astype(np.intp)[:, :, :, None]
    columns = np.where(in_x, xs, 0).astype(np.intp)[:, :, None, :]
    logits = heatmaps[np.arange(n)[:, None, None, None], rows, columns, np.arange(k)[None, :, None, None]]
    seen = in_y[:, :, :, None] & in_x[:, :, None, :] & ~np.isnan(logits)
    weights = sigmoid(np.where(seen, logits, -np.inf))  # (n, K, window, window)

    total = weights.sum(axis=(2, 3)).clip(min=np.finfo(np.float32).tiny)
    middle = np.stack([(weights.sum(axis=2) * xs).sum(axis=2), (weights.sum(axis=3) * ys).sum(axis=2)], axis=-1)
    sure = (weights.max(axis=(2, 3)) >= _MIN_PEAK) & (cell >= 0).all(axis=-1) & (cell < size).all(axis=-1)
    return np.where(sure[..., None], middle / total[..., None] / size, points)


def _landmarks(flat: NDArray[np.generic]) -> Floats:
    """The (n, 33, values) keypoints of (n, 39 x values) landmarks; the auxiliary ones come last."""
    values = np.asarray(flat, np.float32)
    return values.reshape(len(values), _LANDMARKS, values.shape[1] // _LANDMARKS)[:, : len(BLAZEPOSE_33)]


def _rotated(metres: Floats, regions: Sequence[Region]) -> Floats:
    """Rotate landmarks from the axes of their regions to those of the frame."""
    angles = np.array([region.rotation for region in regions], np.float32)[:, None]
    cos, sin = np.cos(angles), np.sin(angles)
    x, y, z = np.moveaxis(metres, -1, 0)
    return np.stack([cos * x - sin * y, sin * x + cos * y, z], axis=-1)
