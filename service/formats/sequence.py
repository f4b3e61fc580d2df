"""What every format is read into and written from: the people of the frames of one video, or of a set of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.poses import Floats, Poses
from engines.skeletons import Skeleton

FAINT = np.float32(1e-6)
"""The score of a keypoint that a file has, but with score 0 or less."""


@dataclass(frozen=True, slots=True, eq=False)
class PoseFrame:
    """One frame, or image, and its people. A keypoint with score 0 is not labelled, or was not found.

    name: of the image's file. number: of the image in the file that it comes from (COCO's image_id, PoseTrack's id).
    timestamp: seconds. width, height: pixels. head_boxes: (N, 4) x1, y1, x2, y2, where the format has them.
    ignored: (V, 2) corners of each region where nobody was labelled. labelled: whether people were labelled here.
    """

    name: str
    poses: Poses
    number: int | None = None
    timestamp: float | None = None
    width: int | None = None
    height: int | None = None
    head_boxes: Floats | None = None
    ignored: tuple[Floats, ...] = ()
    labelled: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class PoseSequence:
    """Frames in order, all of one skeleton. name: of the video."""

    name: str
    skeleton: Skeleton
    frames: tuple[PoseFrame, ...]

    def __len__(self) -> int:
        return len(self.frames)


def extent(keypoints: Floats, scores: Floats) -> Floats:
    """(N, 4) boxes x1, y1, x2, y2 around the keypoints with a score above 0; 0 where there are none."""
    there = (scores > 0)[..., None]
    low = np.where(there, keypoints, np.inf).min(axis=1, initial=np.inf)
    high = np.where(there, keypoints, -np.inf).max(axis=1, initial=-np.inf)
    boxes = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(boxes), boxes, 0).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class SequencePerson:
    """A person as a file lists it: keypoints (K, 2), their scores (K,), and what the file has of the rest."""

    keypoints: Floats
    keypoint_scores: Floats
    box: Floats | None = None
    score: float | None = None
    identity: int | None = None


def gather(skeleton: Skeleton, people: Sequence[SequencePerson]) -> Poses:
    """The people of a frame as Poses.

    A box that the file does not give is drawn around the keypoints; a person's score is else the mean of its keypoints'
    that have one. Poses have ids where any of the people has one; a person without then has -1.
    """
    if not people:
        return Poses.empty(skeleton)
    keypoints = np.stack([person.keypoints for person in people]).astype(np.float32)
    scores = np.stack([person.keypoint_scores for person in people]).astype(np.float32)
    boxes = extent(keypoints, scores)
    means = scores.sum(axis=1) / np.maximum(1, (scores > 0).sum(axis=1))
    for n, person in enumerate(people):
        boxes[n] = boxes[n] if person.box is None else person.box
        means[n] = means[n] if person.score is None else person.score
    known = any(person.identity is not None for person in people)
    ids = np.array([-1 if person.identity is None else person.identity for person in people], np.int64)
    return Poses(keypoints, scores, boxes, means.astype(np.float32), skeleton, ids if known else None)
