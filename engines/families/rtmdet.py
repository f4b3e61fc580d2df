"""RTMDet, an anchor-free one-stage detector (Lyu et al., 2022), as MMDeploy exports it.

Its graph suppresses duplicates itself, and doing it again changes nothing; plans give the candidates before that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.families.whole_frame import WholeFrameDetector
from engines.inputs import Arrays
from engines.ops.nms import nms
from engines.poses import Detections, Region

_PERSON = 0


@dataclass(kw_only=True, eq=False)
class RTMDet(WholeFrameDetector):
    """Outputs `dets` (n, k, 5) x1, y1, x2, y2, score in input pixels and `labels` (n, k), padded with -1.

    min_score: detections under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person.
    """

    min_score: float = 0.3
    overlap: float = 0.6

    outputs = ("dets", "labels")

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Detections]:
        dets = outputs["dets"].astype(np.float32)
        kept = (dets[..., 4] >= self.min_score) & (outputs["labels"] == _PERSON)
        found = []
        for item, keep, region in zip(dets, kept, regions, strict=True):
            people = self._detections(item[keep, :4], item[keep, 4], region)
            found.append(people.select(nms(people.boxes, people.scores, self.overlap)))
        return found
