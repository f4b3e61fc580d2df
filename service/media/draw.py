"""Drawing skeletons, boxes, labels and trails on a frame."""

from __future__ import annotations

import colorsys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.poses import Frame, Poses
from engines.skeletons import Skeleton
from service.tracking.places import hips

Colour = tuple[int, int, int]

_OUTLINE: Colour = (16, 16, 20)
_TEXT: Colour = (255, 255, 255)
_GOLDEN_ANGLE = 0.381966
"""Step between the hues of consecutive ids, as a fraction of a full turn. It keeps any number of hues far apart."""

_SUBPIXEL_BITS = 4
_FINE = 60
"""The size of a fine part of a skeleton, such as a hand, in widths of its lines."""
_FONT = cv2.FONT_HERSHEY_DUPLEX


class _Palette(NamedTuple):
    """The colours of a person's left, right and middle keypoints."""

    left: Colour
    right: Colour
    middle: Colour


_ONE_PERSON = _Palette(left=(255, 149, 0), right=(0, 208, 255), middle=(240, 245, 250))


@dataclass(frozen=True, slots=True, eq=False)
class Trail:
    """Recent positions of person `id`, oldest first. points: (P, 2) frame pixels. ages: (P,) 0 (now) to 1 (expired)."""

    id: int
    points: NDArray[np.float32]
    ages: NDArray[np.float32]


def draw(
    pixels: Frame,
    poses: Poses,
    *,
    min_keypoint_score: float = 0.3,
    boxes: bool = False,
    labels: bool = False,
    trails: Sequence[Trail] = (),
    in_place: bool = False,
) -> Frame:
    """Draw the people of `poses` on a copy of `pixels`, or on `pixels` themselves if `in_place`.

    Keypoints below `min_keypoint_score`, and limbs that end in them, are left out. Left, right and middle keypoints
    have different colours. With several people or with ids, each person has a hue; an id keeps its hue.
    boxes: draw each person's box. labels: draw the id, if there is one, and the score. trails: drawn below the people.
    """
    canvas = pixels if in_place else pixels.copy()
    for trail in trails:
        _draw_trail(canvas, trail)
    strokes = _strokes(poses.skeleton)
    for n in np.argsort(poses.scores, kind="stable"):  # the best on top
        palette = _palette(poses, int(n))
        visible = (poses.keypoint_scores[n] >= min_keypoint_score) & np.isfinite(poses.keypoints[n]).all(axis=1)
        width = _line_width(canvas, poses.keypoints[n][visible], poses.boxes[n])
        if boxes:
            _draw_box(canvas, poses.boxes[n], palette.middle, width)
        _draw_skeleton(canvas, poses.keypoints[n], visible, strokes, palette, width)
    for n in range(len(poses) if labels else 0):  # after all people, so that nothing covers them
        identity = "" if poses.ids is None else f"#{poses.ids[n]} "
        _draw_label(canvas, f"{identity}{poses.scores[n]:.2f}", poses.boxes[n])
    return canvas


class _Stroke(NamedTuple):
    """Keypoints that are drawn alike, with the limbs between them: a fine part of a skeleton, or all the rest.

    keypoints: (P,), limbs: (L, 2) indices. sides: (P,), limb_sides: (L,) indices of colours in a palette.
    """

    keypoints: NDArray[np.intp]
    limbs: NDArray[np.intp]
    sides: NDArray[np.intp]
    limb_sides: NDArray[np.intp]
    fine: bool


@lru_cache(64)
def _strokes(skeleton: Skeleton) -> tuple[_Stroke, ...]:
    """The skeleton without its fine parts, and then these, which are drawn over it."""
    sides = np.full(len(skeleton), 2)
    for side in (0, 1):
        sides[[pair[side] for pair in skeleton.pairs]] = side
    part = np.full(len(skeleton), -1)
    for number, members in enumerate(skeleton.parts):
        part[list(members)] = number
    limbs = np.array(skeleton.limbs, np.intp).reshape(-1, 2)
    limb_parts = part[limbs].max(axis=1)  # a limb that ends in a part is as fine as that
    limb_sides = np.where(sides[limbs[:, 0]] == sides[limbs[:, 1]], sides[limbs[:, 0]], 2)
    return tuple(
        _Stroke(
            np.flatnonzero(part == number),
            limbs[limb_parts == number],
            sides[part == number],
            limb_sides[limb_parts == number],
            number >= 0,
        )
        for number in range(-1, len(skeleton.parts))
    )


def _palette(poses: Poses, n: int) -> _Palette:
    if poses.ids is None and len(poses) == 1:
        return _ONE_PERSON
    hue = _hue(n if poses.ids is None else int(poses.ids[n]))
    return _Palette(left=_rgb(hue - 0.05, 0.95, 1.0), right=_rgb(hue + 0.05, 0.55, 1.0), middle=_rgb(hue, 0.75, 0.9))


def _hue(number: int) -> float:
    return 0.08 + number * _GOLDEN_ANGLE


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _line_width(canvas: Frame, points: NDArray[np.float32], box: NDArray[np.float32]) -> int:
    """Line width in pixels: proportional to the person's longer side, within limits that depend on the frame's size."""
    extent = points.max(axis=0) - points.min(axis=0) if len(points) else np.zeros(2)
    finite = np.nan_to_num(np.concatenate([extent, box[2:] - box[:2]]), posinf=0.0, neginf=0.0)
    frame = float(np.hypot(*canvas.shape[:2]))
    return round(float(np.clip(finite.max() / 70, max(1.0, frame / 500), max(2.0, frame / 130))))


def _fixed_points(points: NDArray[np.float32], canvas: Frame) -> NDArray[np.int32]:
    """Convert finite points (..., 2) to OpenCV's fixed-point coordinates, clipped to their range."""
    limit = 2 * max(canvas.shape)
    fixed: NDArray[np.int32] = np.rint(points.clip(-limit, limit) * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    return fixed


def _fixed_point(point: NDArray[np.float32], canvas: Frame) -> tuple[int, int]:
    x, y = _fixed_points(point, canvas).tolist()
    return x, y


def _draw_skeleton(
    canvas: Frame,
    points: NDArray[np.float32],
    visible: NDArray[np.bool_],
    strokes: Sequence[_Stroke],
    palette: _Palette,
    width: int,
) -> None:
    ends = _fixed_points(np.where(visible[:, None], points, 0), canvas)
    for stroke in strokes:
        shown = stroke.keypoints[visible[stroke.keypoints]]
        if not len(shown):
            continue
        thickness, rim, radius = width, max(1, round(width * 0.45)), width * 1.1
        if stroke.fine:
            extent = float(np.ptp(points[shown], axis=0).max())
            thickness = max(1, min(width, round(extent / _FINE)))
            rim, radius = thickness // 3, thickness * 0.8
        drawn = visible[stroke.limbs].all(axis=1)
        lines, line_sides = ends[stroke.limbs[drawn]], stroke.limb_sides[drawn]
        # Outlines first, so that the bright lines join without dark seams.
        if rim:
            cv2.polylines(canvas, list(lines), False, _OUTLINE, thickness + 2 * rim, cv2.LINE_AA, _SUBPIXEL_BITS)
        for side, colour in enumerate(palette):
            cv2.polylines(
                canvas, list(lines[line_sides == side]), False, colour, thickness, cv2.LINE_AA, _SUBPIXEL_BITS
            )
        sides = stroke.sides[visible[stroke.keypoints]]
        for (x, y), side in zip(ends[shown].tolist(), sides.tolist(), strict=True):
            if rim:
                _draw_dot(canvas, (x, y), radius + rim, _OUTLINE)
            _draw_dot(canvas, (x, y), radius, palette[side])


def _draw_dot(canvas: Frame, centre: tuple[int, int], radius: float, colour: Colour) -> None:
    cv2.circle(canvas, centre, round(radius * (1 << _SUBPIXEL_BITS)), colour, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_trail(canvas: Frame, trail: Trail) -> None:
    """Draw a trail. Older parts are thinner and darker."""
    widest = max(2.0, float(np.hypot(*canvas.shape[:2])) / 250)
    ends = [_fixed_point(point, canvas) if np.isfinite(point).all() else None for point in trail.points]
    for start, end, age in zip(ends, ends[1:], trail.ages[1:].tolist(), strict=False):
        if start is not None and end is not None:
            colour = _rgb(_hue(trail.id), 0.75, 0.9 - 0.5 * age)
            width = max(1, round(widest * (1 - 0.7 * age)))
            cv2.line(canvas, start, end, colour, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_box(canvas: Frame, box: NDArray[np.float32], colour: Colour, width: int) -> None:
    if not np.isfinite(box).all():
        return
    corners = _fixed_point(box[:2], canvas), _fixed_point(box[2:], canvas)
    thin = max(1, width // 2)
    cv2.rectangle(canvas, *corners, _OUTLINE, thin + 2, cv2.LINE_AA, _SUBPIXEL_BITS)
    cv2.rectangle(canvas, *corners, colour, thin, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_label(canvas: Frame, text: str, box: NDArray[np.float32]) -> None:
    """Draw white text on a dark background at the box's upper left corner, moved inside the frame if needed."""
    height, width = canvas.shape[:2]
    scale = max(0.4, min(height, width) / 1000)
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    pad = max(3, text_height // 3)
    left, top = np.nan_to_num(box[:2], posinf=0.0, neginf=0.0)
    x = int(np.clip(left, 0, max(0, width - text_width - 2 * pad)))
    y = int(np.clip(top - text_height - 2 * pad, 0, max(0, height - text_height - 2 * pad)))
    cv2.rectangle(canvas, (x, y), (x + text_width + 2 * pad, y + text_height + 2 * pad), _OUTLINE, cv2.FILLED)
    cv2.putText(canvas, text, (x + pad, y + pad + text_height), _FONT, scale, _TEXT, 1, cv2.LINE_AA)


_MOST_POINTS = 256
"""The most points of one trail, which bounds its cost at high frame rates. More would not be visible."""


class Trails:
    """The recent positions of each id: the middle of the hips within the last `seconds`.

    Boxes and feet are not used, because they jump when people occlude each other.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._points: dict[int, deque[tuple[float, float, float]]] = {}

    def update(self, poses: Poses, timestamp: float) -> list[Trail]:
        """Add the people of a frame at `timestamp` seconds. Returns all trails, also of people who have just left."""
        if poses.ids is not None:
            for number, (x, y) in zip(poses.ids.tolist(), hips(poses).tolist(), strict=True):
                if number >= 0 and isfinite(x) and isfinite(y):
                    self._add(number, x, y, timestamp)
        for number, points in list(self._points.items()):
            while points and not 0 <= timestamp - points[0][2] <= self._seconds:
                points.popleft()
            if not points:
                del self._points[number]
        return [self._trail(number, timestamp) for number in self._points]

    def _add(self, number: int, x: float, y: float, timestamp: float) -> None:
        points = self._points.setdefault(number, deque(maxlen=_MOST_POINTS))
        if len(points) > 1 and points[-1][2] - points[-2][2] < self._seconds / _MOST_POINTS:
            points.pop()  # thin out the points, but keep the newest
        points.append((x, y, timestamp))

    def _trail(self, number: int, now: float) -> Trail:
        rows = np.array(self._points[number], np.float64)
        return Trail(number, rows[:, :2].astype(np.float32), ((now - rows[:, 2]) / self._seconds).astype(np.float32))
