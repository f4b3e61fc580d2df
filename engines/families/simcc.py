"""Top-down estimators that classify x and y separately: SimCC (Li et al., 2022), RTMPose (Jiang et al., 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engines.families.poses_in_frame import TopDownFamily
from engines.ops.keypoint_decoding import SIMCC_OUTPUTS, SimCCDecoder


@dataclass(kw_only=True, eq=False)
class SimCC(TopDownFamily):
    """Outputs `simcc_x` (n, K, split x width) and `simcc_y` (n, K, split x height).

    split: bins per input pixel (2 for RTMPose). names: what the graph calls the two outputs.
    Raises ValueError for other than two names.
    """

    split: float = 2.0
    names: Sequence[str] = SIMCC_OUTPUTS

    def __post_init__(self) -> None:
        if len(set(self.names)) != 2:
            raise ValueError(f"names {list(self.names)} must be two: the output along x, and the one along y")
        self.outputs = tuple(self.names)
        self.keypoint_decoder = SimCCDecoder(self.split, self.outputs)
