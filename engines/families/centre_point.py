"""Detectors that find people as the peaks of a heatmap of centres: CenterNet (Zhou et al., 2019) and its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engines.families.whole_frame import WholeFrameDetector, best_boxes
from engines.inputs import Arrays
from engines.ops.activations import sigmoid
from engines.ops.peaks import local_maxima
from engines.poses import Detections, Floats, Region

_NEIGHBOURS = 3  # cells along a side, as in the paper (section 3.3)


@dataclass(kw_only=True, eq=False)
class CentrePoint(WholeFrameDetector):
    """Three outputs on one grid of cells: a heatmap for each class, the size of the box, and where its centre is in the
    cell.

    heatmap, size, offset: their names; offset is None for graphs without. channels_last: (n, H, W, channels) instead of
    (n, channels, H, W). logits: whether the heatmap needs the sigmoid. yx: size and offset are y, x instead of x, y.
    size_in_pixels: the size is in input pixels instead of cells. person: the index of the class. min_score: detections
    under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person.
    """

    heatmap: str = "hm"
    size: str = "wh"
    offset: str | None = "reg"
    channels_last: bool = False
    logits: bool = True
    yx: bool = False
    size_in_pixels: bool = False
    person: int = 0
    min_score: float = 0.3
    overlap: float = 0.7

    def __post_init__(self) -> None:
        self.outputs = (self.heatmap, self.size, *((self.offset,) if self.offset else ()))

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Detections]:
        heatmaps, sizes, *offsets = (self._channels_first(outputs[name]) for name in self.outputs)
        return [
            self._people(heatmaps[n, self.person], sizes[n], offsets[0][n] if offsets else None, region)
            for n, region in enumerate(regions)
        ]

    def _channels_first(self, values: Floats) -> Floats:
        array = np.asarray(values, np.float32)
        return array.transpose(0, 3, 1, 2) if self.channels_last else array

    def _people(self, heatmap: Floats, sizes: Floats, offsets: Floats | None, region: Region) -> Detections:
        """The people of one image, from (H, W), (2, H, W) and (2, H, W)."""
        scores = np.ascontiguousarray(sigmoid(heatmap) if self.logits else heatmap)
        y, x = local_maxima(scores, self.min_score, _NEIGHBOURS).T
        height, width = scores.shape
        cell = np.array([self.pixels.width / width, self.pixels.height / height], np.float32)
        order = [1, 0] if self.yx else [0, 1]
        with np.errstate(invalid="ignore", over="ignore"):  # garbage, which is dropped later
            centres = np.stack([x, y], axis=-1).astype(np.float32)
            if offsets is not None:
                centres = centres + offsets[order][:, y, x].T
            centres = centres * cell
            half = sizes[order][:, y, x].T.clip(min=0) * (1 if self.size_in_pixels else cell) / 2
            boxes = np.concatenate([centres - half, centres + half], axis=1).astype(np.float32)
        found = scores[y, x]
        best = best_boxes(boxes, found, self.min_score, self.overlap)
        return self._detections(boxes[best], found[best], region)
