"""Top-down estimators that classify x and y separately: SimCC (Li et al., 2022), RTMPose (Jiang et al., 2023)."""

from __future__ import annotations

from dataclasses import dataclass

from engines.families.top_down import TopDownFamily
from engines.ops.keypoint_decoding import SIMCC_OUTPUTS, SimCCDecoder


@dataclass(kw_only=True, eq=False)
class SimCC(TopDownFamily):
    """Outputs `simcc_x` (n, K, split x width) and `simcc_y` (n, K, split x height).

    split: bins per input pixel (2 for RTMPose).
    """

    split: float = 2.0

    def __post_init__(self) -> None:
        self.keypoint_decoder = SimCCDecoder(self.split)
        self.outputs = SIMCC_OUTPUTS
