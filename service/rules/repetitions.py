"""Repetitions: how often an angle has passed two thresholds. `rules.md` describes the rule and its limits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles
from service.rules.geometry import NEVER

_HOLD_S = 0.05
"""An angle must have been on a threshold's side of the middle of both for so long when it passes the threshold, so that
a frame with a wrong keypoint is no repetition.
"""
_GAP_S = 1.0
"""An angle that was unknown for so long starts over; the count stays."""


def fields(count: int) -> list[tuple[str, str, tuple[int, ...]]]:
    """The members of a person's state for that many repetitions.

    side: -1 when the angle was last below `low`, 1 above `high`, 0 unknown. home: the first side, to which a whole
    repetition returns. beyond: since when the angle is beyond the middle, on the other side; NEVER if it is not.
    known: when the angle was last known. count: of whole repetitions.
    """
    return [
        *((name, "<i8", (count,)) for name in ("side", "home", "count")),
        *((name, "<f8", (count,)) for name in ("beyond", "known")),
    ]


def update(people: NDArray[Any], degrees: Doubles, low: Doubles, high: Doubles, now: float) -> NDArray[np.bool_]:
    """Bring the state of N people up to date in place. Returns which repetitions were completed, (N, R).

    degrees: (N, R), NaN if unknown. low, high: (R,) degrees.
    """
    known = ~np.isnan(degrees)
    lost = known & (now - people["known"] > _GAP_S)
    side = np.where(lost, 0, people["side"])
    home = np.where(lost, 0, people["home"])
    here = np.where(degrees < (low + high) / 2, -1, 1)
    other = known & (here != side)
    since = np.where(lost | (people["beyond"] == NEVER), now, people["beyond"])
    passes = other & ((degrees < low) | (degrees > high)) & (now - since >= _HOLD_S)
    people["beyond"] = np.where(other & ~passes, since, np.where(known, NEVER, people["beyond"]))
    people["known"] = np.where(known, now, people["known"])
    people["side"] = np.where(passes, here, side)
    people["home"] = np.where(passes & (home == 0), here, home)
    done = passes & (side != 0) & (here == home)
    people["count"] += done
    return np.asarray(done)
