"""Angles and the shape of bodies, for all people of a frame at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles, Floating
from engines.skeletons import Skeleton
from service.rules.definition import BODY

MIN_SCORE = 0.3
"""Keypoints with a lower score count as unseen."""
NEVER = -1e12
"""A time before every frame, in seconds."""


def angles(points: Floating, seen: NDArray[np.bool_], corners: NDArray[np.intp]) -> Doubles:
    """Return the angles (N, A) in degrees, 0..180, between the limbs at the middle ones of three keypoints.

    points: (N, K, D) in 2D or 3D. seen: (N, K). corners: (A, 3), places of keypoints. NaN if one of the three is
    unseen, or a limb has no length.
    """
    before, at, after = (points[:, corners[:, n]].astype(np.float64) for n in range(3))
    one, other = before - at, after - at
    lengths = np.linalg.norm(one, axis=2) * np.linalg.norm(other, axis=2)
    known = seen[:, corners].all(axis=2) & (lengths > 0)
    cosine = np.clip((one * other).sum(axis=2) / np.where(known, lengths, 1), -1, 1)
    return np.asarray(np.where(known, np.degrees(np.arccos(cosine)), np.nan))


@dataclass(frozen=True, slots=True, eq=False)
class BodyShape:
    """What postures are found by, for N people. All float64 in heights of the frame; NaN where it is not known.

    trunk: (N, 4) how far down each shoulder and hip is. hips: (N, 2) their middle. torso: (N, 2) from the
    middle of the hips to that of the shoulders. legs: (N, 2) from the middle of the ankles, or else of the knees, to
    that of the hips; whole: (N,) bool, from the ankles. thighs: (N, 2) from the middle of the knees to that of the
    hips.
    """

    trunk: Doubles
    hips: Doubles
    torso: Doubles
    legs: Doubles
    thighs: Doubles
    whole: NDArray[np.bool_]

    @staticmethod
    def of(points: Doubles, seen: NDArray[np.bool_], joints: Skeleton) -> BodyShape:
        """points: (N, K, 2) in heights of the frame. seen: (N, K). A part is known if one of its two sides is seen.

        The torso needs one side as a whole, so that it is not a diagonal.
        """
        names = joints.keypoints
        sides = np.array([[names.index(f"{side}_{part}") for part in BODY] for side in ("left", "right")])
        known = seen[:, sides]  # (N, 2, 4)
        down = np.where(known[..., :2], points[:, sides[:, :2], 1], np.nan).reshape(-1, 4)
        trunk = known[..., :1] & known[..., 1:2]  # a side with its shoulder and hip
        known = np.concatenate([np.repeat(trunk, 2, axis=2), known[..., 2:]], axis=2)
        shoulders, hips, knees, ankles = np.moveaxis(_middles(points[:, sides], known), 1, 0)
        legs = hips - np.where(np.isnan(ankles), knees, ankles)
        return BodyShape(down, hips, shoulders - hips, legs, hips - knees, ~np.isnan(ankles[:, 0]))


def ramp(values: Doubles, zero: float, one: float) -> Doubles:
    """From 0 at `zero` to 1 at `one`, and constant beyond."""
    return np.asarray(np.clip((values - zero) / (one - zero), 0, 1))


def from_vertical(vectors: Doubles) -> Doubles:
    """Return the angles (N,) of vectors (N, 2) of the picture from upwards, in degrees, 0..180. NaN for NaN."""
    return np.asarray(np.degrees(np.arctan2(np.abs(vectors[:, 0]), -vectors[:, 1])))


def _middles(points: Doubles, known: NDArray[np.bool_]) -> Doubles:
    """The means (N, P, 2) of points (N, 2, P, 2) over the known (N, 2, P) of both sides, NaN if there is none."""
    count = known.sum(axis=1)[..., None]
    total = np.where(known[..., None], points, 0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
