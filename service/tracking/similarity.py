"""The poses of a frame in the form that comparisons need, and the similarity of poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.ops.oks import fall_off, keypoint_similarity
from engines.poses import Floats

Indices = NDArray[np.intp]

AREA = 0.6
"""The share of a box that a person fills, because OKS uses the person's area."""
DENIED = 1.0
"""Lower bound of the sum of weights that a similarity is divided by: one common keypoint is not enough evidence."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The poses of a frame in the form that comparisons need. points: (N, K, 3) float32 x, y, score; score 0 if unused.

    boxes: (N, 4). areas: (N,) of the boxes, in square pixels. scores: (N,).
    """

    points: Floats
    boxes: Floats
    areas: Floats
    scores: Floats

    @staticmethod
    def of(keypoints: Floats, keypoint_scores: Floats, boxes: Floats, scores: Floats, least: float) -> Observed:
        """Convert the arrays of `Poses`. Keypoints that score below `least` or are not finite get score 0."""
        points = np.empty((*keypoint_scores.shape, 3), np.float32)
        points[..., :2] = keypoints
        points[..., 2] = keypoint_scores
        points[..., 2][keypoint_scores < least] = 0
        if not np.isfinite(points).all():
            points[~np.isfinite(points).all(axis=-1)] = 0
        return Observed(points, boxes, areas(boxes), scores)


@dataclass(frozen=True, slots=True)
class Pairs:
    """P candidate pairs of a track and a pose. tracks, poses: (P,) indices. similarity: (P,), any scale."""

    tracks: Indices
    poses: Indices
    similarity: Floats

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Return the pairs selected by a mask."""
        return Pairs(self.tracks[chosen], self.poses[chosen], self.similarity[chosen])


def areas(boxes: Floats) -> Floats:
    """Return the areas (N,) of boxes (N, 4) in square pixels, at least 1."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    product: Floats = sides[:, 0] * sides[:, 1]
    return product


def between(seen: Observed, some: Indices, others: Indices, sigmas: Floats) -> Floats:
    """Return the OKS (S, O), 0..1, of poses with other poses of the same frame."""
    a, b = seen.points[some][:, None], seen.points[others][None]
    area = np.maximum(seen.areas[some][:, None], seen.areas[others][None]) * np.float32(AREA)
    weights = a[..., 2] * b[..., 2]
    alike = keypoint_similarity(a[..., :2] - b[..., :2], area, sigmas)
    return (alike * weights).sum(axis=-1) / np.maximum(weights.sum(axis=-1), DENIED)  # type: ignore[no-any-return]


def middles(boxes: Floats) -> Floats:
    """Return the middles (N, 2) of boxes (N, 4)."""
    return (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)


def planes(points: Floats) -> Floats:
    """Points (..., 3) with x, y and score one after the other, (3, ...), so that numpy works on long rows."""
    return np.ascontiguousarray(points.reshape(-1, 3).T).reshape(3, *points.shape[:-1])


def form(a: Floats, b: Floats, sigmas: Floats) -> Floats:
    """Return the OKS (P,) of poses (3, P, K), see `planes`, centred and scaled to size 1, over common keypoints."""
    weights = a[2] * b[2]
    total = weights.sum(axis=-1)
    some = np.maximum(total, 1e-6)
    points = np.stack([a[:2], b[:2]], axis=1)
    points -= (np.einsum("dnpk,pk->dnp", points, weights) / some)[..., None]
    squares = points * points
    spread = np.sqrt(np.einsum("npk,pk->np", squares[0] + squares[1], weights) / some)
    points /= np.maximum(spread, np.float32(1e-6))[..., None]
    offsets = points[:, 0] - points[:, 1]
    offsets *= offsets
    # the spread is about a third of a person's height, and the area about a fifth of the height squared
    alike = fall_off(offsets[0] + offsets[1], np.full(1, 2.0, np.float32), sigmas)
    value: Floats = np.einsum("pk,pk->p", alike, weights) / np.maximum(total, DENIED)
    return value
