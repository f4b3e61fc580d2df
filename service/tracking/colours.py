"""What people wear, as one colour a keypoint: tells apart who comes back into sight where positions no longer do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.ops.nms import iou
from engines.poses import Floats, Frame

_INWARD = 0.1
"""How far from the keypoint towards the middle of the person a colour is taken: keypoints lie on edges."""
_SPREAD = 0.02
"""The distance of the nine pixels that make a colour, in sizes of the person."""
_CLEAR = 0.5
"""Keypoints that score less may be hidden, and show what hides them."""
_WHOLE = 0.6
"""Of somebody who shows less than this part of their keypoints nothing new is learned."""
_LEARNING = 1.0
"""Seconds over which colours are averaged."""
_BETWEEN, _SHARPNESS = 0.105, 0.012
"""The mean difference of colours at which one person and two are equally likely, and how sharp a border that is. Two
looks at one person differ by 0.03 to 0.10, at two people by 0.11 to 0.25 (PoseTrack's and the tests' own scenes)."""
_LEAST = 3
"""So many keypoints must show a colour on both sides to compare."""
_MANY = 10
"""So many keypoints prove as much as colours can."""
_SUREST = 0.9
"""What colours can prove: people dress alike, and light changes."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """The colours of the poses of a frame. rgb: (N, K, 3) 0..1. known: (N, K)."""

    rgb: Floats
    known: NDArray[np.bool_]


def look(frame: Frame, points: Floats, boxes: Floats, areas: Floats) -> Appearance:
    """The colours at the keypoints that lie in nobody else's box.

    points: (N, K, 3) pixels and score. boxes: (N, 4). areas: (N,) square pixels.
    """
    height, width = frame.shape[:2]
    known = points[..., 2] >= _CLEAR
    _doubt_the_crowded(known, points, boxes)
    rgb = np.zeros((*known.shape, 3), np.float32)
    people, _ = np.nonzero(known)
    shown = np.maximum(known.sum(axis=1), 1)[:, None]
    middles = (points[..., :2] * known[..., None]).sum(axis=1) / shown
    at = points[known][:, :2] * (1 - _INWARD) + middles[people] * _INWARD
    step = np.maximum(np.sqrt(areas[people]) * _SPREAD, 1)
    offsets = np.array([-1, 0, 1], np.float32)
    x = np.clip(at[:, :1] + step[:, None] * offsets, 0, width - 1).astype(np.intp)
    y = np.clip(at[:, 1:] + step[:, None] * offsets, 0, height - 1).astype(np.intp)
    rgb[known] = frame[y[:, :, None], x[:, None, :]].mean(axis=(1, 2), dtype=np.float32) * np.float32(1 / 255)
    return Appearance(rgb, known)


def _doubt_the_crowded(known: NDArray[np.bool_], points: Floats, boxes: Floats) -> None:
    """Forget, in place, what lies in somebody else's box."""
    if len(boxes) < 2:
        return
    overlap = iou(boxes, boxes)
    np.fill_diagonal(overlap, 0)
    for person in np.flatnonzero(overlap.max(axis=1, initial=0) > 0):
        others = boxes[overlap[person] > 0]
        at = points[person, :, None, :2]
        known[person] &= ~((at > others[:, :2]) & (at < others[:, 2:])).all(axis=2).any(axis=1)


def learn(colours: Floats, rows: NDArray[np.intp], worn: Appearance, chosen: NDArray[np.intp], elapsed: Floats) -> None:
    """Take what people `rows` wear now, `elapsed` (M,) seconds after the last look, into `colours` (T, K, 4)."""
    old, known = colours[rows], worn.known[chosen]
    known = known & ((known.mean(axis=1) >= _WHOLE)[:, None] | (old[..., 3] == 0))
    gain = np.where(old[..., 3] > 0, -np.expm1(-elapsed / _LEARNING)[:, None], 1) * known
    old[..., :3] += (worn.rgb[chosen] - old[..., :3]) * gain[..., None]
    old[..., 3] = np.maximum(old[..., 3], known)
    colours[rows] = old


def alike(colours: Floats, worn: Appearance, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    """(P,) how likely person `rows[p]` is the pose `columns[p]` by their colours alone; 0.5 where those are unknown."""
    old = colours[rows]
    both = (old[..., 3] > 0) & worn.known[columns]
    count = both.sum(axis=1)
    distance = np.sqrt(np.square(old[..., :3] - worn.rgb[columns]).mean(axis=-1))
    differ = (distance * both).sum(axis=1) / np.maximum(count, 1)
    proof = np.where(count >= _LEAST, np.minimum(count / _MANY, 1), 0) * (_SUREST - 0.5)
    likely: Floats = 0.5 + proof * np.tanh((_BETWEEN - differ) / (2 * _SHARPNESS))
    return likely.astype(np.float32)
