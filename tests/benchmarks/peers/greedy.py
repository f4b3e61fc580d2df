"""A minimal tracker, for comparison: greedy matching of overlapping boxes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from engines.ops.nms import iou
from engines.poses import Doubles, Poses
from tests.benchmarks.peers.tracked import Ids


def greedy_iou(people: Iterable[Poses], times: Doubles, least: float, memory: float) -> Ids:
    """The ids of each frame's people. least: overlap of a match. An id keeps its last box for `memory` seconds."""
    boxes, seen = np.zeros((0, 4), np.float32), np.zeros(0)
    ids: Ids = []
    for poses, now in zip(people, times, strict=True):
        given = np.full(len(poses), -1)
        overlaps = iou(boxes, poses.boxes) * (now - seen <= memory)[:, None]
        while overlaps.size and overlaps.max() >= least:
            row, column = np.unravel_index(overlaps.argmax(), overlaps.shape)
            given[column] = row
            overlaps[row], overlaps[:, column] = -1, -1
        new = given < 0
        given[new] = len(boxes) + np.arange(new.sum())
        boxes, seen = np.concatenate([boxes, poses.boxes[new]]), np.concatenate([seen, np.zeros(new.sum())])
        boxes[given], seen[given] = poses.boxes, now
        ids.append(given)
    return ids
