"""The One-Euro filter on keypoints: calm where people stand, quick where they move.

After Casiez, Roussel and Vogel, "1€ Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
Systems" (CHI 2012), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles, Poses


@dataclass(frozen=True, slots=True)
class OneEuroConfig:
    """How much to smooth.

    min_cutoff: Hz, the cutoff frequency at rest; lower is calmer.
    beta: Hz per unit of speed by which motion raises it; higher lags less. Keypoints have their speed in sizes of the
        person a second (the size is the square root of the box's area), so that distance to the camera and resolution
        do not matter.
    speed_cutoff: Hz, of the low-pass on the speed.
    raw_speed: take the speed from the previous raw value, as many implementations do, instead of the previous filtered
        value, as the paper does.
    min_score: a keypoint that scores less counts as unseen: it passes as it is.
    forget_seconds: a person or keypoint that was unseen for longer starts anew.
    Raises ValueError for what makes no sense.
    """

    min_cutoff: float = 1.0
    beta: float = 10.0
    speed_cutoff: float = 1.0
    raw_speed: bool = False
    min_score: float = 0.2
    forget_seconds: float = 0.5

    def __post_init__(self) -> None:
        for name in ("min_cutoff", "speed_cutoff", "forget_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")
        if not self.beta >= 0:
            raise ValueError(f"beta must be at least 0, not {self.beta}")


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """What the filter remembers of signals of D dimensions, and their `value`, smoothed.

    All are float64 (..., D), but `time`, seconds, which is (...). speed: smoothed, units a second.
    """

    raw: Doubles
    value: Doubles
    speed: Doubles
    time: Doubles

    @staticmethod
    def start(x: Doubles, time: Doubles) -> Filtered:
        """First samples pass as they are, at rest."""
        return Filtered(x, x, np.zeros_like(x), time)


def advance(last: Filtered, x: Doubles, time: Doubles, scale: Doubles | float, config: OneEuroConfig) -> Filtered:
    """Filter the next samples `x`, (..., D) at `time` (...), seconds later than `last`.

    scale: units of x that count as one in the speed that beta is for; one number, or shaped (..., 1).
    The D dimensions of a signal share a cutoff, that of its speed as a vector. Where no time has passed, nothing moves.
    """
    passed = time - last.time
    moves = passed > 0
    dt = np.where(moves, passed, 1.0)[..., None]
    speed = (x - (last.raw if config.raw_speed else last.value)) / dt
    speed = last.speed + _alpha(config.speed_cutoff, dt) * (speed - last.speed)
    cutoff = config.min_cutoff + config.beta * np.linalg.norm(speed, axis=-1, keepdims=True) / scale
    value = last.value + _alpha(cutoff, dt) * (x - last.value)

    def kept(new: Doubles, old: Doubles) -> Doubles:
        return np.where(moves[..., None], new, old)

    return Filtered(
        kept(x, last.raw), kept(value, last.value), kept(speed, last.speed), np.where(moves, time, last.time)
    )


def _alpha(cutoff: Doubles | float, dt: Doubles) -> Doubles:
    """The weight of the newest sample."""
    return np.asarray(1 / (1 + 1 / (2 * np.pi * cutoff * dt)))


@dataclass(frozen=True, slots=True, eq=False)
class SmoothingState:
    """Whose keypoints in 2D are being smoothed: ids (N,) int64, and how far that is, of (N, K, 2)."""

    ids: NDArray[np.int64]
    points: Filtered


class OneEuro:
    """Smooths the keypoints of tracked people, each keypoint of each id on its own. Deterministic.

    Boxes and scores pass as they are, and so do people without an id or with id -1 (not confirmed by the tracker).
    Memory is bounded by the people seen within the last `forget_seconds`.
    """

    def __init__(self, config: OneEuroConfig | None = None) -> None:
        self._config = config or OneEuroConfig()
        self._pixels = _Memory(self._config)
        self._metres = _Memory(self._config)

    def __len__(self) -> int:
        """How many people it remembers."""
        return len(self._pixels)

    def state(self) -> SmoothingState | None:
        """To go on from elsewhere; None where nobody is remembered. Keypoints in 3D would start anew."""
        return self._pixels.state()

    def restore(self, state: SmoothingState) -> None:
        """Go on where another has stopped, with the same settings and keypoints."""
        self._pixels.restore(state)

    def smooth(self, poses: Poses, timestamp: float) -> Poses:
        """The same people with smoothed keypoints, in 2D and, where there are any, in 3D.

        timestamp: seconds, of the frame; one that goes back starts everybody anew, one that stands still moves nobody.
        """
        if poses.ids is None:
            return poses
        index = np.flatnonzero(poses.ids >= 0)
        people, ids = poses.select(index), poses.ids[index]
        seen = people.keypoint_scores >= self._config.min_score
        sizes = np.sqrt(np.maximum((people.boxes[:, 2:] - people.boxes[:, :2]).prod(axis=1), 1.0))
        keypoints = poses.keypoints.copy()
        keypoints[index] = self._pixels.smooth(ids, people.keypoints, seen, sizes[:, None, None], timestamp)
        if poses.keypoints_3d is None or people.keypoints_3d is None:
            return replace(poses, keypoints=keypoints)
        in_3d = poses.keypoints_3d.copy()
        in_3d[index] = self._metres.smooth(ids, people.keypoints_3d, seen, 1.0, timestamp)
        return replace(poses, keypoints=keypoints, keypoints_3d=in_3d)


class _Memory:
    """The filters of the K points of each id."""

    def __init__(self, config: OneEuroConfig) -> None:
        self._config = config
        self._ids = np.zeros(0, np.int64)
        self._states: Filtered | None = None

    def __len__(self) -> int:
        return len(self._ids)

    def state(self) -> SmoothingState | None:
        return None if self._states is None or not len(self._ids) else SmoothingState(self._ids, self._states)

    def restore(self, state: SmoothingState) -> None:
        self._ids, self._states = state.ids, state.points

    def smooth(
        self,
        ids: NDArray[np.int64],
        points: NDArray[np.float32],
        seen: NDArray[np.bool_],
        scale: Doubles | float,
        timestamp: float,
    ) -> NDArray[np.float32]:
        """points: (N, K, D), seen: (N, K). Returns (N, K, D), the unseen as they were."""
        x = points.astype(np.float64)
        now = np.full(seen.shape, timestamp)
        new = Filtered.start(x, np.where(seen, now, -np.inf))
        if self._states is not None and len(self._ids):
            rows = _rows(self._ids, ids)
            last = _map(lambda a: a[rows], self._states)
            age = now - last.time
            known = (rows >= 0)[:, None] & (age >= 0) & (age <= self._config.forget_seconds)
            begun = _where(known, last, Filtered.start(x, now))
            # An unseen point keeps its last state, with its time, and so gets too old to go on from.
            new = _where(seen & known, advance(begun, x, now, scale, self._config), _where(known, last, new))
        result = np.where(seen[..., None], new.value, x).astype(np.float32)
        self._remember(ids, new, timestamp)
        return result

    def _remember(self, ids: NDArray[np.int64], new: Filtered, timestamp: float) -> None:
        """Keep those of this frame, and the absent until they are too old."""
        if self._states is not None and len(self._ids):
            age = timestamp - self._states.time.max(axis=1)
            absent = ~np.isin(self._ids, ids) & (age >= 0) & (age <= self._config.forget_seconds)
            ids = np.concatenate([ids, self._ids[absent]])
            new = _map(lambda a, b: np.concatenate([a, b[absent]]), new, self._states)
        self._ids, self._states = ids, new


def _rows(known: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where each of `ids` is among `known` (at least one), -1 for those that are not."""
    same = ids[:, None] == known[None, :]
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def _map(function: Callable[..., Doubles], *states: Filtered) -> Filtered:
    return Filtered(*(function(*(getattr(state, name) for state in states)) for name in Filtered.__slots__))


def _where(condition: NDArray[np.bool_], yes: Filtered, no: Filtered) -> Filtered:
    """condition: (N, K)."""

    def choose(a: Doubles, b: Doubles) -> Doubles:
        return np.where(condition[..., None] if a.ndim > condition.ndim else condition, a, b)

    return _map(choose, yes, no)
