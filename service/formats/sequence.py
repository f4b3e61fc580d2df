"""The common form of all formats: the people in the frames of a video or in a set of images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engines.poses import Floats, Poses
from engines.skeletons import Skeleton

FAINT = np.float32(1e-6)
"""The score of keypoints that a file lists with a score of 0 or less."""


@dataclass(frozen=True, slots=True, eq=False)
class PoseFrame:
    """A frame or image and its people. Keypoints with score 0 are not labelled or were not found.

    name: name of the image file. number: number of the image in its source (COCO's image_id, PoseTrack's id).
    timestamp: seconds. width, height: pixels. head_boxes: (N, 4) x1, y1, x2, y2, if the format has them.
    ignored: (V, 2) corners of each region in which nobody was labelled. labelled: True if the frame was labelled.
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
    """Frames in order, all with one skeleton. name: name of the video."""

    name: str
    skeleton: Skeleton
    frames: tuple[PoseFrame, ...]

    def __len__(self) -> int:
        return len(self.frames)

    def numbered(self) -> Iterator[tuple[int, PoseFrame]]:
        """Return each frame with its number, or its index if it has none."""
        return ((n if frame.number is None else frame.number, frame) for n, frame in enumerate(self.frames))


def extent(keypoints: Floats, scores: Floats) -> Floats:
    """Return boxes (N, 4) x1, y1, x2, y2 around the keypoints with a score above 0; zeros if there are none."""
    found = (scores > 0)[..., None]
    low = np.where(found, keypoints, np.inf).min(axis=1, initial=np.inf)
    high = np.where(found, keypoints, -np.inf).max(axis=1, initial=-np.inf)
    boxes = np.concatenate([low, high], axis=1)
    return np.where(np.isfinite(boxes), boxes, 0).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class SequencePerson:
    """A person as listed in a file: keypoints (K, 2) and their scores (K,). Other fields are None if missing."""

    keypoints: Floats
    keypoint_scores: Floats
    box: Floats | None = None
    score: float | None = None
    identity: int | None = None


def gather(skeleton: Skeleton, people: Sequence[SequencePerson]) -> Poses:
    """Convert the people of a frame to Poses.

    A missing box is computed from the keypoints, a missing score is the mean of the positive keypoint scores. Poses
    have ids if any person has one; people without an id then have -1.
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
