"""Appearance of people as one colour per keypoint. Identifies people who return when positions no longer can."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.ops.nms import iou
from engines.poses import Doubles, Floats, Frame
from engines.skeletons import Skeleton

_INWARD = 0.1
"""Colours are sampled this far from the keypoint towards the person's middle, because keypoints lie on edges."""
_SPREAD = 0.02
"""Distance between the nine pixels that are averaged to a colour, relative to the person's size."""
_CLEAR = 0.5
"""Keypoints below this score may be occluded, and show the occluding object."""
_WHOLE = 0.6
"""Known colours are not updated from people with less than this share of visible keypoints."""
_LEARNING = 1.0
"""Time constant of the average of colours, in seconds."""
LEAST = 3
"""Keypoints with known colours on both sides that a comparison needs."""
MANY = 8
"""The number of compared keypoints from which colours count fully."""
_DARK = 0.06
"""Brightness below which a camera's noise hides differences, 0..1."""
_EQUAL = 0.08
"""Lower bound of relative differences: two looks at one person differ by more, except for chance."""
_USUAL_TINT, _USUAL_CONTRAST = 0.12, 0.3
"""Units of differences."""
_CHROMA = (
    np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]], np.float32)
    * np.sqrt(np.array([[0.5], [3], [3]], np.float32))
).T
"""From RGB to brightness and chroma (ITU-R BT.601), weighted."""


@dataclass(frozen=True, slots=True)
class Appearance:
    """The colours of the poses in a frame. rgb: (N, K, 3) 0..1. known: (N, K)."""

    rgb: Floats
    known: NDArray[np.bool_]


def sample(frame: Frame, points: Floats, boxes: Floats, areas: Floats) -> Appearance:
    """Sample the colours at the keypoints, except for those inside other people's boxes.

    points: (N, K, 3) pixels and score. boxes: (N, 4). areas: (N,) square pixels.
    """
    height, width = frame.shape[:2]
    known = points[..., 2] >= _CLEAR
    _exclude_overlaps(known, points, boxes)
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


def _exclude_overlaps(known: NDArray[np.bool_], points: Floats, boxes: Floats) -> None:
    """Clear `known`, in place, for keypoints inside other people's boxes."""
    if len(boxes) < 2:
        return
    overlap = iou(boxes, boxes)
    np.fill_diagonal(overlap, 0)
    for person in np.flatnonzero(overlap.max(axis=1, initial=0) > 0):
        others = boxes[overlap[person] > 0]
        at = points[person, :, None, :2]
        known[person] &= ~((at > others[:, :2]) & (at < others[:, 2:])).all(axis=2).any(axis=1)


def learn(
    colours: Floats,
    rows: NDArray[np.intp],
    appearance: Appearance,
    chosen: NDArray[np.intp],
    elapsed: Doubles,
    ages: Doubles,
    new: NDArray[np.bool_],
) -> None:
    """Update the `colours` (T, K, 4) of people `rows`, in place: a mean that becomes a moving average.

    elapsed: (M,) seconds after the last update. ages: (M,) seconds between that and the first. new: (M,) people without
    an id, who may have to be compared with absent people before they are seen as a whole.
    """
    old, known = colours[rows], appearance.known[chosen]
    known = known & ((known.mean(axis=1) >= _WHOLE)[:, None] | (old[..., 3] == 0) | new[:, None])
    recent = -np.expm1(-elapsed / _LEARNING)
    mean = elapsed / np.maximum(ages + 2 * elapsed, 1e-6)
    gain = np.where(old[..., 3] > 0, np.maximum(recent, mean)[:, None], 1) * known
    old[..., :3] += (appearance.rgb[chosen] - old[..., :3]) * gain[..., None]
    old[..., 3] = np.maximum(old[..., 3], known)
    colours[rows] = old


def sides(skeleton: Skeleton) -> NDArray[np.intp]:
    """The left and the right keypoint (P, 2) of each pair of a skeleton. Others, without a counterpart, stand twice."""
    paired = {keypoint for pair in skeleton.pairs for keypoint in pair}
    alone = [(n, n) for n in range(len(skeleton)) if n not in paired]
    return np.array([*alone, *skeleton.pairs], np.intp).reshape(-1, 2)


def pooled(colours: Floats, sides: NDArray[np.intp]) -> Floats:
    """Average the known colours (T, K, 4) of left and right: (T, P, 4). Who turns around shows the other side."""
    both = colours[:, sides]
    known = both[..., 3:] > 0
    count = known.sum(axis=2)
    mean = (both[..., :3] * known).sum(axis=2) / np.maximum(count, 1)
    return np.concatenate([mean, count > 0], axis=-1).astype(np.float32)


def differences(
    colours: Floats, appearance: Appearance, rows: NDArray[np.intp], columns: NDArray[np.intp], many: int = MANY
) -> tuple[Floats, Floats, Floats]:
    """Compare person `rows[p]` with pose `columns[p]`: tint and contrast (P,), relative to what is usual between two
    people, and how much the comparison is worth (P,), 0..1; 1 from `many` common keypoints on.

    The tint is the mean distance of colours with more weight on chroma than on brightness. The contrast is that of the
    logarithms of the colours without their common mean, so that it does not depend on how bright the light is.
    """
    old = colours[rows]
    both = (old[..., 3] > 0) & appearance.known[columns]
    count = both.sum(axis=1)
    known = np.maximum(count, 1).astype(np.float32)
    a, b = old[..., :3], appearance.rgb[columns]
    tints = np.sqrt(np.square((a - b) @ _CHROMA).sum(axis=-1))
    ratio = np.log((a + _DARK) / (b + _DARK)) * both[..., None]
    ratio -= ratio.sum(axis=(1, 2), keepdims=True) / (3 * known)[:, None, None]
    contrasts = np.sqrt(np.square(ratio).mean(axis=-1))
    tint = (tints * both).sum(axis=1) / known / _USUAL_TINT
    contrast = (contrasts * both).sum(axis=1) / known / _USUAL_CONTRAST
    worth = np.where(count >= LEAST, np.minimum(count / many, 1), 0)
    return np.maximum(tint, _EQUAL), np.maximum(contrast, _EQUAL), worth.astype(np.float32)
