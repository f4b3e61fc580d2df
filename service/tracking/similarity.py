"""The poses of a frame in the form that comparisons need, and the similarity of poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.ops.oks import keypoint_similarity
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


def form(a: Floats, b: Floats, sigmas: Floats) -> Floats:
    """Return the OKS (P,) of poses (P, K, 3), centred and scaled to size 1, over their common keypoints."""
    weights = a[..., 2] * b[..., 2]
    total = np.maximum(weights.sum(axis=-1), 1e-6)[:, None]
    x_of_a, y_of_a = _standardised(a, weights, total)
    x_of_b, y_of_b = _standardised(b, weights, total)
    offsets = np.stack([x_of_a - x_of_b, y_of_a - y_of_b], axis=-1)
    # the spread is about a third of a person's height, and the area about a fifth of the height squared
    alike = keypoint_similarity(offsets, np.full(len(a), 2.0, np.float32), sigmas)
    return (alike * weights).sum(axis=-1) / np.maximum(weights.sum(axis=-1), DENIED)  # type: ignore[no-any-return]


def _standardised(points: Floats, weights: Floats, total: Floats) -> tuple[Floats, Floats]:
    """Centre poses (P, K, 3) and scale them to size 1. Returns x and y (P, K)."""
    x, y = points[..., 0], points[..., 1]
    x = x - np.einsum("pk,pk->p", x, weights)[:, None] / total
    y = y - np.einsum("pk,pk->p", y, weights)[:, None] / total
    spread = np.sqrt(np.einsum("pk,pk->p", x * x + y * y, weights)[:, None] / total)
    scale = 1 / np.maximum(spread, np.float32(1e-6))
    return x * scale, y * scale
