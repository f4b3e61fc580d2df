"""What every format is read into and written from: the people of the frames of one video, or of a set of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from engines.poses import Floats, Poses
from engines.skeletons import Skeleton


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


def gather(
    skeleton: Skeleton,
    people: Iterable[tuple[Floats, Floats, Floats | None, float | None, int | None]],
) -> Poses:
    """Poses of people as a file lists them: keypoints (K, 2), their scores (K,), box, score and id.

    A box that the file does not give is drawn around the keypoints; a person's score is else the mean of its keypoints'
    that have one. Poses have ids where any of the people has one; a person without then has -1.
    """
    listed = list(people)
    if not listed:
        return Poses.empty(skeleton)
    keypoints = np.stack([person[0] for person in listed]).astype(np.float32)
    scores = np.stack([person[1] for person in listed]).astype(np.float32)
    boxes = extent(keypoints, scores)
    means = scores.sum(axis=1) / np.maximum(1, (scores > 0).sum(axis=1))
    for n, (_, _, box, score, _) in enumerate(listed):
        boxes[n] = boxes[n] if box is None else box
        means[n] = means[n] if score is None else score
    ids = [person[4] for person in listed]
    known = any(number is not None for number in ids)
    numbers = np.array([-1 if number is None else number for number in ids], np.int64)
    return Poses(keypoints, scores, boxes, means.astype(np.float32), skeleton, numbers if known else None)
