"""The input of tracking metrics: the true and found ids of each frame, and the similarity of their people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.ops.oks import oks
from engines.poses import Poses

EPSILON = float(np.finfo(np.float64).eps)
"""Tolerance of comparisons with a threshold, so that rounding errors have no effect."""


@dataclass(frozen=True, slots=True, eq=False)
class TrackedFrame:
    """A frame: the true people, the found people and the similarity of every pair.

    truth: (N,) true ids. found: (M,) ids of the tracker. Ids are unique in a frame. similarity: (N, M) in 0..1.
    Accepts array-likes, and stores int64 and float64. Raises ValueError if the arrays are inconsistent.
    """

    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    similarity: NDArray[np.float64]

    def __post_init__(self) -> None:
        for name, dtype in (("truth", np.int64), ("found", np.int64), ("similarity", np.float64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype))
        for name, ids in (("truth", self.truth), ("found", self.found)):
            if ids.ndim != 1 or len(np.unique(ids)) != len(ids):
                raise ValueError(f"{name} must list each id of the frame once, not {ids.tolist()}")
        if self.similarity.shape != (len(self.truth), len(self.found)):
            raise ValueError(
                f"similarity must be true people x found people, {len(self.truth)} x {len(self.found)}, "
                f"not {' x '.join(map(str, self.similarity.shape))}"
            )
        if not ((self.similarity >= 0) & (self.similarity <= 1)).all():
            raise ValueError("similarities must be numbers in 0..1")


TrackedSequence = Sequence[TrackedFrame]
"""The frames of a video, in order. Metrics take several of these."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbered:
    """A sequence whose ids are 0, 1, 2, ... so that they can index arrays.

    truth_frames: (G,) number of frames of each true person. found_frames: (T,) number of frames of each found id.
    """

    frames: TrackedSequence
    truth_frames: NDArray[np.int64]
    found_frames: NDArray[np.int64]


def number(frames: TrackedSequence) -> Numbered:
    """Return the sequence with its ids replaced by indices, in ascending order."""
    nobody = np.zeros(0, np.int64)
    truth, truth_frames = np.unique(np.concatenate([nobody, *(f.truth for f in frames)]), return_counts=True)
    found, found_frames = np.unique(np.concatenate([nobody, *(f.found for f in frames)]), return_counts=True)
    return Numbered(
        [TrackedFrame(np.searchsorted(truth, f.truth), np.searchsorted(found, f.found), f.similarity) for f in frames],
        truth_frames,
        found_frames,
    )


def compare_poses(truth: Poses, found: Poses) -> TrackedFrame:
    """Compare poses by OKS, over the keypoints that both skeletons have and the truth labels (score > 0).

    Both need ids. Found people without an identity (id below 0) are left out. A person's area is that of the box.
    Raises ValueError for poses without ids and for skeletons without a common keypoint.
    """
    truth_ids, found_ids = ids_of(truth), ids_of(found)
    shared = [name for name in truth.skeleton.keypoints if name in found.skeleton.keypoints]
    if not shared:
        raise ValueError(f"{truth.skeleton.name} and {found.skeleton.name} share no keypoint")
    known = found_ids >= 0
    ours = [truth.skeleton.keypoints.index(name) for name in shared]
    theirs = [found.skeleton.keypoints.index(name) for name in shared]
    sides = truth.boxes[:, 2:].astype(np.float64) - truth.boxes[:, :2]
    similarity = oks(
        truth.keypoints[:, ours].astype(np.float64),
        found.keypoints[:, theirs].astype(np.float64),
        sides.prod(axis=1),
        truth.skeleton.sigmas[ours],
        (truth.keypoint_scores[:, ours] > 0).astype(np.float64),
    )
    return TrackedFrame(truth_ids, found_ids[known], similarity[:, known].clip(0, 1))


def ids_of(poses: Poses) -> NDArray[np.int64]:
    """Return the ids of the people. Raises ValueError for people without ids."""
    if poses.ids is None and len(poses):
        raise ValueError("tracking is measured by ids; these poses have none")
    return np.zeros(0, np.int64) if poses.ids is None else poses.ids
