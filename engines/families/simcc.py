"""Top-down estimators that classify x and y apart: SimCC (Li et al., 2022) and RTMPose (Jiang et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.families.regions import person_regions
from engines.families.top_down import poses_from_input, weighed
from engines.poses import Detections, Floats, Poses, Region
from engines.runtimes.base import Arrays, PixelInput
from engines.skeletons import Skeleton


def decode_simcc(simcc_x: Floats, simcc_y: Floats) -> tuple[Floats, Floats]:
    """The best bin along x and y: (n, K, bins x) and (n, K, bins y) to bins (n, K, 2) and scores (n, K).

    The score is the smaller of the two maxima; where it is not above 0 the bin is -1.
    """
    bins = np.stack([simcc_x.argmax(axis=-1), simcc_y.argmax(axis=-1)], axis=-1).astype(np.float32)
    scores = np.minimum(simcc_x.max(axis=-1), simcc_y.max(axis=-1))
    return np.where(scores[..., None] > 0, bins, np.float32(-1.0)), scores


class SimCC:
    """Outputs `simcc_x` (n, K, split x width) and `simcc_y` (n, K, split x height).

    split: bins per input pixel (2 for RTMPose).
    """

    outputs = ("simcc_x", "simcc_y")

    def __init__(self, pixels: PixelInput, skeleton: Skeleton, *, split: float = 2.0) -> None:
        self.pixels = pixels
        self.skeleton = skeleton
        self._split = split

    def regions(self, people: Detections) -> list[Region]:
        """See `Estimator.regions`."""
        return person_regions(people, self.pixels.width, self.pixels.height)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        """See `Estimator.decode`."""
        x, y = (np.asarray(outputs[name], np.float32) for name in self.outputs)
        bins, scores = decode_simcc(x, y)
        return poses_from_input(bins / np.float32(self._split), scores, regions, self.pixels, self.skeleton)

    def merge(self, poses: Poses, people: Detections) -> Poses:
        """See `Estimator.merge`."""
        return weighed(poses, people)
