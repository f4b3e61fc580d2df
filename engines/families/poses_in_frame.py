"""The base of top-down estimators: from keypoints in input pixels to poses in the frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from engines.families.base import Shapes, dimension
from engines.families.regions import person_regions
from engines.inputs import Arrays, PixelInput
from engines.ops.keypoint_decoding import KeypointDecoder, decoded_on_device
from engines.ops.nms import group
from engines.ops.oks import oks
from engines.poses import Detections, Floats, Poses, Region, to_frame
from engines.skeletons import Skeleton

CONFIDENT = 0.2
"""A person's score is the mean score of the keypoints above this, as in Simple Baselines' evaluation (in_vis_thre)."""

_MAX_SCORE = 10.0
"""Networks aim at 1 and may exceed it; scores above this come from a broken graph."""


@dataclass(eq=False)
class PersonCrops:
    """An `Estimator` without `decode`."""

    pixels: PixelInput
    skeleton: Skeleton

    def regions(self, people: Detections) -> list[Region]:
        return person_regions(people, self.pixels.width, self.pixels.height)

    def merge(self, poses: Poses, people: Detections) -> Poses:
        """Give the poses the detector's boxes, which are tighter, and the product of both networks' scores.

        Poses without a confident keypoint are dropped. The detector has already suppressed duplicates.
        """
        poses = replace(poses, boxes=people.boxes, scores=poses.scores * people.scores)
        return poses.select(poses.scores > 0)


@dataclass(eq=False)
class TopDownFamily(PersonCrops):
    """An estimator with a position and a score for each keypoint: see `Estimator` and `HasKeypointDecoder`."""

    keypoint_decoder: KeypointDecoder = field(init=False)
    outputs: tuple[str, ...] | None = field(init=False, default=None)

    def keypoint_count(self, outputs: Shapes) -> float | None:
        """See `HasKeypointCount`. The first output has the keypoints as its first dimension."""
        return dimension(outputs, self.outputs[0] if self.outputs else next(iter(outputs)), 0)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        points, scores = decoded_on_device(outputs) or self.keypoint_decoder.decode(outputs)
        return poses_from_input(points, scores, regions, self.pixels, self.skeleton)


def distinct(poses: Poses, same_person: float, *, either_size: bool = False) -> Poses:
    """The poses, best first, without those whose OKS with a better one exceeds `same_person`.

    either_size: OKS depends on the size of the person; take the larger OKS of a pair.
    """
    if len(poses) < 2:
        return poses
    areas = np.prod(poses.boxes[:, 2:] - poses.boxes[:, :2], axis=1)
    alike = oks(poses.keypoints, poses.keypoints, areas, poses.skeleton.sigmas, poses.keypoint_scores)
    if either_size:
        alike = np.maximum(alike, alike.T)
    return poses.select(group(alike, poses.scores, same_person)[0])


def poses_from_input(
    points: Floats, scores: Floats, regions: Sequence[Region], pixels: PixelInput, skeleton: Skeleton
) -> Poses:
    """Poses in frame pixels from (n, K, 2) points in input pixels and their (n, K) scores.

    Scores are clipped to 0..1; garbage keypoints get score 0 at the centre of their region. A person's score is the
    mean score of its confident keypoints, its box is the region.
    """
    sane = np.isfinite(points).all(axis=-1) & (np.abs(scores) < _MAX_SCORE)  # false for NaN and infinity
    middle = np.array([pixels.width / 2, pixels.height / 2], np.float32)
    points = np.where(sane[..., None], points, middle)
    scores = np.where(sane, scores, 0.0).clip(0.0, 1.0).astype(np.float32)
    confident = scores > CONFIDENT
    person = (scores * confident).sum(axis=1) / np.maximum(confident.sum(axis=1), 1)
    sides = np.array([(r.center_x, r.center_y, r.width / 2, r.height / 2) for r in regions], np.float32).reshape(-1, 4)
    boxes = np.concatenate([sides[:, :2] - sides[:, 2:], sides[:, :2] + sides[:, 2:]], axis=1)
    keypoints = to_frame(points, regions, pixels.width, pixels.height)
    return Poses(keypoints, scores, boxes, person.astype(np.float32), skeleton)
