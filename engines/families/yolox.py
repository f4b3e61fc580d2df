"""YOLOX, an anchor-free detector (Ge et al., 2021), exported with undecoded boxes.

Exports with suppression in the graph have RTMDet's outputs and use its family.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engines.families.whole_frame import WholeFrameDetector, best_boxes, corners
from engines.inputs import Arrays
from engines.poses import Detections, Floats, Region

_STRIDES = (8, 16, 32)


@lru_cache(maxsize=8)
def grid(width: int, height: int) -> Floats:
    """The A anchor points: (A, 3) x, y in cells of their own stride, and stride in input pixels."""
    layers = []
    for stride in _STRIDES:
        y, x = np.mgrid[0 : height // stride, 0 : width // stride]
        layers.append(np.stack([x.ravel(), y.ravel(), np.full(x.size, stride)], axis=-1))
    points = np.concatenate(layers).astype(np.float32)
    points.flags.writeable = False
    return points


def decode_yolox(raw: Floats, width: int, height: int) -> Floats:
    """Boxes (..., A, 4) centre x, y, width, height in input pixels, from the first four of (..., A, 4 or more)."""
    points = grid(width, height)
    stride = points[:, 2:]
    with np.errstate(over="ignore", invalid="ignore"):  # garbage, which is dropped later
        boxes: Floats = np.concatenate([(raw[..., :2] + points[:, :2]) * stride, np.exp(raw[..., 2:4]) * stride], -1)
    return boxes


@dataclass(kw_only=True, eq=False)
class YOLOX(WholeFrameDetector):
    """The first output (n, A, 5 + classes): box, objectness and class scores at each point of three grids.

    person: the index of the class, or a list of several whose objects are found alike (animals). min_score: detections
    under it are dropped, 0..1. overlap: boxes with a larger IoU are the same person.
    Raises ValueError for an input whose sides are not multiples of 32.
    """

    person: int | Sequence[int] = 0
    min_score: float = 0.3
    overlap: float = 0.45

    outputs = None

    def __post_init__(self) -> None:
        width, height = self.pixels.width, self.pixels.height
        if width % _STRIDES[-1] or height % _STRIDES[-1]:
            raise ValueError(f"input {width} x {height}: its sides must be multiples of {_STRIDES[-1]}")
        classes = [self.person] if isinstance(self.person, int) else self.person
        if not classes or min(classes) < 0:
            raise ValueError(f"person {self.person} is not the index of a class, or a list of some")
        self._columns = 5 + np.array(classes)

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Detections]:
        raw = np.asarray(next(iter(outputs.values())), np.float32)
        with np.errstate(over="ignore", invalid="ignore"):
            scores = raw[..., 4] * raw[..., self._columns].max(axis=-1)
        boxes = corners(decode_yolox(raw, self.pixels.width, self.pixels.height))
        found = []
        for box, score, region in zip(boxes, scores, regions, strict=True):
            best = best_boxes(box, score, self.min_score, self.overlap)
            found.append(self._detections(box[best], score[best], region))
        return found
