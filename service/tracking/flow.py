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
_GRID = (8, 5)
_AGREED = 6
"""Tracked points of the background that an estimate of the camera's motion needs."""
_ROUNDS, _OFF = 4, 1.5
"""Rounds of the estimate of the camera's motion, and the distance in pixels at which a point loses half its weight."""
_STRETCH = 0.2
"""The most that the picture can stretch or turn between frames. Beyond it, the points do not belong to one scene."""


@dataclass(frozen=True, slots=True)
class Carried:
    """The motion of people in pixels.

    moves: (T, K, 2), 0 for keypoints that were not found. found: (T, K). camera: (2, 3) the motion of the background as
    an affine map: a point x, y of the background moves by camera @ (x, y, 1).
    """

    moves: Floats
    found: NDArray[np.bool_]
    camera: Floats

    def camera_at(self, points: Floats) -> Floats:
        """The motion of the background (..., 2) at `points` (..., 2)."""
        moved: Floats = points @ self.camera[:, :2].T + self.camera[:, 2]
        return moved


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
            return Carried(np.zeros_like(points), np.zeros_like(known), np.zeros((2, 3), np.float32))
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
        return Carried(moves, found, _camera(ground[ok[people:]], moved[people:][ok[people:]]))


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


def _camera(points: Floats, moves: Floats) -> Floats:
    """The affine motion (2, 3) of most background points; 0 if they do not agree.

    Starts with the median of the motion, and then fits an affine map by least squares that are weighted anew in every
    round, so that people whom nobody has found do not count (Cauchy weights).
    """
    camera = np.zeros((2, 3), np.float32)
    if len(moves) < _AGREED:
        return camera
    camera[:, 2] = np.median(moves, axis=0)
    off = np.abs(moves - camera[:, 2]).max(axis=1)
    rigid = np.mean(off < 2 + 0.1 * np.abs(camera[:, 2]).max()) > 0.5
    middle, size = points.mean(axis=0), max(float(points.std()), 1.0)
    basis = np.concatenate([(points - middle) / size, np.ones((len(points), 1), np.float32)], axis=1)
    map_ = np.concatenate([np.zeros((2, 2), np.float32), camera[:, 2:]], axis=1)
    for _ in range(_ROUNDS):
        off = np.linalg.norm(moves - basis @ map_.T, axis=1)
        weights = 1 / (1 + np.square(off / _OFF))
        weighted = basis * weights[:, None]
        map_ = np.linalg.solve(weighted.T @ basis + 1e-3 * np.eye(3), weighted.T @ moves).T
    fits = np.mean(np.linalg.norm(moves - basis @ map_.T, axis=1) < 2 * _OFF) > 0.6
    if fits and np.abs(map_[:, :2] / size).max() < _STRETCH:
        camera[:, :2] = map_[:, :2] / size
        camera[:, 2] = map_[:, 2] - camera[:, :2] @ middle
        return camera
    return camera if rigid else np.zeros_like(camera)
