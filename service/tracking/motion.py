"""How the people a tracker remembers move while nobody looks, and what a new pose says of their speed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.ops.nms import iou
from service.tracking.flow import Carried
from service.tracking.similarity import Observed
from service.tracking.state import TrackState

_DAMPING = 4.0
"""Seconds after which a person out of sight has lost all but a third of the speed they had."""
_HIDDEN = 0.3
"""How far flow is to be trusted with somebody out of sight: it may have gone with whoever hides them."""
_CROWD = 8.0
"""How much less flow is to be trusted with people whose boxes overlap wholly."""
_SOON = 0.25
"""Seconds between frames that halve the trust in flow."""
_SPEED = 0.3
"""Seconds over which speed is averaged."""


def carry(tracks: TrackState, seconds: float, carried: Carried | None, least: int = 3) -> NDArray[np.float32]:
    """Move `tracks` on in place by `seconds`; gives the part of each person's keypoints that flow has hold of, (T,).

    carried: what flow says, None without pixels. Keypoints that flow did not find go with the rest of their person;
    people of whom it found fewer than `least` go at constant velocity on top of the camera's motion.
    """
    reach = np.float32(_DAMPING * -np.expm1(-seconds / _DAMPING))
    by_motion = tracks.velocities * reach
    absent = tracks.missed > 0
    if absent.any():
        tracks.velocities[absent] *= np.float32(np.exp(-seconds / _DAMPING))
    held = np.zeros(len(tracks), np.float32)
    if carried is None:
        for axis in (0, 1):
            tracks.poses[..., axis] += by_motion[:, axis, None, None]
        _shift(tracks.boxes, by_motion)
        return held
    by_motion += carried.camera
    count = carried.found.sum(axis=1)
    whole = np.where((count >= least)[:, None], carried.moves.sum(axis=1) / np.maximum(count, 1)[:, None], by_motion)
    moves = np.where((carried.found & (count >= least)[:, None])[..., None], carried.moves, whole[:, None])
    tracks.poses[..., :2] += moves[:, None]
    _shift(tracks.boxes, whole)
    tracks.drifts[:] += by_motion - whole
    known = np.maximum((tracks.poses[:, 0, :, 2] > 0).sum(axis=1), 1)
    return np.where(count >= least, count / known, held).astype(np.float32)


def trust(tracks: TrackState, seconds: float) -> NDArray[np.float32]:
    """How far flow over `seconds` is to be trusted with each person that it has hold of, (T,) 0..1."""
    trusted: NDArray[np.float32] = np.where(tracks.missed > 0, _HIDDEN, 1).astype(np.float32)
    if len(tracks) > 1:
        overlap = iou(tracks.boxes, tracks.boxes)
        np.fill_diagonal(overlap, 0)
        trusted /= 1 + _CROWD * overlap.max(axis=1)
    return trusted / np.float32(1 + (seconds / _SOON) ** 2)


def let_go(tracks: TrackState, which: NDArray[np.bool_]) -> None:
    """Put people where constant velocity has them: flow may have stayed with whoever hides them."""
    if which.any():
        tracks.poses[which, ..., :2] += tracks.drifts[which][:, None, None]
        tracks.boxes[which] += np.tile(tracks.drifts[which], 2)
        tracks.drifts[which] = 0


def observe(tracks: TrackState, rows: NDArray[np.intp], seen: Observed, chosen: NDArray[np.intp], now: float) -> None:
    """Tell people `rows` that they are the poses `chosen` of now, in place."""
    points, queue = seen.points[chosen], tracks.poses[rows]
    elapsed = now - tracks.seen[rows]
    # The surprise of each keypoint that both poses show, against where constant velocity expected it.
    surprise = (points - queue[:, 0])[..., :2]
    weights = points[..., 2] * queue[:, 0, :, 2]
    shared = weights.sum(axis=1)[:, None]
    summed = np.einsum("nkd,nk->nd", surprise, weights) - shared * tracks.drifts[rows]
    mean = summed / np.maximum(shared, 1e-6)
    age = np.maximum(now - tracks.born[rows], 1e-6)
    gain = np.maximum(-np.expm1(-elapsed / _SPEED), elapsed / age)
    rate = np.divide(gain, elapsed, out=np.zeros_like(elapsed), where=elapsed > 0)
    tracks.velocities[rows] += (mean * rate[:, None]).astype(np.float32)
    queue[:, 1:] = queue[:, :-1]
    queue[:, 0] = points
    tracks.poses[rows] = queue
    tracks.boxes[rows] = seen.boxes[chosen]
    tracks.scores[rows] = seen.scores[chosen]
    tracks.drifts[rows] = 0
    tracks.seen[rows] = now
    tracks.missed[rows] = 0


def _shift(boxes: NDArray[np.float32], moves: NDArray[np.float32]) -> None:
    boxes[:, :2] += moves
    boxes[:, 2:] += moves
