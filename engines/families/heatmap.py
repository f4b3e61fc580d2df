"""Top-down estimators with one heatmap per keypoint: Simple Baselines, HRNet, CPN, TinyPose and others."""

from __future__ import annotations

from engines.families.top_down import TopDownFamily
from engines.inputs import PixelInput
from engines.ops.keypoint_decoding import REFINEMENTS, HeatmapDecoder
from engines.skeletons import Skeleton


class Heatmap(TopDownFamily):
    """The first output is heatmaps (n, K, H, W); each cell is `input width / W` input pixels wide.

    refinement: "quarter" (the papers' method), "dark", or "blurred" (CPN's). output: the name of the heatmaps among the
    graph's outputs. scale: multiplies the heatmaps' values into scores in 0..1; CPN's reach 255. flip: run each crop
    and its mirror image, at twice the cost, and average the heatmaps. flip_shift: move those of the mirror image one
    cell to the right first, as Simple Baselines and HRNet require.
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
        decoder = HeatmapDecoder(pixels.width, pixels.height, refinement, scale, pairs, flip_shift)
        super().__init__(pixels, skeleton, decoder)
        self.outputs = None if output is None else (output,)
        self.flip = flip
