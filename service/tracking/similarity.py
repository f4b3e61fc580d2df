"""How alike the poses of a frame and the people a tracker remembers are, pair by pair.

Only pairs near enough to be alike are compared, so that a crowd costs little more than its neighbours.
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
"""Middles of boxes further apart than this many sizes are nobody alike. A size is the square root of a box's area."""
_AREA = 0.6
"""The part of a box that a person fills: OKS takes the person's area."""
_MOTION = 0.5
"""The say of constant velocity beside that of flow, when flow holds every keypoint of the person."""
_DOUBT = 0.2
"""The say of a pose's own score: of two poses of one person the better is to be theirs."""
_UNSURE = 0.2
"""Seconds out of sight that double the area over which a keypoint is expected."""
_AWAY = 0.9
"""What is left of a similarity with somebody who was missed: else two who share one pose would take turns at it."""
_DENIED = 1.0
"""The least sum of weights that a similarity is divided by: one shared keypoint is no proof."""
_START, _SPREAD = 0.3, 0.6
"""How far from where they were expected people are, in sizes: at once, and after one second out of sight."""
_FAR = 6.0
"""Squared tolerances beyond which nobody is expected: a similarity of 0.05."""
_GROWTH = 0.5
"""How much of its size, as a logarithm, a box may gain or lose."""


@dataclass(frozen=True, slots=True)
class Observed:
    """The poses of one frame, ready to compare. points: (N, K, 3) float32 x, y, score, 0 for what does not count.

    boxes: (N, 4). areas: (N,) square pixels, of box or keypoints, whichever is larger. scores: (N,).
    """

    points: Floats
    boxes: Floats
    areas: Floats
    scores: Floats

    @staticmethod
    def of(keypoints: Floats, keypoint_scores: Floats, boxes: Floats, scores: Floats, least: float) -> Observed:
        """As `Poses` has them; keypoints with a score below `least`, or that are no numbers, do not count."""
        points = np.empty((*keypoint_scores.shape, 3), np.float32)
        points[..., :2] = keypoints
        points[..., 2] = keypoint_scores
        points[..., 2][keypoint_scores < least] = 0
        if not np.isfinite(points).all():
            points[~np.isfinite(points).all(axis=-1)] = 0
        return Observed(points, boxes, areas(boxes), scores)


@dataclass(frozen=True, slots=True)
class Pairs:
    """P pairs of a track and a pose that might be one. tracks, poses: (P,) indices. similarity: (P,) 0..1."""

    tracks: Indices
    poses: Indices
    similarity: Floats

    def where(self, chosen: NDArray[np.bool_]) -> Pairs:
        """Some of the pairs."""
        return Pairs(self.tracks[chosen], self.poses[chosen], self.similarity[chosen])


def areas(boxes: Floats) -> Floats:
    """(N,) square pixels of (N, 4) x1, y1, x2, y2; at least 1."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    product: Floats = sides[:, 0] * sides[:, 1]
    return product


def in_sight(tracks: TrackState, held: Floats, seen: Observed, sigmas: Floats) -> Pairs:
    """Flow-based OKS over the queue of each person's last poses (Xiao, Wu, Wei, 2018, section 2.3).

    Each pose of the queue lies where flow has carried it; the best of them speaks for the person, together with the
    newest one where constant velocity puts it, as flow stays behind with the person in front when two cross.
    held: (T,) 0..1, the part of each person's keypoints that flow has hold of.
    """
    mine = areas(tracks.boxes)
    row, column = _near(tracks.boxes, mine, seen)
    queue, new = tracks.poses.take(row, axis=0), seen.points.take(column, axis=0)
    pairs, history, keypoints, columns = queue.shape
    # The scores are subtracted too, for nothing: numpy is slow where the innermost axis is two long.
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
    """How well each pose could be each person who was last seen `absent` (T,) seconds ago.

    A person moves on at constant velocity, but less and less surely: the tolerance grows with the root of time, as in
    a random walk. Size and shape of the pose must fit too.
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
    """OKS of poses of one frame with others of it, (S, O), in 0..1."""
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
    """OKS of (P, K, 3) poses, each moved to its own middle and scaled to the size of 1, over what both show."""
    weights = a[..., 2] * b[..., 2]
    total = np.maximum(weights.sum(axis=-1), 1e-6)[:, None]
    forms = []
    for points in (a[..., :2], b[..., :2]):
        centred = points - (points * weights[..., None]).sum(axis=1, keepdims=True) / total[..., None]
        spread = np.sqrt((np.square(centred).sum(axis=-1) * weights).sum(axis=-1) / total[:, 0])
        forms.append(centred / np.maximum(spread, 1e-6)[:, None, None])
    # the spread around the middle is about a third of a person's height, whose area is about a fifth of height squared
    alike = keypoint_similarity(forms[0] - forms[1], np.full(len(a), 2.0, np.float32), sigmas)
    return (alike * weights).sum(axis=-1) / np.maximum(weights.sum(axis=-1), _DENIED)  # type: ignore[no-any-return]
