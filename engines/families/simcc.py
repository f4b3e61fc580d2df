"""Top-down estimators that classify x and y separately: SimCC (Li et al., 2022), RTMPose (Jiang et al., 2023)."""

from __future__ import annotations

from engines.families.top_down import TopDownFamily
from engines.inputs import PixelInput
from engines.ops.keypoint_decoding import SIMCC_OUTPUTS, SimCCDecoder
from engines.skeletons import Skeleton


class SimCC(TopDownFamily):
    """Outputs `simcc_x` (n, K, split x width) and `simcc_y` (n, K, split x height).

    split: bins per input pixel (2 for RTMPose).
    """

    outputs = SIMCC_OUTPUTS

    def __init__(self, pixels: PixelInput, skeleton: Skeleton, *, split: float = 2.0) -> None:
        super().__init__(pixels, skeleton, SimCCDecoder(split))
