"""Non-maximum suppression: finds candidates for the same object."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.poses import Floating

Indices = NDArray[np.intp]


def iou(a: Floating, b: Floating) -> Floating:
    """Intersection over union of every box of `a` with every box of `b`.

    a: (N, 4), b: (M, 4) x1, y1, x2, y2. Returns (N, M) in 0..1; a box without area overlaps nothing, itself included.
    """
    intersection = _intersections(a, b)
    union = _areas(a)[:, None] + _areas(b) - intersection
    overlap: Floating = np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)
    return overlap


def within(boxes: Floating) -> Floating:
    """The share of every box inside every other: row i, column j is the share of box j that is inside box i.

    boxes: (N, 4) x1, y1, x2, y2. Returns (N, N) in 0..1; 0 for a box without area.
    """
    intersection = _intersections(boxes, boxes)
    area = np.broadcast_to(_areas(boxes), intersection.shape)
    part: Floating = np.divide(intersection, area, out=np.zeros_like(intersection), where=area > 0)
    return part


def _intersections(a: Floating, b: Floating) -> Floating:
    sides = np.minimum(a[:, None, 2:], b[:, 2:]) - np.maximum(a[:, None, :2], b[:, :2])
    area: Floating = np.prod(np.maximum(sides, 0), axis=-1)
    return area


def _areas(boxes: Floating) -> Floating:
    area: Floating = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=-1)
    return area


def group(similarity: Floating, scores: Floating, threshold: float) -> tuple[Indices, Indices]:
    """Group every candidate with the best-scored similar one: greedy suppression over any similarity.

    similarity: (N, N), row i with the similarity of each candidate to candidate i. scores: (N,).
    Returns the leaders, (M,) indices of candidates, best first (equal scores in their given order), and (N,) indices
    into that list of each candidate's leader: the first leader whose similarity exceeds `threshold`.
    """
    leaders: list[int] = []
    leader_of = np.full(len(scores), -1, np.intp)
    similar = similarity > threshold
    for i in np.argsort(-scores, kind="stable"):
        if leader_of[i] < 0:
            leader_of[similar[i] & (leader_of < 0)] = len(leaders)
            leader_of[i] = len(leaders)  # even if it is not similar to itself, as a box without area
            leaders.append(int(i))
    return np.array(leaders, np.intp), leader_of


def nms(boxes: Floating, scores: Floating, threshold: float) -> Indices:
    """Greedy non-maximum suppression: the indices of the boxes that remain, best first.

    boxes: (N, 4) x1, y1, x2, y2. scores: (N,). A box is dropped if its IoU with a better remaining one
    exceeds `threshold`.
    """
    return group(iou(boxes, boxes), scores, threshold)[0]


def weighted_nms(boxes: Floating, scores: Floating, values: Floating, threshold: float) -> tuple[Indices, Floating]:
    """Non-maximum suppression that replaces each group by its score-weighted mean.

    After BlazeFace (Bazarevsky et al., 2019, section 3.3), which does this to stabilise boxes in video.

    boxes: (N, 4) x1, y1, x2, y2. scores: (N,) positive. values: (N, D) to be averaged.
    Returns the indices of the leaders, best first, and their groups' (M, D) mean values.
    """
    leaders, leader_of = group(iou(boxes, boxes), scores, threshold)
    weights = np.where(leader_of == np.arange(len(leaders))[:, None], scores, 0)
    return leaders, (weights / weights.sum(axis=1, keepdims=True)) @ values
