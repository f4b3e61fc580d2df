"""What estimators of one person per region share, once their family has read keypoints in input pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engines.families.regions import person_regions
from engines.inputs import Arrays, PixelInput
from engines.ops.reading import Reading, already_read
from engines.poses import Detections, Floats, Poses, Region, to_frame
from engines.skeletons import Skeleton

CONFIDENT = 0.2
"""Keypoints scored above it make up a person's score, as in Simple Baselines' evaluation (in_vis_thre)."""

_MAX_SCORE = 10.0
"""Networks aim at 1 and may go beyond; what is beyond this comes from a broken graph."""


class TopDownFamily:
    """An estimator whose answer for a crop is a place and a score for each keypoint: see `Estimator` and `Reads`."""

    outputs: tuple[str, ...] | None = None

    def __init__(self, pixels: PixelInput, skeleton: Skeleton, reading: Reading) -> None:
        self.pixels = pixels
        self.skeleton = skeleton
        self.reading = reading

    def regions(self, people: Detections) -> list[Region]:
        """See `Estimator.regions`."""
        return person_regions(people, self.pixels.width, self.pixels.height)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        """See `Estimator.decode`."""
        points, scores = already_read(outputs) or self.reading.read(outputs)
        return poses_from_input(points, scores, regions, self.pixels, self.skeleton)

    def merge(self, poses: Poses, people: Detections) -> Poses:
        """See `Estimator.merge`."""
        return weighed(poses, people)


def poses_from_input(
    points: Floats, scores: Floats, regions: Sequence[Region], pixels: PixelInput, skeleton: Skeleton
) -> Poses:
    """Poses in frame pixels from (n, K, 2) points in input pixels and their (n, K) scores.

    Scores are clipped to 0..1; a keypoint that is garbage gets score 0 at its region's centre. The person's score
    is the mean of its confident keypoints' scores, its box the region.
    """
    sane = np.isfinite(points).all(axis=-1) & (np.abs(scores) < _MAX_SCORE)  # nor NaN, nor inf
    middle = np.array([pixels.width / 2, pixels.height / 2], np.float32)
    points = np.where(sane[..., None], points, middle)
    scores = np.where(sane, scores, 0.0).clip(0.0, 1.0).astype(np.float32)
    confident = scores > CONFIDENT
    person = (scores * confident).sum(axis=1) / np.maximum(confident.sum(axis=1), 1)
    sides = np.array([(r.center_x, r.center_y, r.width / 2, r.height / 2) for r in regions], np.float32).reshape(-1, 4)
    boxes = np.concatenate([sides[:, :2] - sides[:, 2:], sides[:, :2] + sides[:, 2:]], axis=1)
    keypoints = to_frame(points, regions, pixels.width, pixels.height)
    return Poses(keypoints, scores, boxes, person.astype(np.float32), skeleton)


def weighed(poses: Poses, people: Detections) -> Poses:
    """The poses with the detector's boxes, which are tighter than regions, and both networks' confidence as score.

    Who has no confident keypoint is nobody. The detector has suppressed duplicates already.
    """
    poses = replace(poses, boxes=people.boxes, scores=poses.scores * people.scores)
    return poses.select(poses.scores > 0)
