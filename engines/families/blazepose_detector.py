"""BlazePose's detector: finds faces and predicts the bodies below them (Bazarevsky et al., 2020, section 2.2).

The graph's properties are from MediaPipe's description of it (google-ai-edge/mediapipe: modules/pose_detection/
pose_detection_cpu.pbtxt and the calculators named there).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.families.regions import letterbox
from engines.inputs import Arrays, PixelInput
from engines.ops.activations import sigmoid
from engines.ops.nms import group, weighted_nms
from engines.ops.oks import oks
from engines.poses import Detections, Floats, Region, to_frame

BODY_CENTRE, BODY_TOP = 0, 1
"""Alignment points: the middle of the hips, and the point above it, along the spine, on the circle around the body."""

_GRIDS = ((8, 2), (16, 2), (32, 6))  # (stride, boxes per cell); the graph's three layers of stride 32 interleave
_SAME_FACE = 0.3  # IoU
_SAME_BODY = 0.5  # similarity of the alignment points, see `merge`
_ALIGNMENT_SIGMAS = np.full(4, 0.1, np.float32)  # how much they vary between tiles, relative to the body's radius
_MAX_CANDIDATES = 256  # bounds the work for unusual images; a crowd gives a few dozen
_MAX_BODY = 2.5  # tile sides
_MAX_REACH = 4.0  # input sizes; bodies further from their cell are dropped
_NO_PEOPLE = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 4, 2), np.float32))


@dataclass(eq=False)
class BlazePoseDetector:
    """Outputs, per cell of three grids: a face box, four alignment points, and a logit.

    tiles: also search tiles of the frame, for small people: for each number, that many tiles along the longer side, and
    as many rows as needed. overlap: the lowest share of a tile that overlaps with its neighbour, 0..1.
    min_score: detections under it are dropped, 0..1.
    Raises ValueError for numbers out of their range.
    """

    outputs = ("Identity", "Identity_1")

    pixels: PixelInput
    _: KW_ONLY
    tiles: Sequence[int] = ()
    overlap: float = 0.2
    min_score: float = 0.5

    def __post_init__(self) -> None:
        if any(n < 2 for n in self.tiles):
            raise ValueError(f"tiles {list(self.tiles)}: a side has 2 or more")
        if not 0 <= self.overlap < 1 or not 0 < self.min_score <= 1:
            raise ValueError(f"overlap {self.overlap} or min_score {self.min_score} is out of its range 0..1")

    def regions(self, width: int, height: int) -> list[Region]:
        """The whole frame, centred in the input, then the tiles row by row."""
        whole = letterbox(width, height, self.pixels.width, self.pixels.height, centred=True)
        return [whole, *(tile for n in self.tiles for tile in self._tiles(whole, n, width, height))]

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Detections]:
        """The boxes are squares around whole bodies and may extend beyond the region."""
        raw = np.asarray(outputs["Identity"], np.float32)
        scores = sigmoid(np.asarray(outputs["Identity_1"], np.float32)[..., 0])
        return [self._people(*item) for item in zip(raw, scores, regions, strict=True)]

    def merge(self, parts: Sequence[Detections], regions: Sequence[Region]) -> Detections:
        """A body that is much larger than its tile is dropped, because the frame or a larger tile
        shows more of it.

        Duplicates are found by the OKS of their alignment points, not by the IoU of their boxes: boxes of neighbours
        overlap, and a tile that cuts off a part of a person predicts another extent.
        """
        small = [_smaller_than(part, _MAX_BODY * tile.width) for part, tile in zip(parts[1:], regions[1:], strict=True)]
        parts = [parts[0], *small]
        anchors = np.concatenate([_anchors(part) for part in parts])
        boxes = np.concatenate([part.boxes for part in parts])
        scores = np.concatenate([part.scores for part in parts])
        radii = (boxes[:, 2] - boxes[:, 0]) / 2
        best, _ = group(oks(anchors, anchors, radii * radii, _ALIGNMENT_SIGMAS), scores, _SAME_BODY)
        return Detections(boxes, scores, anchors).select(best)

    def _tiles(self, whole: Region, n: int, width: int, height: int) -> Iterator[Region]:
        shrink = n - (n - 1) * self.overlap
        tile_width, tile_height = whole.width / shrink, whole.height / shrink
        for y in _centres(height, tile_height, self.overlap):
            for x in _centres(width, tile_width, self.overlap):
                yield Region(x, y, tile_width, tile_height)

    def _people(self, raw: Floats, scores: Floats, region: Region) -> Detections:
        """The people of one region, from (boxes, 12) x, y, width, height and 4 points, and (boxes,) scores."""
        width, height = self.pixels.width, self.pixels.height
        reach = _MAX_REACH * max(width, height)
        found = np.flatnonzero(scores >= self.min_score)
        found = found[(np.abs(raw[found]) < reach).all(axis=1)]  # false for NaN and infinity
        if not len(found):
            return _NO_PEOPLE  # most tiles are empty; skip the remaining work
        found = found[np.argsort(-scores[found], kind="stable")][:_MAX_CANDIDATES]
        centres, half = cell_centres(width, height)[found], raw[found, 2:4] / 2
        faces = np.concatenate([raw[found, :2] - half, raw[found, :2] + half], axis=1) + np.tile(centres, 2)
        points = raw[found, 4:] + np.tile(centres, 4)

        best, means = weighted_nms(faces, scores[found], points, _SAME_FACE)
        anchors = to_frame(means.reshape(-1, 4, 2), [region] * len(best), width, height)
        boxes = _around(anchors)
        real = boxes[:, 2] - boxes[:, 0] >= 1.0  # no body if the two alignment points coincide
        return Detections(boxes, scores[found][best], anchors).select(real)


@lru_cache(maxsize=8)
def cell_centres(width: int, height: int) -> NDArray[np.float32]:
    """The points in input pixels that the graph's boxes are relative to: (boxes, 2) x, y in the order of its outputs.

    The anchors of SSD (Liu et al., 2016, section 2.2), whose sizes this network does not use.
    """
    grids = []
    for stride, boxes in _GRIDS:
        y, x = np.mgrid[0 : ceil(height / stride), 0 : ceil(width / stride)]
        grids.append(np.repeat((np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) * stride, boxes, axis=0))
    centres = np.concatenate(grids).astype(np.float32)
    centres.flags.writeable = False
    return centres


def _centres(length: int, tile: float, overlap: float) -> list[float]:
    """The centres of tiles along a side: evenly from edge to edge, or one in the middle if that covers the side."""
    count = ceil(round((length - tile * overlap) / (tile * (1 - overlap)), 6))  # rounded: 2.0000000001 is not 3
    if count <= 1:
        return [length / 2]
    centres: list[float] = np.linspace(tile / 2, length - tile / 2, count).tolist()
    return centres


def _around(anchors: NDArray[np.floating[Any]]) -> Floats:
    """The squares around the circles of (N, 4, 2) alignment points."""
    centre = anchors[:, BODY_CENTRE]
    radius = np.linalg.norm(anchors[:, BODY_TOP] - centre, axis=1, keepdims=True)
    return np.concatenate([centre - radius, centre + radius], axis=1)


def _smaller_than(part: Detections, side: float) -> Detections:
    return part.select(part.boxes[:, 2] - part.boxes[:, 0] < side)


def _anchors(part: Detections) -> Floats:
    if part.anchors is None:
        raise ValueError("these detections have no alignment points: they are another detector's")
    return part.anchors
