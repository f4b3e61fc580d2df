"""Faces: where the heads of people are, from their keypoints, and blurring them beyond recognition.

Where keypoints are unsure, more is blurred rather than less. Sizes of heads follow from other distances by the
proportions of adults (DIN 33402-2, medians): a head is 23 cm high, 15.5 cm wide between the ears, the eyes are 6.3 cm
apart, the shoulder joints 36 cm, the hips 50 cm below the shoulders. Children have larger heads for their bodies.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles, Frame, Poses
from engines.skeletons import Skeleton

Item = TypeVar("Item")

BLURRED_SCORE = 0.1
"""Faces are blurred of people with at least this score, whatever the minimum score of those who are drawn."""
_SURE = 0.4
"""The score from which keypoints are believed."""
_HEAD = re.compile(r"nose|(left_|right_)?(eye|ear|mouth)(_\w+)?|head|head_top|head_bottom|upper_neck|face-\d+")
_CELLS = 5
"""Cells of the mosaic across a head. The face itself then has about three by four, smoothed into each other."""
_SMALLEST_CELL = 4
"""Pixels."""
_FACE_POINTS = 3
"""How many sure keypoints of the head are enough, if most of the others are sure, too."""
_UNSURE_GROWTH = 1.35
"""How much larger a circle is that does not follow from a sure face."""


class UnseenHeadsError(ValueError):
    """Faces cannot be blurred, because the model has no keypoints that show where heads are."""


class _Landmarks(NamedTuple):
    """Indices of a skeleton's keypoints, by what they say about the head. Pairs are left and right."""

    head: NDArray[np.intp]
    eyes: tuple[int, int] | None
    ears: tuple[int, int] | None
    shoulders: tuple[int, int] | None
    hips: tuple[int, int] | None


@lru_cache(64)
def _landmarks(skeleton: Skeleton) -> _Landmarks:
    def pair(name: str) -> tuple[int, int] | None:
        sides = [f"left_{name}", f"right_{name}"]
        return (names.index(sides[0]), names.index(sides[1])) if set(sides) <= set(names) else None

    names = skeleton.keypoints
    head = [n for n, name in enumerate(names) if _HEAD.fullmatch(name)]
    return _Landmarks(np.array(head, np.intp), pair("eye"), pair("ear"), pair("shoulder"), pair("hip"))


def check_heads(skeleton: Skeleton) -> None:
    """Raise UnseenHeadsError if a model has no keypoints of heads and none of shoulders."""
    marks = _landmarks(skeleton)
    if not len(marks.head) and marks.shoulders is None:
        raise UnseenHeadsError(f"blur: {skeleton.name} has no keypoints of heads; choose another model")


def head_circles(poses: Poses) -> Doubles:
    """Return circles (F, 3) of x, y and radius in pixels that cover the heads of all people, up to four a person."""
    marks = _landmarks(poses.skeleton)
    circles = [
        circle
        for n in range(len(poses))
        for circle in _circles(
            poses.keypoints[n].astype(np.float64), poses.keypoint_scores[n], poses.boxes[n].astype(np.float64), marks
        )
    ]
    return np.array(circles, np.float64).reshape(-1, 3)


def _circles(
    points: Doubles, scores: NDArray[np.float32], box: Doubles, marks: _Landmarks
) -> Iterator[tuple[float, float, float]]:
    placed = np.asarray(np.isfinite(points).all(axis=1))
    sure = placed & (scores >= _SURE)
    side = float(np.nan_to_num((box[2:] - box[:2]).max(), posinf=0.0, neginf=0.0))
    height = _head_height(points, sure, marks, side)
    face, placed_face = (marks.head[known[marks.head]] for known in (sure, placed))
    if len(face) >= 2:
        yield _around(points[face], 0.6 * height)
    if len(face) >= _FACE_POINTS and float(np.median(scores[placed_face])) >= _SURE:
        return
    if len(placed_face):
        yield _around(points[placed_face], 0.6 * height * _UNSURE_GROWTH, most=1.5 * height)
    if marks.shoulders is not None and sure[list(marks.shoulders)].any():
        x, y = _above_shoulders(points, sure, marks, height)
        yield x, y, 0.6 * height * _UNSURE_GROWTH
    # Most heads are at the top of the box, wherever the keypoints are.
    yield (box[0] + box[2]) / 2, box[1] + 0.14 * (box[3] - box[1]), 0.2 * side


def _above_shoulders(points: Doubles, sure: NDArray[np.bool_], marks: _Landmarks, height: float) -> Doubles:
    """Return the middle of a head of `height` pixels: as far above the sure shoulders, away from the hips if known."""
    shoulder = points[[n for n in marks.shoulders or () if sure[n]]].mean(axis=0)
    up = np.array([0.0, -1.0])
    if hips := [n for n in marks.hips or () if sure[n]]:
        trunk = shoulder - points[hips].mean(axis=0)
        if (length := float(np.hypot(*trunk))) > 0.5 * height:
            up = trunk / length
    return np.asarray(shoulder + height * up)


def _head_height(points: Doubles, sure: NDArray[np.bool_], marks: _Landmarks, side: float) -> float:
    """Return the height of a head in pixels: the largest that any sure distance suggests. side: of the box, pixels."""

    def across(pair: tuple[int, int] | None) -> float:
        return float(np.hypot(*(points[pair[0]] - points[pair[1]]))) if pair and sure[list(pair)].all() else 0.0

    def middle(pair: tuple[int, int] | None) -> Doubles | None:
        return points[list(pair)].mean(axis=0) if pair and sure[list(pair)].all() else None

    face = points[marks.head[sure[marks.head]]]
    wide = [3.6 * across(marks.eyes), 1.5 * across(marks.ears), 0.65 * across(marks.shoulders), 0.13 * side]
    if len(face):
        wide.append(1.3 * float(np.hypot(*np.ptp(face, axis=0))))
    if (shoulders := middle(marks.shoulders)) is not None:
        if (hips := middle(marks.hips)) is not None:
            wide.append(0.46 * float(np.hypot(*(shoulders - hips))))
        if len(face):
            wide.append(0.85 * float(np.hypot(*(face.mean(axis=0) - shoulders))))
    return max(min(max(wide), side) if side > 0 else max(wide), 4.0)


def _around(points: Doubles, radius: float, most: float = np.inf) -> tuple[float, float, float]:
    """The circle of at least `radius` around points, and of at most `most`."""
    x, y = (points.min(axis=0) + points.max(axis=0)) / 2
    spread = float(np.hypot(*np.ptp(points, axis=0)))
    return float(x), float(y), min(max(radius, 0.65 * spread), max(most, radius))


def blur_circles(canvas: Frame, circles: Doubles) -> None:
    """Blur circles (F, 3) of a frame, in place, so that faces in them cannot be recognised."""
    for x, y, radius in circles.tolist():
        if np.isfinite([x, y, radius]).all():
            _blur(canvas, x, y, radius)


def _blur(canvas: Frame, x: float, y: float, radius: float) -> None:
    """Replace a circle by the means of a few cells, smoothed: the rest of its content is gone, not only hidden."""
    height, width = canvas.shape[:2]
    reach = int(min(radius, 2.0 * (height + width))) + 2
    left, right = (int(np.clip(round(x) + side, 0, width)) for side in (-reach, reach + 1))
    top, bottom = (int(np.clip(round(y) + side, 0, height)) for side in (-reach, reach + 1))
    if left >= right or top >= bottom:
        return
    part = canvas[top:bottom, left:right]
    cell = max(2 * radius / _CELLS, _SMALLEST_CELL)
    few = max(1, round((right - left) / cell)), max(1, round((bottom - top) / cell))
    mosaic = cv2.resize(part, few, interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(mosaic, (right - left, bottom - top), interpolation=cv2.INTER_CUBIC)
    across, down = np.arange(left, right) - x, np.arange(top, bottom) - y
    # The edge is soft on the outside only.
    distance = np.sqrt((across[None] ** 2 + down[:, None] ** 2).astype(np.float32))
    inside = np.clip((radius + 2 - distance) / 2, 0, 1)
    part[:] = cv2.blendLinear(smooth, np.ascontiguousarray(part), inside, 1 - inside)


class FaceMemory(Generic[Item]):
    """Keeps the heads of a video blurred while a detector misses them, for frames up to `seconds` before and after.

    frames: the most that are held back. Belongs to one video.
    """

    def __init__(self, seconds: float, frames: int) -> None:
        self._seconds = seconds
        self._frames = max(1, frames)
        self._known: deque[tuple[float, Doubles]] = deque()
        self._waiting: deque[tuple[float, Item]] = deque()

    def push(self, item: Item, circles: Doubles, timestamp: float) -> Iterator[tuple[Item, Doubles]]:
        """Add a frame with its heads. Yield earlier frames that are complete, with all circles to blur."""
        self._known.append((timestamp, circles))
        self._waiting.append((timestamp, item))
        while self._waiting and (timestamp - self._waiting[0][0] >= self._seconds or len(self._waiting) > self._frames):
            yield self._first()

    def flush(self) -> Iterator[tuple[Item, Doubles]]:
        """Yield the frames that still wait, after the last one."""
        while self._waiting:
            yield self._first()

    def _first(self) -> tuple[Item, Doubles]:
        timestamp, item = self._waiting.popleft()
        while self._known[0][0] < timestamp - self._seconds:
            self._known.popleft()
        return item, np.concatenate([c for at, c in self._known if abs(at - timestamp) <= self._seconds])
