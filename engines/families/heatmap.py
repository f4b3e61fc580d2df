"""Top-down estimators that give one heatmap per keypoint: Simple Baselines, HRNet, CPN, TinyPose and their like."""

from __future__ import annotations

from engines.families.top_down import TopDownFamily
from engines.inputs import PixelInput
from engines.ops.reading import REFINEMENTS, HeatmapReading
from engines.skeletons import Skeleton


class Heatmap(TopDownFamily):
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
        if refinement not in REFINEMENTS:
            raise ValueError(f"refinement {refinement!r} is not one of {', '.join(REFINEMENTS)}")
        pairs = skeleton.pairs if flip else None
        reading = HeatmapReading(pixels.width, pixels.height, refinement, scale, pairs, flip_shift)
        super().__init__(pixels, skeleton, reading)
        self.outputs = None if output is None else (output,)
        self.flip = flip
