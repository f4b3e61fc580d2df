"""Optical flow of points from one frame to the next: pyramidal Lucas-Kanade with a forward-backward check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engines.poses import Floats, Frame

Grey = NDArray[Any]
"""(height, width) uint8."""

_SEARCH: dict[str, Any] = {
    "winSize": (11, 11),
    "maxLevel": 3,
    "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 12, 0.02),
    "minEigThreshold": 5e-4,  # windows whose gradients have a smaller eigenvalue have too little texture
}
_RETURN = 1.0
"""Largest forward-backward error, in pixels of the image that is used."""
_LARGE = 100.0
"""Height in pixels from which people can be tracked at half resolution without loss."""
_MOST = 0.8
"""Share of people who must be that large."""
_GRID = (6, 4)
_AGREED = 6
"""Tracked points of the background that an estimate of the camera's motion needs."""


@dataclass(frozen=True, slots=True)
class Carried:
    """The motion of people in pixels.

    moves: (T, K, 2), 0 for keypoints that were not found. found: (T, K). camera: (2,) the motion of the background.
    """

    moves: Floats
    found: NDArray[np.bool_]
    camera: Floats


class Flow:
    """Keeps the last frame in grey, and tracks points from it to the next."""

    def __init__(self) -> None:
        self._grey: Grey | None = None
        self._half: Grey | None = None  # the same at half size, if it was needed
        self._grid = np.zeros((0, 2), np.float32)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the last frame; (0, 0) without one."""
        return (0, 0) if self._grey is None else (self._grey.shape[1], self._grey.shape[0])

    def forget(self) -> None:
        """Drop the last frame."""
        self._grey = self._half = None

    def follow(self, frame: Frame, points: Floats, known: NDArray[np.bool_], boxes: Floats) -> Carried | None:
        """Track people from the last frame to this one, which becomes the last.

        points: (T, K, 2) pixels in the last frame. known: (T, K) points to track. boxes: (T, 4) people, the rest
        is background. Returns None without a last frame of the same size.
        """
        grey: Grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        last, half = self._grey, self._half
        self._grey, self._half = grey, None
        if last is None or last.shape != grey.shape:
            self._grid = _grid(grey.shape[1], grey.shape[0])
            return None
        ground = _outside(self._grid, boxes)
        start = np.concatenate([points[known], ground])
        if not len(start):
            return Carried(np.zeros_like(points), np.zeros_like(known), np.zeros(2, np.float32))
        if _all_large(boxes):
            half = _halved(last) if half is None else half
            self._half = _halved(grey)
            moved, ok = _lucas_kanade(half, self._half, start * np.float32(0.5))
            moved *= 2
        else:
            moved, ok = _lucas_kanade(last, grey, start)
        people = len(start) - len(ground)
        moves, found = np.zeros_like(points), np.zeros_like(known)
        found[known] = ok[:people]
        moves[found] = moved[:people][ok[:people]]
        return Carried(moves, found, _camera(moved[people:][ok[people:]]))


def _lucas_kanade(last: Grey, grey: Grey, begin: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return the moves (P, 2) in pixels of these images, and which (P,) pass the forward-backward check."""
    ahead, forth, _ = cv2.calcOpticalFlowPyrLK(last, grey, begin, np.empty_like(begin), **_SEARCH)
    # The backward search starts at its expected result, so it needs few steps if that is right.
    use_end = cv2.OPTFLOW_USE_INITIAL_FLOW
    back, home, _ = cv2.calcOpticalFlowPyrLK(grey, last, ahead, begin.copy(), flags=use_end, **_SEARCH)
    ok = (forth[:, 0] > 0) & (home[:, 0] > 0) & (np.square(back - begin).sum(axis=1) < _RETURN**2)
    return ahead - begin, ok


def _all_large(boxes: Floats) -> bool:
    """True if most people are large enough for half size. Not all, so that one child does not slow everything down."""
    large = np.count_nonzero(boxes[:, 3] - boxes[:, 1] >= _LARGE)
    return bool(large >= _MOST * len(boxes))


def _halved(grey: Grey) -> Grey:
    return cv2.resize(grey, (grey.shape[1] // 2, grey.shape[0] // 2), interpolation=cv2.INTER_AREA)


def _grid(width: int, height: int) -> Floats:
    x, y = np.meshgrid((np.arange(_GRID[0]) + 0.5) * width / _GRID[0], (np.arange(_GRID[1]) + 0.5) * height / _GRID[1])
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def _outside(grid: Floats, boxes: Floats) -> Floats:
    """The points of the background: points of the grid outside all boxes."""
    inside = (grid[:, None] >= boxes[None, :, :2]) & (grid[:, None] <= boxes[None, :, 2:])
    outside: NDArray[np.bool_] = ~np.any(np.all(inside, axis=2), axis=1)
    return grid[outside]


def _camera(moves: Floats) -> Floats:
    """The common motion of most background points; 0 if they do not agree."""
    if len(moves) < _AGREED:
        return np.zeros(2, np.float32)
    middle = np.median(moves, axis=0)
    agree = np.abs(moves - middle).max(axis=1) < 2 + 0.1 * np.abs(middle).max()
    return middle.astype(np.float32) if agree.mean() > 0.5 else np.zeros(2, np.float32)
