"""PersonLab: joins keypoints into people by predicted offsets (Papandreou et al., 2018), as in PoseNet.

Heatmaps are high in a disk around each keypoint, and short-range offsets point to it: cells vote for its position
(section 3.1). A keypoint with many votes is the seed of a person; mid-range offsets lead from it along the body's tree
to all others, and short-range offsets refine each position (section 3.2).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.families.whole_frame import WholeFrameFamily
from engines.inputs import Arrays
from engines.ops.activations import sigmoid
from engines.poses import Floats, Poses, Region
from engines.skeletons import COCO_17

Indices = NDArray[np.intp]

# The edges of the tree of offsets from its root, the nose, in the order of the graph's channels.
_TREE = (
    "nose-left_eye left_eye-left_ear nose-right_eye right_eye-right_ear "
    "nose-left_shoulder left_shoulder-left_elbow left_elbow-left_wrist "
    "left_shoulder-left_hip left_hip-left_knee left_knee-left_ankle "
    "nose-right_shoulder right_shoulder-right_elbow right_elbow-right_wrist "
    "right_shoulder-right_hip right_hip-right_knee right_knee-right_ankle"
)
_EDGES = [tuple(COCO_17.keypoints.index(end) for end in edge.split("-")) for edge in _TREE.split()]
_REFINEMENTS = 2  # of a keypoint by short-range offsets; the paper's "recurrent offset refinement"
_DISK = 32  # radius in pixels around a keypoint in which the heatmaps are trained to be 1
_MAX_SEEDS = 512  # bounds the work for unusual images


def _paths() -> Indices:
    """For each keypoint as a seed, the (from, to, edge, backwards) steps to all others: (17, 16, 4)."""
    paths = []
    for start in range(len(COCO_17)):
        reached, steps = [start], []
        for here in reached:
            for edge, (parent, child) in enumerate(_EDGES):
                for source, target, backwards in ((parent, child, 0), (child, parent, 1)):
                    if source == here and target not in reached:
                        reached.append(target)
                        steps.append((source, target, edge, backwards))
        paths.append(steps)
    return np.array(paths, np.intp)


_PATHS = _paths()


@dataclass(frozen=True, slots=True)
class Fields:
    """The network's outputs for one image, on a grid of H x W cells.

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
    """The share of the disk around a keypoint that votes for each cell: (H, W, K), 0..1 (equation 1).

    Each cell's probability is distributed bilinearly to the four cells around the target of its short offset.
    """
    shape = fields.heatmaps.shape
    position = [
        np.arange(shape[axis], dtype=np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        + fields.short[:, :, axis] / np.float32(fields.stride)
        for axis in (0, 1)
    ]
    first = [np.floor(side).astype(np.intp) for side in position]
    part = [side - cell for side, cell in zip(position, first, strict=True)]
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


def seeds(scores: Floats, least: float) -> tuple[Indices, Indices, Indices]:
    """The cells and keypoints from which people are grown: peaks above `least`, best first.

    Returns rows, columns and keypoints, each (C,), for (H, W, K) scores. A peak is the highest of its 3 x 3
    neighbourhood, unless all are equal.
    """
    around = np.ones((3, 3), np.uint8)
    highest, lowest = (change(scores, around).reshape(scores.shape) for change in (cv2.dilate, cv2.erode))
    rows, columns, kinds = np.nonzero((scores >= highest) & (scores > lowest) & (scores > least))
    order = np.argsort(-scores[rows, columns, kinds], kind="stable")[:_MAX_SEEDS]
    return rows[order], columns[order], kinds[order]


def grow(fields: Fields, rows: Indices, columns: Indices, kinds: Indices) -> tuple[Floats, Floats]:
    """All keypoints of the people grown from seeds: (C, K, 2) y, x in input pixels and (C, K) scores."""
    people = np.arange(len(rows))
    points = np.zeros((len(rows), len(COCO_17), 2), np.float32)
    scores = np.zeros(points.shape[:2], np.float32)
    start = np.stack([rows, columns], axis=-1).astype(np.float32) * np.float32(fields.stride)
    points[people, kinds] = start + fields.short[rows, columns, :, kinds]
    scores[people, kinds] = fields.heatmaps[rows, columns, kinds]
    for source, target, edge, backwards in np.moveaxis(_PATHS[kinds], 0, -1):
        here = points[people, source]
        y, x = fields.nearest(here)
        there = here + fields.mid[y, x, backwards, :, edge]
        for _ in range(_REFINEMENTS):
            y, x = fields.nearest(there)
            there = np.stack([y, x], axis=-1) * np.float32(fields.stride) + fields.short[y, x, :, target]
        points[people, target] = there
        scores[people, target] = fields.heatmaps[(*fields.nearest(there), target)]
    return points, scores


def suppress(points: Floats, scores: Floats, kinds: Indices, radius: float) -> tuple[Indices, Floats]:
    """The indices of the people that remain, best first, and their scores.

    Greedy: a person is a duplicate if its seed is also a keypoint of a better person.

    points: (C, K, 2) in the order of their seeds' scores; scores: (C, K); kinds: (C,) the keypoints of the seeds.
    Keypoints within `radius` are the same. A person's score is the mean score of its keypoints, with 0 for those that a
    better person also has (section 3.2, "soft" suppression).
    """
    people = np.arange(len(points))
    alive = np.ones(len(points), bool)
    taken = np.zeros(scores.shape, bool)
    stays, totals = [], []
    for person in people:
        if not alive[person]:
            continue
        stays.append(person)
        totals.append(float(np.where(taken[person], 0, scores[person]).mean()))
        near = np.square(points - points[person]).sum(axis=-1) <= radius * radius
        taken |= near
        alive &= ~near[people, kinds]
    return np.array(stays, np.intp), np.array(totals, np.float32)


@dataclass(kw_only=True, eq=False)
class PersonLab(WholeFrameFamily):
    """Three outputs on a grid that covers the input from its first pixel to its last: heatmaps (n, H, W, 17), short
    offsets (n, H, W, 34) y then x, and mid offsets (n, H, W, 64) forwards y, x, backwards y, x.

    heatmaps, short_offsets, mid_offsets: their names in the graph. quantised: the scale and zero point of each output
    of integers. logits: whether heatmaps need the sigmoid. min_score: of the votes for a seed, 0..1. radius: keypoints
    within this distance are the same, in input pixels.
    Raises ValueError for another skeleton than COCO's, and numbers out of their range.
    """

    heatmaps: str = "float_heatmaps"
    short_offsets: str = "float_short_offsets"
    mid_offsets: str = "float_mid_offsets"
    quantised: Mapping[str, Sequence[float]] = field(default_factory=dict)
    logits: bool = True
    min_score: float = 0.06
    radius: float = 20.0

    def __post_init__(self) -> None:
        if self.skeleton != COCO_17:
            raise ValueError(f"skeleton {self.skeleton.name}: PersonLab's offsets are along the tree of {COCO_17.name}")
        if not 0 < self.min_score < 1 or not self.radius > 0:
            raise ValueError(f"min_score {self.min_score} is not within 0..1, or radius {self.radius} is not above 0")
        self.outputs = (self.heatmaps, self.short_offsets, self.mid_offsets)
        if unknown := sorted(set(self.quantised) - set(self.outputs)):
            raise ValueError(f"quantised names {', '.join(unknown)}; the outputs are {', '.join(self.outputs)}")

    def decode(self, outputs: Arrays, regions: Sequence[Region]) -> list[Poses]:
        heatmaps, short, mid = (self._real(name, outputs) for name in self.outputs)
        cells = heatmaps.shape[1:3]
        stride = (self.pixels.width - 1) / max(cells[1] - 1, 1)
        reach = max(self.pixels.width, self.pixels.height)
        everything = np.concatenate([heatmaps, short, mid], axis=-1)
        sane = (np.abs(everything) < reach).all(axis=-1, keepdims=True)  # nor NaN, nor inf
        heatmaps = sigmoid(heatmaps) if self.logits else heatmaps
        heatmaps, short, mid = (np.where(sane, values, 0) for values in (heatmaps, short, mid))
        heatmaps = heatmaps.clip(0, 1).astype(np.float32)
        short = short.reshape(-1, *cells, 2, len(COCO_17))
        mid = mid.reshape(-1, *cells, 2, 2, len(_EDGES))
        images = zip(heatmaps, short, mid, regions, strict=True)
        return [self._people(Fields(heat, near, far, stride), region) for heat, near, far, region in images]

    def _real(self, name: str, outputs: Arrays) -> Floats:
        values = np.asarray(outputs[name], np.float32)
        if name not in self.quantised:
            return values
        scale, zero = self.quantised[name]
        return (values - np.float32(zero)) * np.float32(scale)

    def _people(self, fields: Fields, region: Region) -> Poses:
        rows, columns, kinds = seeds(votes(fields), self.min_score)
        if not len(rows):
            return Poses.empty(self.skeleton)
        points, scores = grow(fields, rows, columns, kinds)
        stays, totals = suppress(points, scores, kinds, self.radius)
        return self._poses(points[stays][..., ::-1], scores[stays], totals, region)
