"""Moving tracked people between frames, and updating them with new poses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from engines.ops.nms import iou
from engines.poses import Poses
from engines.skeletons import Skeleton
from service.tracking.flow import Carried
from service.tracking.similarity import Observed, middles
from service.tracking.state import TrackState

_DAMPING = 4.0
"""Time constant in seconds: the speed of a person out of sight falls to a third in this time."""
_HIDDEN = 0.3
"""Trust in the flow of people out of sight, which may follow the person in front."""
_CROWD = 8.0
"""How much boxes that overlap completely reduce the trust in flow."""
_SOON = 0.25
"""Seconds between frames that halve the trust in flow."""
_SPEED = 0.3
"""Time constant of the average of speed, in seconds."""
_OF_A_PART = 6
"""Keypoints that flow follows of each fine part of a skeleton. Those close by move alike."""
_BEYOND = 0.25
"""Share of a box's width by which its middle must be beyond the border when a person has left the picture."""
_MARGIN = 0.15
"""Margin around a person's keypoints for a proposed box (section 3.2 of the paper)."""


def carry(
    tracks: TrackState, seconds: float, carried: Carried | None, followed: NDArray[np.bool_], least: int = 3
) -> NDArray[np.float32]:
    """Move `tracks` by `seconds`, in place. Returns the share of each person's keypoints that flow has found, (T,).

    carried: the result of flow, None without pixels. followed: (K,), the keypoints that flow was to find. Others, and
    those that it did not find, move with the rest of the person.
    People with fewer than `least` found keypoints move at constant velocity, plus the camera's motion.
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
    by_motion += carried.camera_at(middles(tracks.boxes) + tracks.drifts)
    count = carried.found.sum(axis=1)
    whole = np.where((count >= least)[:, None], carried.moves.sum(axis=1) / np.maximum(count, 1)[:, None], by_motion)
    moves = np.where((carried.found & (count >= least)[:, None])[..., None], carried.moves, whole[:, None])
    tracks.poses[..., :2] += moves[:, None]
    _shift(tracks.boxes, whole)
    tracks.drifts[:] += by_motion - whole
    known = np.maximum((tracks.poses[:, 0, :, 2] > 0)[:, followed].sum(axis=1), 1)
    return np.where(count >= least, count / known, held).astype(np.float32)


def trust(tracks: TrackState, seconds: float) -> NDArray[np.float32]:
    """Return the trust in the flow of each person over `seconds`, (T,) 0..1."""
    trusted: NDArray[np.float32] = np.where(tracks.missed > 0, _HIDDEN, 1).astype(np.float32)
    if len(tracks) > 1:
        overlap = iou(tracks.boxes, tracks.boxes)
        np.fill_diagonal(overlap, 0)
        trusted /= 1 + _CROWD * overlap.max(axis=1)
    return trusted / np.float32(1 + (seconds / _SOON) ** 2)


def discard_flow(tracks: TrackState, which: NDArray[np.bool_]) -> None:
    """Move people to their positions by constant velocity, because flow may have followed the person in front."""
    if which.any():
        tracks.poses[which, ..., :2] += tracks.drifts[which][:, None, None]
        tracks.boxes[which] += np.tile(tracks.drifts[which], 2)
        tracks.drifts[which] = 0


def observe(tracks: TrackState, rows: NDArray[np.intp], seen: Observed, chosen: NDArray[np.intp], now: float) -> None:
    """Update people `rows` with their matched poses `chosen` at the time `now`, in place."""
    points, queue = seen.points[chosen], tracks.poses[rows]
    elapsed = now - tracks.seen[rows]
    # The innovation of each keypoint in both poses: its distance from the position by constant velocity.
    innovation = (points - queue[:, 0])[..., :2]
    weights = points[..., 2] * queue[:, 0, :, 2]
    shared = weights.sum(axis=1)[:, None]
    summed = np.einsum("nkd,nk->nd", innovation, weights) - shared * tracks.drifts[rows]
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


def outside(tracks: TrackState, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The people (T,) who are expected beyond the border of a picture of `size` (width, height), but for a part."""
    boxes = tracks.boxes + np.tile(tracks.drifts, 2)
    beyond = (boxes[:, 2:] - boxes[:, :2]) * _BEYOND
    at = middles(boxes)
    outside: NDArray[np.bool_] = np.any((at < -beyond) | (at > size + beyond), axis=1)
    return outside if 0 not in size else np.zeros(len(boxes), np.bool_)


def fill(
    tracks: TrackState, poses: Poses, rows: NDArray[np.intp], chosen: NDArray[np.intp], least: float
) -> tuple[Poses, NDArray[np.bool_]]:
    """Replace keypoints below the score `least` with better ones from the person's recent poses.

    These are moved by flow, and their score is halved. Returns the poses, and which keypoints (N, K) were replaced.
    """
    keypoints, scores = poses.keypoints.copy(), poses.keypoint_scores.copy()
    filled = np.zeros(scores.shape, np.bool_)
    for row, pose in zip(rows, chosen, strict=True):
        for past in tracks.poses[row]:
            weak = (scores[pose] < least) & (past[:, 2] * 0.5 > scores[pose])
            keypoints[pose, weak], scores[pose, weak] = past[weak, :2], past[weak, 2] * 0.5
            filled[pose] |= weak
    return replace(poses, keypoints=keypoints, keypoint_scores=scores), filled


def followed(skeleton: Skeleton) -> NDArray[np.bool_]:
    """The keypoints (K,) that flow follows: all, but of a fine part, such as a hand, a few that are spread over it."""
    followed = np.ones(len(skeleton), np.bool_)
    for part in skeleton.parts:
        followed[list(part)] = False
        followed[list(part[:: max(1, len(part) // _OF_A_PART)])] = True
    return followed


def around(tracks: TrackState) -> NDArray[np.float32]:
    """Boxes (T, 4) around the keypoints, with a margin; the tracked box if few keypoints are known."""
    newest = tracks.poses[:, 0]
    known = newest[..., 2] > 0
    low = np.where(known[..., None], newest[..., :2], np.inf).min(axis=1)
    high = np.where(known[..., None], newest[..., :2], -np.inf).max(axis=1)
    enough = known.mean(axis=1) > 0.5
    margin = (high - low) * np.float32(_MARGIN)
    wide = np.concatenate([low - margin, high + margin], axis=1)
    return np.where(enough[:, None], wide, tracks.boxes).astype(np.float32)
