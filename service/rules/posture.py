"""Whether people stand, sit or lie, by the shape of their skeleton. `rules.md` describes the rule and its limits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles
from service.rules.geometry import BodyShape, from_vertical, ramp

POSTURES = ("standing", "sitting", "lying")
UNKNOWN = -1
STANDING, SITTING, LYING = range(3)

_UPRIGHT, _FLAT = 45.0, 70.0
"""Degrees from the vertical: up to the first nothing speaks for lying, from the second on nothing against it."""
_BENT, _STRETCHED = 0.4, 0.56
"""The thighs' share of height in the torso's length: up to the first a person sits, from the second on they stand."""
_SMOOTHING_S = 0.25
"""The time constant of the evidence."""
_STALE_S = 1.0
"""A posture that has had no evidence for so long is unknown."""
_LEAST = 0.6
"""The evidence that a posture needs to be taken."""
_AHEAD = 0.2
"""By how much the evidence for a posture must exceed that for the present one."""

FIELDS = [("evidence", "<f8", (3,)), ("weighed", "<f8"), ("posture", "<i8")]
"""The members of a person's state. weighed: when there was evidence last. posture: a place in POSTURES, or -1."""


def evidence(shape: BodyShape) -> Doubles:
    """Return what speaks for each posture, (N, 3) in 0..1 with the sum 1. NaN without a torso.

    Lying is a torso near the horizontal with legs that do not stand below it. Otherwise, the legs decide between
    standing and sitting, evenly if they are unseen.
    """
    torso = np.linalg.norm(shape.torso, axis=1)
    lean, legs = from_vertical(shape.torso), from_vertical(shape.legs)
    lying = ramp(np.fmin(lean, legs), _UPRIGHT, _FLAT)
    lying = np.where(np.isnan(lean), np.nan, lying)
    height = -shape.thighs[:, 1] / np.maximum(torso, 1e-9)
    stretched = np.where(np.isnan(height), 0.5, ramp(height, _BENT, _STRETCHED))
    return np.stack([(1 - lying) * stretched, (1 - lying) * (1 - stretched), lying], axis=1)


def update(people: NDArray[Any], shape: BodyShape, now: float) -> NDArray[np.bool_]:
    """Bring the state of N people up to date in place. Returns whose posture has changed from a known one, (N,)."""
    weights = evidence(shape)
    known = ~np.isnan(weights[:, 0])
    passed = now - people["weighed"]
    fresh = passed > _STALE_S
    before = np.where(fresh, UNKNOWN, people["posture"])
    gain = np.where(fresh, 1.0, 1 - np.exp(-np.maximum(passed, 0) / _SMOOTHING_S))[:, None]
    smooth = people["evidence"] + np.where(known[:, None], gain * (weights - people["evidence"]), 0)
    best = smooth.argmax(axis=1)
    row = np.arange(len(people))
    ahead = smooth[row, best] - np.where(before == UNKNOWN, -1.0, smooth[row, before])
    take = known & (best != before) & (smooth[row, best] >= _LEAST) & (ahead >= _AHEAD)
    people["evidence"] = smooth
    people["weighed"] = np.where(known, now, people["weighed"])
    people["posture"] = np.where(take, best, before)
    return np.asarray(take & (people["posture"] != UNKNOWN) & (before != UNKNOWN))


def confidence(people: NDArray[Any]) -> Doubles:
    """Return the evidence (N,) for the people's postures, 0 for those whose posture is unknown."""
    found = people["evidence"][np.arange(len(people)), people["posture"]]
    return np.asarray(np.where(people["posture"] == UNKNOWN, 0.0, found))
