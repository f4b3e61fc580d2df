"""OpenPose and similar networks: heatmaps, and fields along limbs (Cao et al., 2017); see `limb_matching`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from engines.families.limb_matching import assemble, limb_scores, matches, peaks
from engines.families.whole_frame import WholeFrameFamily, missing_at_mean
from engines.inputs import Arrays
from engines.poses import Floats, Poses, Region
from engines.skeletons import COCO_17

# The meaning of the channels: the keypoints of OpenPose's COCO model, the limbs, and the channel of each limb's field
# (x, then y). The last two limbs are redundant.
_KEYPOINTS = (
    "nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "right_eye", "left_eye",
    "right_ear", "left_ear",
)  # fmt: skip
_LIMBS = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17), (2, 16), (5, 17),
)  # fmt: skip
_CHANNELS = (12, 20, 14, 16, 22, 24, 0, 2, 4, 6, 8, 10, 28, 30, 34, 32, 36, 18, 26)
_ORDER = [_KEYPOINTS.index(name) for name in COCO_17.keypoints]
_HALF = np.float32(0.5)
_MAX_HEAT, _MAX_FIELD = 10.0, 100.0  # the network aims at 1; values above these come from a broken graph


@dataclass(kw_only=True, eq=False)
class PartAffinity(WholeFrameFamily):
    """Two outputs: heatmaps (n, 18 or 19, H, W), the last of 19 the background, and fields (n, 38, H, W).

    heatmaps, fields: their names in the graph, by default those of Open Model Zoo's human-pose-estimation-0001.
    upsample: peaks are searched for in heatmaps enlarged by this factor. min_score: of a keypoint, 0..1. min_keypoints:
    people with fewer are dropped. max_people: bounds the candidates for each keypoint. The neck is only used to join
    limbs; poses do not contain it.
    Raises ValueError for another skeleton than COCO's.
    """

    heatmaps: str = "Mconv7_stage2_L2"
    fields: str = "Mconv7_stage2_L1"
    upsample: int = 2
    min_score: float = 0.1
    min_keypoints: int = 3
    max_people: int = 50

    def __post_init__(self) -> None:
        if self.skeleton != COCO_17:
            raise ValueError(
                f"skeleton {self.skeleton.name}: the fields' limbs are those of OpenPose's {COCO_17.name} model"
            )
        if not 1 <= self.upsample <= 8:
            raise ValueError(f"upsample {self.upsample} is not one of 1..8")
        self.outputs = (self.heatmaps, self.fields)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        """A person's score is the mean score of all keypoints; missing ones count as 0."""
        heatmaps, fields = (np.asarray(outputs[name], np.float32) for name in self.outputs)
        return [self._people(*item) for item in zip(heatmaps[:, : len(_KEYPOINTS)], fields, regions, strict=True)]

    def _people(self, heatmaps: Floats, fields: Floats, region: Region) -> Poses:
        if not (np.abs(heatmaps).max() < _MAX_HEAT and np.abs(fields).max() < _MAX_FIELD):  # false for NaN
            return Poses.empty(self.skeleton)
        found = self._candidates(heatmaps)
        pairs = [
            matches(limb_scores(_field(fields, channel), found[first][:, :2], found[second][:, :2]))
            for (first, second), channel in zip(_LIMBS, _CHANNELS, strict=True)
        ]
        people = [person for person in assemble(_LIMBS, pairs) if len(person) >= self.min_keypoints]
        keypoints = np.zeros((len(people), len(_KEYPOINTS), 3), np.float32)
        for keypoint, rows in enumerate(found):
            whose = [n for n, person in enumerate(people) if keypoint in person]
            keypoints[whose, keypoint] = rows[[people[n][keypoint] for n in whose]]
        # A cell's value belongs to the centre of the pixels it covers.
        height, width = heatmaps.shape[1:]
        stride = np.array([self.pixels.width / width, self.pixels.height / height], np.float32)
        points, scores = (keypoints[:, _ORDER, :2] + _HALF) * stride - _HALF, keypoints[:, _ORDER, 2]
        points = missing_at_mean(points, scores)
        return self._poses(points, scores, scores.mean(axis=1), region)

    def _candidates(self, heatmaps: Floats) -> list[Floats]:
        """For each of the (K, H, W) heatmaps, (m, 3) x, y in fractional cells and score."""
        height, width = heatmaps.shape[1:]
        maps = np.ascontiguousarray(np.moveaxis(heatmaps, 0, -1))
        large = cv2.resize(maps, (width * self.upsample, height * self.upsample), interpolation=cv2.INTER_CUBIC)
        found = peaks(large.astype(np.float32, copy=False), self.min_score, self.max_people)
        for rows in found:
            rows[:, :2] = (rows[:, :2] + _HALF) / np.float32(self.upsample) - _HALF
        return found


def _field(fields: Floats, channel: int) -> Floats:
    """The (H, W, 2) field at a channel and the next."""
    return np.ascontiguousarray(np.moveaxis(fields[channel : channel + 2], 0, -1))
