"""MoveNet (Google, 2021) with its own ending: MultiPose, a one-stage model for up to six people, and Lightning and
Thunder for the person in the middle, after the descriptions of their outputs in tensorflow.org/hub/tutorials/movenet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from engines.families.poses_in_frame import PersonCrops, distinct, poses_from_input
from engines.families.regions import person_regions
from engines.families.whole_frame import WholeFrameFamily, best_boxes
from engines.inputs import Arrays
from engines.poses import Detections, Poses, Region
from engines.skeletons import COCO_17, Skeleton

_BOX = 3 * len(COCO_17)
_SAME_PERSON = 0.6  # OKS; of two boxes of a person who stands before another


def check_skeleton(skeleton: Skeleton) -> None:
    """Raise ValueError for another skeleton than MoveNet's, which is COCO's."""
    if skeleton != COCO_17:
        raise ValueError(f"skeleton {skeleton.name}: MoveNet gives {COCO_17.name}")


@dataclass(kw_only=True, eq=False)
class MoveNet(WholeFrameFamily):
    """The only output (n, 6, 56): y, x, score of 17 keypoints, then y1, x1, y2, x2, score, in 0..1 of the input.

    min_score: people under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person.
    Raises ValueError for another skeleton than COCO's.
    """

    min_score: float = 0.1
    overlap: float = 0.7

    outputs = None

    def __post_init__(self) -> None:
        check_skeleton(self.skeleton)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        people = []
        size = np.array([self.pixels.width, self.pixels.height], np.float32)
        for rows, region in zip(np.asarray(next(iter(outputs.values())), np.float32), regions, strict=True):
            points = rows[:, :_BOX].reshape(-1, len(COCO_17), 3)
            boxes = (rows[:, _BOX : _BOX + 4].reshape(-1, 2, 2)[..., ::-1] * size).reshape(-1, 4)
            scores = rows[:, _BOX + 4]
            best = best_boxes(boxes, scores, self.min_score, self.overlap)
            positions, sure = points[best][..., 1::-1] * size, points[best][..., 2]
            people.append(self._poses(positions, sure, scores[best], region, boxes[best]))
        return people


@dataclass(kw_only=True, eq=False)
class MoveNetCrops(PersonCrops):
    """The crops of MoveNet Lightning and Thunder, which find the person in the middle of each; without `decode`.

    padding: the size of a crop relative to the person. Raises ValueError for another skeleton than COCO's.
    """

    padding: float = 1.1

    def __post_init__(self) -> None:
        check_skeleton(self.skeleton)

    def regions(self, people: Detections) -> list[Region]:
        return person_regions(people, self.pixels.width, self.pixels.height, self.padding)

    def merge(self, poses: Poses, people: Detections) -> Poses:
        """Give the poses the detector's boxes and the geometric mean of both networks' scores, and drop duplicates.

        Both networks score people low who are partly hidden. The mean has the order of the product, and leaves these
        people above the thresholds of trackers and clients.
        """
        poses = replace(poses, boxes=people.boxes, scores=np.sqrt(poses.scores * people.scores))
        return distinct(poses.select(poses.scores > 0), _SAME_PERSON)


@dataclass(kw_only=True, eq=False)
class MoveNetSingle(MoveNetCrops):
    """MoveNet Lightning and Thunder, a top-down estimator. Their ending takes one crop at a time.

    The only output (n, 1, 17, 3): y, x, score of each keypoint, in 0..1 of the input.
    """

    outputs = None

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        rows = np.asarray(next(iter(outputs.values())), np.float32)[:, 0]
        size = np.array([self.pixels.width, self.pixels.height], np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # garbage, which scores nothing
            points = rows[..., 1::-1] * size
        return poses_from_input(points, rows[..., 2], regions, self.pixels, self.skeleton)
