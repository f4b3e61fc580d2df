"""The plane on which people stand: where a place of the picture is on the ground, in metres."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite

import numpy as np

from engines.poses import Doubles

_LARGEST_M = 10_000.0
_LEAST_M = 0.1
"""The least distance between two of the points, and of each from the lines through others, in metres."""
_LEAST_SHARE = 0.01
"""The same in the picture, in shares of its sides."""
_FARTHEST = 100.0
"""How many times as coarse as at the coarsest of the four points a place may be, in metres a share of the picture."""


@dataclass(frozen=True, slots=True)
class GroundPlane:
    """Four points of the floor, in order around a quadrilateral: x, y in shares of the picture, and x, y in metres.

    The metres are on any grid of the user's. Raises ValueError if the points do not span a plane.
    """

    points: tuple[tuple[float, float, float, float], ...]
    matrix: Doubles = field(init=False, repr=False, compare=False)
    """The homography (3, 3) from shares to metres."""
    coarsest: float = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.points) != 4 or not all(len(point) == 4 and all(map(isfinite, point)) for point in self.points):
            raise ValueError("ground: it must be four points of x, y (shares of the picture) and x, y in metres")
        points = np.array(self.points, np.float64)
        shares, metres = points[:, :2], points[:, 2:]
        if shares.min() < -1 or shares.max() > 2:
            raise ValueError("ground: x and y must be shares of the picture, in -1..2")
        if np.abs(metres).max() > _LARGEST_M:
            raise ValueError(f"ground: metres must be in -{_LARGEST_M:g}..{_LARGEST_M:g}")
        _check_convex(shares, "in the picture", _LEAST_SHARE)
        _check_convex(metres, "in metres", _LEAST_M)
        object.__setattr__(self, "matrix", homography(shares, metres))
        object.__setattr__(self, "coarsest", float(self._coarseness(shares).max()))

    def metres(self, shares: Doubles) -> Doubles:
        """Return where places (N, 2) of the picture are on the ground, (N, 2) metres.

        NaN at and beyond the horizon, and so near to it that a small error in the picture is a large one on the ground.
        """
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            mapped = np.column_stack([shares, np.ones(len(shares))]) @ self.matrix.T
            places = mapped[:, :2] / mapped[:, 2:]
            good = (mapped[:, 2] > 0) & (self._coarseness(shares) <= _FARTHEST * self.coarsest)
        return np.asarray(np.where(good[:, None], places, np.nan))

    def _coarseness(self, shares: Doubles) -> Doubles:
        """The root of the area on the ground of a unit of area in the picture, (N,), up to a factor.

        The Jacobian's determinant of a homography H is det(H) / w^3.
        """
        w = shares @ self.matrix[2, :2] + self.matrix[2, 2]
        return np.asarray(np.abs(w) ** -1.5)


def homography(source: Doubles, target: Doubles) -> Doubles:
    """Return the (3, 3) matrix that maps the corners of a convex quadrilateral (4, 2) to those of another.

    Its w, the third coordinate of what it maps to, is positive inside the source.

    The direct linear transform with the last element fixed by the null space; Hartley and Zisserman, "Multiple View
    Geometry", algorithm 4.1. Points are normalised first, see 4.4 there.
    """
    from_unit, to_unit = _normalisation(source), _normalisation(target)
    a, b = _apply(from_unit, source), _apply(to_unit, target)
    rows = []
    for (x, y), (u, v) in zip(a, b, strict=True):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y, -u])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y, -v])
    matrix = np.linalg.inv(to_unit) @ np.linalg.svd(np.array(rows))[2][-1].reshape(3, 3) @ from_unit
    return np.asarray(matrix / (source @ matrix[2, :2] + matrix[2, 2]).mean())  # w has one sign between convex corners


def _check_convex(points: Doubles, where: str, least: float) -> None:
    """Raise ValueError unless the points are the corners of a convex quadrilateral, in order and not on one line."""
    sides = np.roll(points, -1, axis=0) - points
    lengths = np.linalg.norm(sides, axis=1)
    following = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    if lengths.min() < least:
        raise ValueError(f"ground: two of the points are the same {where}")
    if np.abs(turns / lengths).min() < least:
        raise ValueError(f"ground: three of the points lie on one line {where}, so they are no plane")
    if not (np.all(turns > 0) or np.all(turns < 0)):
        raise ValueError(f"ground: the points {where} must go around a quadrilateral without a notch, in order")


def _normalisation(points: Doubles) -> Doubles:
    """The matrix (3, 3) that moves the middle of points to 0 and their mean distance from it to sqrt(2)."""
    middle = points.mean(axis=0)
    scale = np.sqrt(2) / np.linalg.norm(points - middle, axis=1).mean()
    return np.array([[scale, 0, -scale * middle[0]], [0, scale, -scale * middle[1]], [0, 0, 1]])


def _apply(matrix: Doubles, points: Doubles) -> Doubles:
    """Map points (N, 2) by an affine matrix."""
    return np.asarray(points @ matrix[:2, :2].T + matrix[:2, 2])
