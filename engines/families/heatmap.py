"""Top-down estimators with one heatmap per keypoint: Simple Baselines, HRNet, CPN, TinyPose, ViTPose and others."""

from __future__ import annotations

from dataclasses import dataclass

from engines.families.poses_in_frame import TopDownFamily
from engines.families.regions import with_outer_pixels_at_edges
from engines.ops.keypoint_decoding import REFINEMENTS, HeatmapDecoder
from engines.poses import Detections, Region


@dataclass(kw_only=True, eq=False)
class Heatmap(TopDownFamily):
    """The first output is heatmaps (n, K, H, W); each cell is `input width / W` input pixels wide.

    refinement: "quarter" (the papers' method), "dark", "blurred" (CPN's), or "udp" (ViTPose's, and that of other
    networks trained with unbiased data processing, whose crops and cells are measured between the outermost pixels).
    output: the name of the heatmaps among the graph's outputs. scale: multiplies the heatmaps' values into scores in
    0..1; CPN's reach 255. flip: run each crop and its mirror image, at twice the cost, and average the heatmaps.
    flip_shift: move those of the mirror image one cell to the right first, as Simple Baselines and HRNet require.
    Raises ValueError for an unknown refinement.
    """

    refinement: str = "quarter"
    output: str | None = None
    scale: float = 1.0
    flip: bool = False
    flip_shift: bool = True

    def __post_init__(self) -> None:
        if self.refinement not in REFINEMENTS:
            raise ValueError(f"refinement {self.refinement!r} is not one of {', '.join(REFINEMENTS)}")
        size, pairs = (self.pixels.width, self.pixels.height), self.skeleton.pairs if self.flip else None
        self.keypoint_decoder = HeatmapDecoder(*size, self.refinement, self.scale, pairs, self.flip_shift)
        self.outputs = None if self.output is None else (self.output,)

    def regions(self, people: Detections) -> list[Region]:
        regions = super().regions(people)
        if self.refinement != "udp":
            return regions
        return [with_outer_pixels_at_edges(region, self.pixels.width, self.pixels.height) for region in regions]
