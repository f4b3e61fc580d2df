"""PersonLab: keypoints joined into people by offsets that the network gives (Papandreou et al., 2018), as in PoseNet.

Around a keypoint the heatmap is sure, and short-range offsets point to it: cells vote for where it is (section 3.1).
A keypoint with many votes begins a person; mid-range offsets lead from it along the body's tree to all others, and
short-range offsets set each right (section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.families.whole_frame import WholeFrameFamily, people_in_frame
from engines.inputs import Arrays, PixelInput
from engines.ops.activations import sigmoid
from engines.poses import Floats, Poses, Region
from engines.skeletons import COCO_17, Skeleton

Indices = NDArray[np.intp]

# The tree that the offsets follow, child by child of its root, the nose, in the order of the graph's channels.
_TREE = (
    "nose-left_eye left_eye-left_ear nose-right_eye right_eye-right_ear "
    "nose-left_shoulder left_shoulder-left_elbow left_elbow-left_wrist "
    "left_shoulder-left_hip left_hip-left_knee left_knee-left_ankle "
    "nose-right_shoulder right_shoulder-right_elbow right_elbow-right_wrist "
    "right_shoulder-right_hip right_hip-right_knee right_knee-right_ankle"
)
_EDGES = [tuple(COCO_17.keypoints.index(end) for end in edge.split("-")) for edge in _TREE.split()]
_REFINEMENTS = 2  # of a keypoint by short-range offsets; the paper's "recurrent offset refinement"
_DISK = 32  # pixels around a keypoint in which the heatmaps are trained to be sure
_MAX_BEGINNINGS = 512  # bounds the work that a strange image can cause


def _ways() -> Indices:
    """For each keypoint to begin at, the (from, to, edge, backwards) steps that lead to all others: (17, 16, 4)."""
    ways = []
    for start in range(len(COCO_17)):
        reached, steps = [start], []
        for here in reached:
            for edge, (parent, child) in enumerate(_EDGES):
                for source, target, backwards in ((parent, child, 0), (child, parent, 1)):
                    if source == here and target not in reached:
                        reached.append(target)
                        steps.append((source, target, edge, backwards))
        ways.append(steps)
    return np.array(ways, np.intp)


_WAYS = _ways()


@dataclass(frozen=True, slots=True)
class Fields:
    """What the network says of one image, on a grid of H x W cells.

    heatmaps: (H, W, K) probabilities. short: (H, W, 2, K) y, x from a cell to its keypoint. mid: (H, W, 2, 2, E) along
    the tree's edges, first forwards then backwards, y, x. Offsets are in input pixels. stride: of the cells.
    """

    heatmaps: Floats
    short: Floats
    mid: Floats
    stride: float

    def nearest(self, points: Floats) -> tuple[Indices, Indices]:
        """The cells, row and column, nearest to (..., 2) y, x in input pixels."""
        last = np.array(self.heatmaps.shape[:2]) - 1
        cells = np.rint(points / self.stride).clip(0, last).astype(np.intp)
        return cells[..., 0], cells[..., 1]


def votes(fields: Fields) -> Floats:
    """How much of the disk around a keypoint says that it is in a cell: (H, W, K), 0..1 (equation 1).

    Each cell's probability goes, in bilinear parts, to the four cells around where its short offset points.
    """
    shape = fields.heatmaps.shape
    place = [
        np.arange(shape[axis], dtype=np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        + fields.short[:, :, axis] / np.float32(fields.stride)
        for axis in (0, 1)
    ]
    first = [np.floor(side).astype(np.intp) for side in place]
    part = [side - cell for side, cell in zip(place, first, strict=True)]
    kinds = np.arange(shape[2])
    total = np.zeros(fields.heatmaps.size)
    for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
        y, x = first[0] + down, first[1] + right
        share = fields.heatmaps * np.abs(1 - down - part[0]) * np.abs(1 - right - part[1])
        inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
        cell = (y * shape[1] + x) * shape[2] + kinds
        total += np.bincount(cell[inside], share[inside], len(total))
    disk = np.pi * (_DISK / fields.stride) ** 2
    return (total / disk).clip(0, 1).astype(np.float32).reshape(shape)


def beginnings(scores: Floats, least: float) -> tuple[Indices, Indices, Indices]:
    """The cells and keypoints at which people may begin: peaks above `least`, best first.

    Rows, columns and keypoints, each (C,), of (H, W, K) scores. A peak is the highest of the 3 x 3 cells around, where
    they are not all the same.
    """
    around = np.ones((3, 3), np.uint8)
    highest, lowest = (change(scores, around).reshape(scores.shape) for change in (cv2.dilate, cv2.erode))
    rows, columns, kinds = np.nonzero((scores >= highest) & (scores > lowest) & (scores > least))
    order = np.argsort(-scores[rows, columns, kinds], kind="stable")[:_MAX_BEGINNINGS]
    return rows[order], columns[order], kinds[order]


def follow(fields: Fields, rows: Indices, columns: Indices, kinds: Indices) -> tuple[Floats, Floats]:
    """Everybody's keypoints, (C, K, 2) y, x in input pixels and (C, K) scores, from the places where they begin."""
    everybody = np.arange(len(rows))
    points = np.zeros((len(rows), len(COCO_17), 2), np.float32)
    scores = np.zeros(points.shape[:2], np.float32)
    start = np.stack([rows, columns], axis=-1).astype(np.float32) * np.float32(fields.stride)
    points[everybody, kinds] = start + fields.short[rows, columns, :, kinds]
    scores[everybody, kinds] = fields.heatmaps[rows, columns, kinds]
    for source, target, edge, backwards in np.moveaxis(_WAYS[kinds], 0, -1):
        here = points[everybody, source]
        y, x = fields.nearest(here)
        there = here + fields.mid[y, x, backwards, :, edge]
        for _ in range(_REFINEMENTS):
            y, x = fields.nearest(there)
            there = np.stack([y, x], axis=-1) * np.float32(fields.stride) + fields.short[y, x, :, target]
        points[everybody, target] = there
        scores[everybody, target] = fields.heatmaps[(*fields.nearest(there), target)]
    return points, scores


def suppress(points: Floats, scores: Floats, kinds: Indices, radius: float) -> tuple[Indices, Floats]:
    """Who stays, best first, and with which score: greedily, a person whose first keypoint another one has is the same.

    points: (C, K, 2) in the order of their beginnings' scores; scores: (C, K); kinds: (C,) where they begin. Two
    keypoints are one within `radius`. A person's score is the mean of those keypoints' that nobody better has
    (section 3.2, "soft" suppression).
    """
    everybody = np.arange(len(points))
    alive = np.ones(len(points), bool)
    taken = np.zeros(scores.shape, bool)
    stays, totals = [], []
    for person in everybody:
        if not alive[person]:
            continue
        stays.append(person)
        totals.append(float(np.where(taken[person], 0, scores[person]).mean()))
        near = np.square(points - points[person]).sum(axis=-1) <= radius * radius
        taken |= near
        alive &= ~near[everybody, kinds]
    return np.array(stays, np.intp), np.array(totals, np.float32)


class PersonLab(WholeFrameFamily):
    """Three outputs on a grid that covers the input from its first pixel to its last: heatmaps (n, H, W, 17), short
    offsets (n, H, W, 34) y then x, and mid offsets (n, H, W, 64) forwards y, x, backwards y, x.

    heatmaps, short_offsets, mid_offsets: their names in the graph. quantised: for an output that is of whole numbers,
    the scale and the zero point that make it real. logits: whether heatmaps need the sigmoid.
    min_score: of the votes where people may begin, 0..1. radius: of what is one keypoint, in input pixels.
    Raises ValueError for another skeleton than COCO's, and numbers out of their range.
    """

    def __init__(
        self,
        pixels: PixelInput,
        skeleton: Skeleton = COCO_17,
        *,
        heatmaps: str = "float_heatmaps",
        short_offsets: str = "float_short_offsets",
        mid_offsets: str = "float_mid_offsets",
        quantised: Mapping[str, Sequence[float]] | None = None,
        logits: bool = True,
        min_score: float = 0.06,
        radius: float = 20.0,
    ) -> None:
        if skeleton != COCO_17:
            raise ValueError(f"skeleton {skeleton.name}: the tree of PersonLab's offsets is that of {COCO_17.name}")
        if not 0 < min_score < 1 or not radius > 0:
            raise ValueError(f"min_score {min_score} is not within 0..1, or radius {radius} is not above 0")
        super().__init__(pixels, skeleton)
        self.outputs = (heatmaps, short_offsets, mid_offsets)
        self._quantised = quantised or {}
        if unknown := sorted(set(self._quantised) - set(self.outputs)):
            raise ValueError(f"quantised names {', '.join(unknown)}; the outputs are {', '.join(self.outputs)}")
        self._logits = logits
        self._min_score = min_score
        self._radius = radius

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        """See `OneStageModel.decode`."""
        heatmaps, short, mid = (self._real(name, outputs) for name in self.outputs)
        cells = heatmaps.shape[1:3]
        stride = (self.pixels.width - 1) / max(cells[1] - 1, 1)
        reach = max(self.pixels.width, self.pixels.height)
        everything = np.concatenate([heatmaps, short, mid], axis=-1)
        sane = (np.abs(everything) < reach).all(axis=-1, keepdims=True)  # nor NaN, nor inf
        heatmaps = sigmoid(heatmaps) if self._logits else heatmaps
        heatmaps, short, mid = (np.where(sane, values, 0) for values in (heatmaps, short, mid))
        heatmaps = heatmaps.clip(0, 1).astype(np.float32)
        short = short.reshape(-1, *cells, 2, len(COCO_17))
        mid = mid.reshape(-1, *cells, 2, 2, len(_EDGES))
        images = zip(heatmaps, short, mid, regions, strict=True)
        return [self._people(Fields(heat, near, far, stride), region) for heat, near, far, region in images]

    def _real(self, name: str, outputs: Arrays) -> Floats:
        values = np.asarray(outputs[name], np.float32)
        if name not in self._quantised:
            return values
        scale, zero = self._quantised[name]
        return (values - np.float32(zero)) * np.float32(scale)

    def _people(self, fields: Fields, region: Region) -> Poses:
        rows, columns, kinds = beginnings(votes(fields), self._min_score)
        if not len(rows):
            return Poses.empty(self.skeleton)
        points, scores = follow(fields, rows, columns, kinds)
        stays, totals = suppress(points, scores, kinds, self._radius)
        return people_in_frame(points[stays][..., ::-1], scores[stays], totals, region, self.pixels, self.skeleton)
