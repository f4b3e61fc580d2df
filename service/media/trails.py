"""The ways that tracked people came, remembered for some seconds."""

from __future__ import annotations

from collections import deque
from math import isfinite

import numpy as np

from engines.poses import Poses
from service.media.overlay import Trail
from service.tracking.places import hips

_MOST_POINTS = 256
"""Of one trail, so that a high frame rate costs no more; more than that could not be told apart anyway."""


class Trails:
    """Remembers where the middle of each id's hips was within the last `seconds`.

    Boxes, and with them the feet, jump where people hide each other.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._points: dict[int, deque[tuple[float, float, float]]] = {}

    def update(self, poses: Poses, timestamp: float) -> list[Trail]:
        """Add the people of a frame at `timestamp` seconds; gives everybody's trail, also of who has just left."""
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
            points.pop()  # the newest is always kept, those behind it thinned out
        points.append((x, y, timestamp))

    def _trail(self, number: int, now: float) -> Trail:
        rows = np.array(self._points[number], np.float64)
        return Trail(number, rows[:, :2].astype(np.float32), ((now - rows[:, 2]) / self._seconds).astype(np.float32))
