"""Top-down estimators that classify x and y apart: SimCC (Li et al., 2022) and RTMPose (Jiang et al., 2023)."""

from __future__ import annotations

from engines.families.top_down import TopDownFamily
from engines.inputs import PixelInput
from engines.ops.reading import SIMCC_OUTPUTS, SimCCReading
from engines.skeletons import Skeleton


class SimCC(TopDownFamily):
    """Outputs `simcc_x` (n, K, split x width) and `simcc_y` (n, K, split x height).

    split: bins per input pixel (2 for RTMPose).
    """

    outputs = SIMCC_OUTPUTS

    def __init__(self, pixels: PixelInput, skeleton: Skeleton, *, split: float = 2.0) -> None:
        super().__init__(pixels, skeleton, SimCCReading(split))
