"""Trails: where people were in the last seconds."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from engines.poses import Poses
from service.tracking.places import hips

_MOST_POINTS = 256
"""The most points of one trail, which bounds its cost at high frame rates. More would not be visible."""


@dataclass(frozen=True, slots=True, eq=False)
class Trail:
    """Recent positions of person `id`, oldest first. points: (P, 2) frame pixels. ages: (P,) 0 (now) to 1 (expired)."""

    id: int
    points: NDArray[np.float32]
    ages: NDArray[np.float32]


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
