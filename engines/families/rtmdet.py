"""RTMDet, an anchor-free one-stage detector (Lyu et al., 2022), as MMDeploy exports it.

Its graph suppresses duplicates itself, and doing it again changes nothing; plans give the candidates before that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.families.whole_frame import WholeFrameDetector, detections_in_frame
from engines.inputs import Arrays, PixelInput
from engines.ops.nms import nms
from engines.poses import Detections, Floats, Region

_PERSON = 0


class RTMDet(WholeFrameDetector):
    """Outputs `dets` (n, k, 5) x1, y1, x2, y2, score in input pixels and `labels` (n, k), padded with -1.

    min_score: detections under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person.
    """

    outputs = ("dets", "labels")

    def __init__(self, pixels: PixelInput, *, min_score: float = 0.3, overlap: float = 0.6) -> None:
        super().__init__(pixels)
        self._min_score = min_score
        self._overlap = overlap

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Detections]:
        """See `Detector.decode`."""
        dets = outputs["dets"].astype(np.float32)
        kept = (dets[..., 4] >= self._min_score) & (outputs["labels"] == _PERSON)
        return [self._people(item[keep], region) for item, keep, region in zip(dets, kept, regions, strict=True)]

    def _people(self, dets: Floats, region: Region) -> Detections:
        people = detections_in_frame(dets[:, :4], dets[:, 4], region, self.pixels)
        return people.select(nms(people.boxes, people.scores, self._overlap))
