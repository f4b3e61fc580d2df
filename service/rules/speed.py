"""The speed of people over the ground. `rules.md` describes the rule and its limits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles

_SMOOTHING_S = 0.5
"""The time constant of the velocity: a mean of its vector, in which the jitter of the feet cancels out."""
_GAP_S = 1.0
"""After being unseen for so long, a person's speed starts over."""

_FASTEST = 1e6
"""m/s. Frames at nearly the same time give no number that a state cannot hold."""

FIELDS = [("place", "<f8", (2,)), ("stood", "<f8"), ("velocity", "<f8", (2,)), ("moving", "<f8")]
"""The members of a person's state. place: in metres at the time `stood`. velocity: m/s, known since `moving`."""


def update(people: NDArray[Any], places: Doubles, now: float) -> Doubles:
    """Bring the state of N people up to date in place. Returns their speeds (N,) in m/s, NaN if unknown.

    places: (N, 2) metres, NaN if unknown. A speed is known from the second frame on. The mean over the last half second
    is one over all frames at first, so that it begins at no wrong value.
    """
    known = np.asarray(np.isfinite(places).all(axis=1))
    passed = now - people["stood"]
    begins = np.asarray(known & (passed > _GAP_S))
    moves = np.asarray(known & ~begins & (passed > 0))
    dt = np.where(moves, passed, 1.0)
    since = np.where(begins, now, people["moving"])
    gain = np.maximum(1 - np.exp(-dt / _SMOOTHING_S), dt / np.maximum(now - since, dt))[:, None]
    velocity = people["velocity"] + gain * ((places - people["place"]) / dt[:, None] - people["velocity"])
    velocity = np.clip(velocity, -_FASTEST, _FASTEST)
    people["velocity"] = np.where(moves[:, None], velocity, np.where(begins[:, None], 0.0, people["velocity"]))
    people["moving"] = since
    people["place"] = np.where(known[:, None], places, people["place"])
    people["stood"] = np.where(known, now, people["stood"])
    speed = np.linalg.norm(people["velocity"], axis=1)
    return np.asarray(np.where(known & (now > since), speed, np.nan))
