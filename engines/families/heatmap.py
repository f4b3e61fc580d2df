"""Top-down estimators that give one heatmap per keypoint: Simple Baselines, HRNet, TinyPose and their like."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.families.regions import person_regions
from engines.families.top_down import poses_from_input, weighed
from engines.ops.peaks import find_peaks, refine_dark, refine_quarter
from engines.poses import Detections, Poses, Region
from engines.runtimes.base import Arrays, PixelInput
from engines.skeletons import Skeleton

_REFINEMENTS = {"quarter": refine_quarter, "dark": refine_dark}


class Heatmap:
    """The first output is heatmaps (n, K, H, W); a cell's x spans `input width / W` input pixels from x times that.

    refinement: "quarter" (the papers') or "dark". output: the name of the heatmaps among the graph's outputs.
    Raises ValueError for an unknown refinement.
    """

    def __init__(
        self, pixels: PixelInput, skeleton: Skeleton, *, refinement: str = "quarter", output: str | None = None
    ) -> None:
        if refinement not in _REFINEMENTS:
            raise ValueError(f"refinement {refinement!r} is not one of {', '.join(_REFINEMENTS)}")
        self.pixels = pixels
        self.skeleton = skeleton
        self.outputs = None if output is None else (output,)
        self._refine = _REFINEMENTS[refinement]

    def regions(self, people: Detections) -> list[Region]:
        """See `Estimator.regions`."""
        return person_regions(people, self.pixels.width, self.pixels.height)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        """See `Estimator.decode`."""
        heatmaps = np.asarray(next(iter(outputs.values())), np.float32)
        height, width = heatmaps.shape[-2:]
        peaks, scores = find_peaks(heatmaps)
        stride = np.array([self.pixels.width / width, self.pixels.height / height], np.float32)
        points = self._refine(heatmaps, peaks) * stride
        return poses_from_input(points, scores, regions, self.pixels, self.skeleton)

    def merge(self, poses: Poses, people: Detections) -> Poses:
        """See `Estimator.merge`."""
        return weighed(poses, people)
