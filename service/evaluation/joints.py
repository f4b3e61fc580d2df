"""The input of PoseTrack's metrics: the labelled and found joints of a frame, and the head sizes for scaling.

Andriluka et al., "PoseTrack: A Benchmark for Human Pose Estimation and Tracking", CVPR 2018, section 4: a found joint
is right within half a head size of its true place (PCKh of Andriluka et al., CVPR 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles, Poses
from engines.skeletons import POSETRACK_15

THRESHOLD = 0.5
"""Largest distance of a right joint from its true position, in head sizes."""
_HEAD = 0.6
"""MPII's head size as a share of the head box's diagonal."""

GROUPS = {
    "Head": ("head_top", "nose", "head_bottom"),
    "Shou": ("right_shoulder", "left_shoulder"),
    "Elb": ("right_elbow", "left_elbow"),
    "Wri": ("right_wrist", "left_wrist"),
    "Hip": ("right_hip", "left_hip"),
    "Knee": ("right_knee", "left_knee"),
    "Ankl": ("right_ankle", "left_ankle"),
    "Total": POSETRACK_15.keypoints,
}
"""PoseTrack's columns. Each is the mean over its joints."""


@dataclass(frozen=True, slots=True, eq=False)
class JointFrame:
    """A frame with N true and M found people, as poses of PoseTrack's 15 joints.

    Joints with score 0 are not labelled or were not found. head_sizes: (N,) pixels, above 0. labelled: True if the
    frame was labelled. Raises ValueError for another skeleton and for missing head sizes.
    """

    truth: Poses
    found: Poses
    head_sizes: Doubles
    labelled: bool = True

    def __post_init__(self) -> None:
        for poses in (self.truth, self.found):
            if poses.skeleton != POSETRACK_15:
                raise ValueError(f"PoseTrack has the skeleton {POSETRACK_15.name}, not {poses.skeleton.name}")
        if self.head_sizes.shape != (len(self.truth),) or not (self.head_sizes > 0).all():
            raise ValueError(f"each of the {len(self.truth)} true people needs a head size above 0")

    def distances(self) -> Doubles:
        """The distances (N, M, 15) in head sizes; infinite if either joint is missing."""
        apart = self.truth.keypoints[:, None].astype(np.float64) - self.found.keypoints[None]
        both = (self.truth.keypoint_scores[:, None] > 0) & (self.found.keypoint_scores[None] > 0)
        return np.where(both, np.hypot(apart[..., 0], apart[..., 1]) / self.head_sizes[:, None, None], np.inf)


@dataclass(frozen=True, slots=True)
class Quirks:
    """Errors of poseval, the published evaluation, that change its results. Each can be switched off.

    drops_last_frame: the last frame of every sequence is left out.
    counts_candidates: MOTP adds the distances of all pairs near enough to match to those of the matches. The result is
    about 20 points too low.
    repeats_changes: MOTP counts the distance of a match again if its id was another person's before, and if such a
    change matches an id or a person for the first time.
    shortens_empty_frames: frames without true people are left out. In tracking, a frame without found people counts as
    one miss and one false positive of each joint, however many people are labelled.
    """

    drops_last_frame: bool = True
    counts_candidates: bool = True
    repeats_changes: bool = True
    shortens_empty_frames: bool = True

    def judged(self, frames: Sequence[JointFrame]) -> list[JointFrame]:
        """Return the frames that are evaluated."""
        return [frame for frame in frames if frame.labelled and (len(frame.truth) or not self.shortens_empty_frames)]


POSEVAL = Quirks()
CORRECT = Quirks(drops_last_frame=False, counts_candidates=False, repeats_changes=False, shortens_empty_frames=False)


def head_sizes(head_boxes: NDArray[np.floating]) -> Doubles:
    """Return the head sizes (N,) of head boxes (N, 4) x1, y1, x2, y2."""
    sides = head_boxes[:, 2:].astype(np.float64) - head_boxes[:, :2]
    return _HEAD * np.hypot(sides[:, 0], sides[:, 1])


def with_total(per_joint: Sequence[float] | Doubles) -> Doubles:
    """Append the mean to the values of the 15 joints: (16,). It leaves out joints with nan (never labelled)."""
    values = np.asarray(per_joint, np.float64)
    known = values[~np.isnan(values)]
    return np.append(values, known.mean() if len(known) else np.nan)


def grouped(per_joint: Doubles) -> dict[str, float]:
    """Average the first 15 of `per_joint` to the columns of GROUPS."""
    index = {name: n for n, name in enumerate(POSETRACK_15.keypoints)}
    return {group: float(with_total([per_joint[index[name]] for name in names])[-1]) for group, names in GROUPS.items()}
