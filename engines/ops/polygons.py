"""Polygons and the points in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.poses import Floating


def contains(polygon: Floating, points: Floating) -> NDArray[np.bool_]:
    """Whether each of (..., 2) points lies inside the polygon of (V, 2) corners.

    By the even-odd rule: a ray to the right crosses the boundary an odd number of times (Shimrat, "Algorithm 112",
    CACM 5, 1962).
    """
    x, y = points[..., 0, None].astype(np.float64), points[..., 1, None].astype(np.float64)
    (x1, y1), (x2, y2) = polygon.T.astype(np.float64), np.roll(polygon, -1, axis=0).T.astype(np.float64)
    spans = (y1 > y) != (y2 > y)
    slope = np.divide(x2 - x1, y2 - y1, out=np.zeros_like(x1), where=y2 != y1)
    return np.asarray((spans & (x < x1 + (y - y1) * slope)).sum(axis=-1) % 2 == 1)
