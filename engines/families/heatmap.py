"""Top-down estimators that give one heatmap per keypoint: Simple Baselines, HRNet, CPN, TinyPose and their like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from engines.families.base import MIRRORED
from engines.families.regions import person_regions
from engines.families.top_down import poses_from_input, weighed
from engines.ops.flip import unmirrored
from engines.ops.peaks import blurred_peaks, find_peaks, refine_dark, refine_quarter
from engines.poses import Detections, Floats, Poses, Region
from engines.runtimes.base import Arrays, PixelInput
from engines.skeletons import Skeleton


def _refined(refine: Callable[[Floats, Floats], Floats]) -> Callable[[Floats], tuple[Floats, Floats]]:
    def read(heatmaps: Floats) -> tuple[Floats, Floats]:
        peaks, scores = find_peaks(heatmaps)
        return refine(heatmaps, peaks), scores

    return read


_REFINEMENTS: Mapping[str, Callable[[Floats], tuple[Floats, Floats]]] = MappingProxyType(
    {"quarter": _refined(refine_quarter), "dark": _refined(refine_dark), "blurred": blurred_peaks}
)


class Heatmap:
    """The first output is heatmaps (n, K, H, W); a cell's x spans `input width / W` input pixels from x times that.

    refinement: "quarter" (the papers'), "dark", or "blurred" (CPN's). output: the name of the heatmaps among the
    graph's outputs. scale: makes the heatmaps' values scores in 0..1; CPN's reach 255. flip: the network sees each crop
    and its mirror image, at twice the cost, and the heatmaps are averaged; flip_shift: those of the mirror image are
    moved a cell to the right first, as Simple Baselines' and HRNet's should be.
    Raises ValueError for an unknown refinement.
    """

    def __init__(
        self,
        pixels: PixelInput,
        skeleton: Skeleton,
        *,
        refinement: str = "quarter",
        output: str | None = None,
        scale: float = 1.0,
        flip: bool = False,
        flip_shift: bool = True,
    ) -> None:
        if refinement not in _REFINEMENTS:
            raise ValueError(f"refinement {refinement!r} is not one of {', '.join(_REFINEMENTS)}")
        self.pixels = pixels
        self.skeleton = skeleton
        self.outputs = None if output is None else (output,)
        self.flip = flip
        self._shift = flip_shift
        self._read = _REFINEMENTS[refinement]
        self._scale = np.float32(scale)

    def regions(self, people: Detections) -> list[Region]:
        """See `Estimator.regions`."""
        return person_regions(people, self.pixels.width, self.pixels.height)

    @np.errstate(invalid="ignore", over="ignore")  # maps of NaN and infinity give nobody, and no warning
    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> Poses:
        """See `Estimator.decode`."""
        name = next(iter(outputs))
        heatmaps = np.asarray(outputs[name], np.float32)
        if self.flip:
            mirrored = np.asarray(outputs[name + MIRRORED], np.float32)
            heatmaps = np.float32(0.5) * (heatmaps + unmirrored(mirrored, self.skeleton.pairs, shift=self._shift))
        height, width = heatmaps.shape[-2:]
        cells, values = self._read(heatmaps)
        stride = np.array([self.pixels.width / width, self.pixels.height / height], np.float32)
        return poses_from_input(cells * stride, values * self._scale, regions, self.pixels, self.skeleton)

    def merge(self, poses: Poses, people: Detections) -> Poses:
        """See `Estimator.merge`."""
        return weighed(poses, people)
