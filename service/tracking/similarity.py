"""The similarity of the poses of a frame and tracked people, pair by pair.

Only near pairs are compared, so that the cost grows with the number of neighbours, not with all pairs of a crowd.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.ops.oks import keypoint_similarity
from engines.poses import Floats
from service.tracking.state import TrackState

Indices = NDArray[np.intp]

_NEAR = 1.0
"""Largest distance between the middles of similar boxes, in sizes. A size is the square root of a box's area."""
_AREA = 0.6
"""The share of a box that a person fills, because OKS uses the person's area."""
_MOTION = 0.5
"""The weight of constant velocity, relative to flow that has found every keypoint of the person."""
_DOUBT = 0.2
"""The weight of a pose's score: of two poses of one person, the one with the higher score is matched."""
_UNSURE = 0.2
"""Seconds out of sight that double the area in which a keypoint is expected."""
_AWAY = 0.9
"""Factor on similarities with missed people. Without it, two people would alternate in matching a single pose."""
_DENIED = 1.0
"""Lower bound of the sum of weights that a similarity is divided by: one common keypoint is not enough evidence."""
_START, _SPREAD = 0.3, 0.6
"""Tolerance of the expected position, in sizes: for a person in sight, and the increase after a second out of sight."""
_FAR = 6.0
"""Largest distance in squared tolerances. It corresponds to a similarity of 0.05."""
_GROWTH = 0.5
"""Tolerance of changes of a box's size, as a logarithm."""


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
    """P candidate pairs of a track and a pose. tracks, poses: (P,) indices. similarity: (P,) 0..1."""

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


def in_sight(tracks: TrackState, held: Floats, seen: Observed, sigmas: Floats) -> Pairs:
    """Compute flow-based OKS over the queue of each person's last poses (Xiao, Wu, Wei, 2018, section 2.3).

    Each pose of the queue is at its position by flow, and the best of them is used. It is averaged with the newest pose
    at its position by constant velocity, because flow stays with the person in front when two people cross.
    held: (T,) 0..1, the trust in the flow of each person.
    """
    mine = areas(tracks.boxes)
    row, column = _near(tracks.boxes, mine, seen)
    queue, new = tracks.poses.take(row, axis=0), seen.points.take(column, axis=0)
    pairs, history, keypoints, columns = queue.shape
    # Subtracts the scores too, although unused: numpy is slow if the innermost axis has length 2.
    offsets = np.empty((pairs, history + 1, keypoints, columns), np.float32)
    np.subtract(queue, new[:, None], out=offsets[:, :history])
    offsets[:, history] = offsets[:, 0]
    for axis in (0, 1):
        offsets[:, history, :, axis] += tracks.drifts[row, axis, None]
    unsure = (_AREA * (1 + tracks.missed / _UNSURE)).astype(np.float32)
    area = np.maximum(mine[row], seen.areas[column]) * unsure[row]
    alike = keypoint_similarity(offsets[..., :2], area[:, None], sigmas)
    weights = queue[..., 2] * new[:, None, :, 2]
    total = np.maximum(weights.sum(axis=-1), _DENIED)
    by_flow = (np.einsum("phk,phk->ph", alike[:, :history], weights) / total).max(axis=1)
    by_motion = np.einsum("pk,pk->p", alike[:, history], weights[:, 0]) / total[:, 0]
    share = held[row]
    trust = (1 - _DOUBT + _DOUBT * seen.scores[column]) * np.where(tracks.missed > 0, _AWAY, 1).astype(np.float32)[row]
    return Pairs(row, column, trust * (share * by_flow + _MOTION * by_motion) / (share + _MOTION))


def out_of_sight(tracks: TrackState, absent: NDArray[np.float64], seen: Observed, sigmas: Floats) -> Pairs:
    """Compute the similarity of each pose with each person who was last seen `absent` (T,) seconds ago.

    People are expected to move at constant velocity. The tolerance grows with the square root of time, as in a random
    walk. Size and shape of the pose must fit as well.
    """
    sizes = np.sqrt(areas(tracks.boxes))
    reach = (sizes * (_START + _SPREAD * np.sqrt(absent))).astype(np.float32)
    gaps = _middles(tracks.boxes + np.tile(tracks.drifts, 2))[:, None] - _middles(seen.boxes)[None]
    distance = (gaps * gaps).sum(axis=-1) / (reach * reach)[:, None]
    row, column = np.nonzero(distance < _FAR)
    growth = np.log(sizes[row] / np.sqrt(seen.areas[column])) / _GROWTH
    shape = _shape(tracks.poses[row, 0], seen.points[column], sigmas)
    near = np.exp(-0.5 * (distance[row, column] + growth * growth))
    return Pairs(row, column, near * (0.5 + 0.5 * shape))


def between(seen: Observed, some: Indices, others: Indices, sigmas: Floats) -> Floats:
    """Return the OKS (S, O), 0..1, of poses with other poses of the same frame."""
    a, b = seen.points[some][:, None], seen.points[others][None]
    area = np.maximum(seen.areas[some][:, None], seen.areas[others][None]) * np.float32(_AREA)
    weights = a[..., 2] * b[..., 2]
    alike = keypoint_similarity(a[..., :2] - b[..., :2], area, sigmas)
    return (alike * weights).sum(axis=-1) / np.maximum(weights.sum(axis=-1), _DENIED)  # type: ignore[no-any-return]


def _near(boxes: Floats, sizes: Floats, seen: Observed) -> tuple[Indices, Indices]:
    a, b = _middles(boxes), _middles(seen.boxes)
    dx, dy = np.subtract.outer(a[:, 0], b[:, 0]), np.subtract.outer(a[:, 1], b[:, 1])
    reach = np.float32(_NEAR**2) * np.maximum.outer(sizes, seen.areas)
    row, column = np.nonzero(dx * dx + dy * dy < reach)
    return row, column


def _middles(boxes: Floats) -> Floats:
    return (boxes[:, :2] + boxes[:, 2:]) * np.float32(0.5)


def _shape(a: Floats, b: Floats, sigmas: Floats) -> Floats:
    """The OKS (P,) of poses (P, K, 3), centred and scaled to size 1, over their common keypoints."""
    weights = a[..., 2] * b[..., 2]
    total = np.maximum(weights.sum(axis=-1), 1e-6)[:, None]
    forms = []
    for points in (a[..., :2], b[..., :2]):
        centred = points - (points * weights[..., None]).sum(axis=1, keepdims=True) / total[..., None]
        spread = np.sqrt((np.square(centred).sum(axis=-1) * weights).sum(axis=-1) / total[:, 0])
        forms.append(centred / np.maximum(spread, 1e-6)[:, None, None])
    # the spread is about a third of a person's height, and the area about a fifth of the height squared
    alike = keypoint_similarity(forms[0] - forms[1], np.full(len(a), 2.0, np.float32), sigmas)
    return (alike * weights).sum(axis=-1) / np.maximum(weights.sum(axis=-1), _DENIED)  # type: ignore[no-any-return]
