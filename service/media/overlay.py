"""Skeletons drawn on a picture."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.poses import Frame, Poses
from engines.skeletons import Skeleton

Colour = tuple[int, int, int]

_OUTLINE: Colour = (16, 16, 20)
_TEXT: Colour = (255, 255, 255)
_GOLDEN_ANGLE = 0.381966
"""Of a full turn: hues that are consecutive multiples of it lie far apart, however many there are."""

_SUBPIXEL_BITS = 4
_FONT = cv2.FONT_HERSHEY_DUPLEX


class _Palette(NamedTuple):
    """The colours of a person's left, right and middle."""

    left: Colour
    right: Colour
    middle: Colour


_ALONE = _Palette(left=(255, 149, 0), right=(0, 208, 255), middle=(240, 245, 250))


@dataclass(frozen=True, slots=True, eq=False)
class Trail:
    """The way that person `id` came, oldest first. points: (P, 2) frame pixels. ages: (P,) 0 for now to 1 for gone."""

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
    """`pixels` with the people of `poses` drawn over them: in a new array, the one copy, or `in_place`.

    Keypoints below `min_keypoint_score` and the limbs that end in them are left out. Left, right and middle have
    colours of their own; where there are several people, or identities, each has a hue, kept for as long as the id is.
    boxes, labels: draw the box, and beside it the id (where there is one) and the score. trails: drawn below all else.
    """
    canvas = pixels if in_place else pixels.copy()
    for trail in trails:
        _draw_trail(canvas, trail)
    sides = [_side(name) for name in poses.skeleton.keypoints]
    for n in np.argsort(poses.scores, kind="stable"):  # the best last, over the others
        palette = _palette(poses, int(n))
        visible = (poses.keypoint_scores[n] >= min_keypoint_score) & np.isfinite(poses.keypoints[n]).all(axis=1)
        width = _line_width(canvas, poses.keypoints[n][visible], poses.boxes[n])
        if boxes:
            _draw_box(canvas, poses.boxes[n], palette.middle, width)
        _draw_skeleton(canvas, poses.keypoints[n], visible, poses.skeleton, sides, palette, width)
    for n in range(len(poses) if labels else 0):  # after all the people, so that none covers them
        identity = "" if poses.ids is None else f"#{poses.ids[n]} "
        _draw_label(canvas, f"{identity}{poses.scores[n]:.2f}", poses.boxes[n])
    return canvas


def _side(name: str) -> int:
    """The place of a keypoint's colour in its palette."""
    return 0 if name.startswith("left_") else 1 if name.startswith("right_") else 2


def _palette(poses: Poses, n: int) -> _Palette:
    if poses.ids is None and len(poses) == 1:
        return _ALONE
    hue = _hue(n if poses.ids is None else int(poses.ids[n]))
    return _Palette(left=_rgb(hue - 0.05, 0.95, 1.0), right=_rgb(hue + 0.05, 0.55, 1.0), middle=_rgb(hue, 0.75, 0.9))


def _hue(number: int) -> float:
    return 0.08 + number * _GOLDEN_ANGLE


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _line_width(canvas: Frame, points: NDArray[np.float32], box: NDArray[np.float32]) -> int:
    """In pixels: in proportion to the person's longer side, within what looks well on a picture of this size."""
    extent = points.max(axis=0) - points.min(axis=0) if len(points) else np.zeros(2)
    finite = np.nan_to_num(np.concatenate([extent, box[2:] - box[:2]]), posinf=0.0, neginf=0.0)
    frame = float(np.hypot(*canvas.shape[:2]))
    return round(float(np.clip(finite.max() / 70, max(1.0, frame / 500), max(2.0, frame / 130))))


def _place(point: NDArray[np.float32], canvas: Frame) -> tuple[int, int]:
    """OpenCV's fixed-point coordinates; far points stay within their range."""
    limit = 2 * max(canvas.shape)
    x, y = np.rint(point.clip(-limit, limit) * (1 << _SUBPIXEL_BITS)).astype(int)
    return int(x), int(y)


def _draw_skeleton(
    canvas: Frame,
    points: NDArray[np.float32],
    visible: NDArray[np.bool_],
    skeleton: Skeleton,
    sides: list[int],
    palette: _Palette,
    width: int,
) -> None:
    places = [_place(point, canvas) if seen else None for point, seen in zip(points, visible, strict=True)]
    rim = max(1, round(width * 0.45))
    # All outlines first, so that the bright lines join without dark seams.
    for edge in (rim, 0):
        for a, b in skeleton.limbs:
            start, end = places[a], places[b]
            if start is not None and end is not None:
                side = sides[a] if sides[a] == sides[b] else 2
                colour = _OUTLINE if edge else palette[side]
                cv2.line(canvas, start, end, colour, width + 2 * edge, cv2.LINE_AA, _SUBPIXEL_BITS)
    radius = width * 1.1
    for place, side in zip(places, sides, strict=True):
        if place is not None:
            _draw_dot(canvas, place, radius + rim, _OUTLINE)
            _draw_dot(canvas, place, radius, palette[side])


def _draw_dot(canvas: Frame, place: tuple[int, int], radius: float, colour: Colour) -> None:
    cv2.circle(canvas, place, round(radius * (1 << _SUBPIXEL_BITS)), colour, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_trail(canvas: Frame, trail: Trail) -> None:
    """Thinner and darker the older it is."""
    widest = max(2.0, float(np.hypot(*canvas.shape[:2])) / 250)
    places = [_place(point, canvas) if np.isfinite(point).all() else None for point in trail.points]
    for start, end, age in zip(places, places[1:], trail.ages[1:].tolist(), strict=False):
        if start is not None and end is not None:
            colour = _rgb(_hue(trail.id), 0.75, 0.9 - 0.5 * age)
            width = max(1, round(widest * (1 - 0.7 * age)))
            cv2.line(canvas, start, end, colour, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_box(canvas: Frame, box: NDArray[np.float32], colour: Colour, width: int) -> None:
    if not np.isfinite(box).all():
        return
    corners = _place(box[:2], canvas), _place(box[2:], canvas)
    thin = max(1, width // 2)
    cv2.rectangle(canvas, *corners, _OUTLINE, thin + 2, cv2.LINE_AA, _SUBPIXEL_BITS)
    cv2.rectangle(canvas, *corners, colour, thin, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_label(canvas: Frame, text: str, box: NDArray[np.float32]) -> None:
    """White on dark, on the box's upper left corner, moved into the picture where that is outside."""
    height, width = canvas.shape[:2]
    scale = max(0.4, min(height, width) / 1000)
    (text_width, text_height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    pad = max(3, text_height // 3)
    left, top = np.nan_to_num(box[:2], posinf=0.0, neginf=0.0)
    x = int(np.clip(left, 0, max(0, width - text_width - 2 * pad)))
    y = int(np.clip(top - text_height - 2 * pad, 0, max(0, height - text_height - 2 * pad)))
    cv2.rectangle(canvas, (x, y), (x + text_width + 2 * pad, y + text_height + 2 * pad), _OUTLINE, cv2.FILLED)
    cv2.putText(canvas, text, (x + pad, y + pad + text_height), _FONT, scale, _TEXT, 1, cv2.LINE_AA)
