"""Falls: a fast way down that ends in lying. `rules.md` describes the rule and its limits."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles
from service.rules.geometry import NEVER, BodyShape, ramp
from service.rules.posture import LYING

FAST = 2.2
"""Torso lengths a second downwards, from which a person may be falling."""
_SMOOTHING_S = 0.12
"""The time constant of the speed."""
_WITHIN_S = 1.5
"""A person who lies has fallen if they were upright and fast within this time."""
_UPRIGHT = 0.4
"""The evidence for lying below which a person is upright."""
_SHORT_TORSO, _SHORT_LEGS, _STRETCHED = (0.7, 0.55), (1.25, 1.0), (0.7, 1.1)
"""From where to where a body looks shortened: its torso and legs in lengths of the torso as it was, and the legs in
lengths of the torso as it looks, so that a person who crouches does not.
"""
_SHORTENING_S, _LEAST = 0.25, 0.6
"""The time constant of the evidence that a body is shortened, and how much is enough."""
_GAP_S = 0.6
"""After being unseen for so long, a person's speed starts over."""
_GROWING_S, _SHRINKING_S = 0.3, 10.0
"""Time constants of the torso's length. Torsos look shorter when people lean, never longer."""

_FASTEST = 1e6
"""Torso lengths a second. Frames at nearly the same time give no number that a state cannot hold."""

FIELDS = [
    *(("size", "<f8"), ("down", "<f8", (4,)), ("placed", "<f8", (4,)), ("measured", "<f8")),
    *(("speed", "<f8"), ("fast", "<f8"), ("peak", "<f8"), ("upright", "<f8"), ("short", "<f8")),
]
"""The members of a person's state. size: of the torso, in heights of the frame. down: how far down the shoulders and
hips were when each was last seen, at the times `placed`. speed: downwards, in torsos a second, at the time `measured`.
fast: when it was last fast; peak: the highest speed of that fall. upright: when the person last was. short: evidence
that the body is shortened.
"""


def update(people: NDArray[Any], shape: BodyShape, now: float) -> NDArray[np.bool_]:
    """Bring the state of N people up to date in place, after their posture. Returns who has fallen, (N,)."""
    passed = np.clip(now - people["measured"], 0, 1)
    moves = _move(people, shape, now)
    fast = moves & (people["speed"] >= FAST)
    higher = np.where(now - people["fast"] <= _WITHIN_S, np.maximum(people["peak"], people["speed"]), people["speed"])
    people["peak"] = np.where(fast, higher, people["peak"])
    people["fast"] = np.where(fast, now, people["fast"])
    people["short"] += (1 - np.exp(-passed / _SHORTENING_S)) * (_shortened(people, shape) - people["short"])
    lying = (people["posture"] == LYING) | (people["short"] >= _LEAST)
    upright = (people["weighed"] == now) & (people["evidence"][:, LYING] < _UPRIGHT)
    people["upright"] = np.where(upright, now, people["upright"])
    fallen = lying & (now - people["upright"] <= _WITHIN_S) & (now - people["fast"] <= _WITHIN_S)
    for name in ("upright", "fast"):  # the next fall begins upright and is fast itself
        people[name] = np.where(fallen, NEVER, people[name])
    return np.asarray(fallen)


def _shortened(people: NDArray[Any], shape: BodyShape) -> Doubles:
    """What speaks for a stretched body that points to or away from the camera, (N,) in 0..1."""
    torso, legs = np.linalg.norm(shape.torso, axis=1), np.linalg.norm(shape.legs, axis=1)
    size = np.where(people["size"] > 0, people["size"], 1.0)
    shares = ((torso / size, _SHORT_TORSO), (legs / size, _SHORT_LEGS), (legs / np.maximum(torso, 1e-9), _STRETCHED))
    least = np.min([ramp(share, *limits) for share, limits in shares], axis=0)
    return np.asarray(np.where(shape.whole & ~np.isnan(least), least, 0.0))


def _move(people: NDArray[Any], shape: BodyShape, now: float) -> NDArray[np.bool_]:
    """Bring the speeds up to date in place. Returns whose speed is known, (N,).

    The speed is the mean over the shoulders and hips that were seen before, too: the middle of those that are seen
    jumps when one disappears.
    """
    length = np.linalg.norm(shape.torso, axis=1)
    known = ~np.isnan(length)
    constant = np.where(length > people["size"], _GROWING_S, _SHRINKING_S)
    passed = np.clip(now - people["measured"], 0, 1)
    grown = people["size"] + (1 - np.exp(-passed / constant)) * (length - people["size"])
    size = np.where(known, np.where(people["size"] > 0, grown, length), people["size"])
    seen = ~np.isnan(shape.trunk)
    gaps = now - people["placed"]
    both = seen & (gaps > 0) & (gaps <= _GAP_S)
    speeds = np.where(both, shape.trunk - people["down"], 0) / np.where(both, gaps, 1)
    moves = both.any(axis=1) & (size > 0)
    speed = speeds.sum(axis=1) / np.maximum(both.sum(axis=1), 1) / np.where(size > 0, size, 1)
    gain = np.where(now - people["measured"] > _GAP_S, 1.0, 1 - np.exp(-passed / _SMOOTHING_S))
    speed = people["speed"] + gain * (speed - people["speed"])
    people["speed"] = np.where(moves, np.clip(speed, -_FASTEST, _FASTEST), people["speed"])
    people["measured"] = np.where(moves | known, now, people["measured"])
    people["size"] = size
    people["down"] = np.where(seen, shape.trunk, people["down"])
    people["placed"] = np.where(seen, now, people["placed"])
    return np.asarray(moves)
