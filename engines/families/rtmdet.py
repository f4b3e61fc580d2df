"""RTMDet, an anchor-free one-stage detector (Lyu et al., 2022), as MMDeploy exports it.

Its graph suppresses by itself, and a second time changes nothing; plans have the candidates from before that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from engines.families.regions import letterbox
from engines.ops.nms import nms
from engines.poses import Detections, Region, to_frame
from engines.runtimes.base import Arrays, PixelInput

_PERSON = 0


class RTMDet:
    """Outputs `dets` (n, k, 5) x1, y1, x2, y2, score in input pixels and `labels` (n, k), padded with -1.

    min_score: detections under it are dropped, 0..1. iou: of two that overlap more than this, the better stays.
    """

    outputs = ("dets", "labels")

    def __init__(self, pixels: PixelInput, *, min_score: float = 0.3, iou: float = 0.6) -> None:
        self.pixels = pixels
        self.min_score = min_score
        self.iou = iou

    def regions(self, width: int, height: int) -> list[Region]:
        """See `Detector.regions`: the whole frame at the top left of the input."""
        return [letterbox(width, height, self.pixels.width, self.pixels.height)]

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Detections]:
        """See `Detector.decode`."""
        dets = outputs["dets"].astype(np.float32)
        kept = (dets[..., 4] >= self.min_score) & (outputs["labels"] == _PERSON)
        kept &= (np.abs(dets[..., :4]) < 8 * max(self.pixels.width, self.pixels.height)).all(
            axis=-1
        )  # not NaN, not inf
        return [self._people(item[keep], region) for item, keep, region in zip(dets, kept, regions, strict=True)]

    def merge(self, parts: Sequence[Detections], regions: Sequence[Region]) -> Detections:  # noqa: ARG002
        """See `Detector.merge`: there is only the whole frame."""
        return parts[0]

    def _people(self, dets: np.ndarray[tuple[int, int], np.dtype[np.float32]], region: Region) -> Detections:
        dets = dets[nms(dets[:, :4], dets[:, 4], self.iou)]
        corners = to_frame(dets[None, :, :4].reshape(1, -1, 2), [region], self.pixels.width, self.pixels.height)
        return Detections(corners.reshape(-1, 4), dets[:, 4].clip(0.0, 1.0))
