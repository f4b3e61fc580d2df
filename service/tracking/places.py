"""The position of people on the ground, relative to polygons and lines."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from engines.ops.polygons import contains
from engines.poses import Doubles, Poses

Point = tuple[float, float]


def feet(poses: Poses) -> Doubles:
    """Return the middle of each box's lower edge, (N, 2) pixels, which is near the ground.

    Hips are steadier for partly occluded people, but a worse estimate of the position on the ground.
    """
    boxes = poses.boxes.astype(np.float64)
    return np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 3]], axis=1)


def hips(poses: Poses, min_score: float = 0.3) -> Doubles:
    """Return the middle between the hips, (N, 2) pixels; NaN if either scores less than `min_score`.

    If the skeleton has no hips, it is the middle of all keypoints with that score; NaN if there are none.
    """
    names, seen = poses.skeleton.keypoints, np.asarray(poses.keypoint_scores >= min_score)
    points = poses.keypoints.astype(np.float64)
    if "left_hip" in names and "right_hip" in names:
        sides = [names.index("left_hip"), names.index("right_hip")]
        known, middle = np.all(seen[:, sides], axis=1), points[:, sides].mean(axis=1)
    else:
        known = np.any(seen, axis=1)
        middle = np.where(seen[..., None], points, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1)[:, None]
    return np.asarray(np.where(np.asarray(known)[:, None], middle, np.nan))


def depth_inside(points: Doubles, polygon: Doubles, edges: NDArray[np.bool_] | None = None) -> Doubles:
    """Return the distance (N,) of each of `points` (N, 2) to the nearest edge of `polygon` (E, 2), negative outside.

    edges: (E,) which edges count, edge n from corner n to the next; all without it. With none, it is infinite.
    """
    ends = np.roll(polygon, -1, axis=0)
    counted = np.ones(len(polygon), bool) if edges is None else edges
    distance = _to_segments(points, polygon[counted], ends[counted]).min(axis=1, initial=np.inf)
    return np.asarray(np.where(contains(polygon, points), distance, -distance))


def on_border(polygon: Doubles) -> NDArray[np.bool_]:
    """Return which edges (E,) of `polygon` (E, 2), in shares of the frame, lie on the frame's border."""
    ends = np.roll(polygon, -1, axis=0)
    return np.asarray(((polygon == ends) & ((ends == 0) | (ends == 1))).any(axis=1))


def thickness(polygon: Doubles) -> float:
    """Return the approximate distance from the middle of `polygon` (E, 2) to its edges: half a strip's width.

    0 if it has no area.
    """
    ends = np.roll(polygon, -1, axis=0)
    area = abs(float(_cross(polygon, ends).sum())) / 2
    around = float(np.linalg.norm(ends - polygon, axis=1).sum())
    return area / around if around else 0.0


def to_the_right(points: Doubles, start: Doubles, end: Doubles) -> Doubles:
    """Return how far each of `points` (N, 2) lies to the right of the infinite line from `start` to `end` (2,).

    Right is as seen on the screen, where y grows downwards. Negative for points to the left.
    """
    along = end - start
    return np.asarray(_cross(along, points - start) / np.linalg.norm(along))


def crosses(a: Point, b: Point, start: Point, end: Point) -> bool:
    """True if the segment from `a` to `b` crosses the segment start..end. Neither point may be on the infinite line."""
    sides = _turn(start, end, a), _turn(start, end, b)
    ends = _turn(a, b, start), _turn(a, b, end)
    return (sides[0] > 0) != (sides[1] > 0) and min(ends) <= 0 <= max(ends)


def _turn(a: Point, b: Point, c: Point) -> float:
    """Positive if c lies to the right of the segment from a to b, on the screen."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _cross(a: Doubles, b: Doubles) -> Doubles:
    return np.asarray(a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0])


def _to_segments(points: Doubles, starts: Doubles, ends: Doubles) -> Doubles:
    """The distances (N, E) of points (N, 2) to segments (E, 2)."""
    along = ends - starts
    squared = np.maximum((along * along).sum(axis=1), 1e-300)
    offset = points[:, None] - starts
    share = np.clip((offset * along).sum(axis=2) / squared, 0, 1)
    distance: Doubles = np.linalg.norm(offset - share[..., None] * along, axis=2)
    return distance
