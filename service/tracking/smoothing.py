"""The One-Euro filter for keypoints: steady for people at rest, with little lag for people in motion.

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
    """The parameters of the filter.

    min_cutoff: Hz, 0.01..100, the cutoff frequency at rest; lower values smooth more.
    beta: Hz per unit of speed, 0..1000, by which motion raises the cutoff; higher values lag less. Speed is in sizes of
        the person per second (the size is the square root of the box's area), so that it does not depend on the
        distance to the camera or on the resolution.
    speed_cutoff: Hz, the cutoff of the low-pass filter of the speed.
    raw_speed: compute the speed from the previous raw value, as many implementations do, instead of the previous
        filtered value, as in the paper.
    min_score: keypoints below this score count as unseen and are not changed.
    forget_seconds: people and keypoints that were unseen for longer start over.
    Raises ValueError for invalid values.
    """

    min_cutoff: float = 1.0
    beta: float = 10.0
    speed_cutoff: float = 1.0
    raw_speed: bool = False
    min_score: float = 0.2
    forget_seconds: float = 0.5

    def __post_init__(self) -> None:
        for name, least, most in (("min_cutoff", 0.01, 100.0), ("beta", 0.0, 1000.0)):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} is {getattr(self, name):g}; it must be in {least:g}..{most:g}")
        for name in ("speed_cutoff", "forget_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name):g}; it must be more than 0")


@dataclass(frozen=True, slots=True, eq=False)
class Filtered:
    """The state of the filter for signals with D dimensions. value: the smoothed signal.

    All arrays are float64 (..., D), except `time`, seconds, with (...). speed: smoothed, units per second.
    """

    raw: Doubles
    value: Doubles
    speed: Doubles
    time: Doubles

    @staticmethod
    def start(x: Doubles, time: Doubles) -> Filtered:
        """Start with first samples, at rest."""
        return Filtered(x, x, np.zeros_like(x), time)


def advance(last: Filtered, x: Doubles, time: Doubles, scale: Doubles | float, config: OneEuroConfig) -> Filtered:
    """Filter the next samples `x`, (..., D), at `time` (...) in seconds.

    scale: units of x per unit of speed in beta; a number, or shaped (..., 1).
    The D dimensions of a signal share one cutoff, computed from the length of the speed vector. Signals whose time has
    not advanced are unchanged.
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
    """The state of the 2D keypoints: ids (N,) int64, and their filters for (N, K, 2)."""

    ids: NDArray[np.int64]
    points: Filtered


class OneEuro:
    """Smooths the keypoints of tracked people, each keypoint of each id separately. Deterministic.

    Boxes and scores are not changed, nor are people without an id or with id -1 (not confirmed by the tracker).
    Memory is bounded by the number of people seen within the last `forget_seconds`.
    """

    def __init__(self, config: OneEuroConfig | None = None) -> None:
        self._config = config or OneEuroConfig()
        self._pixels = _PointFilters(self._config)
        self._metres = _PointFilters(self._config)

    def __len__(self) -> int:
        """The number of people with a state."""
        return len(self._pixels)

    def state(self) -> SmoothingState | None:
        """Return the state for `restore`, or None without people. 3D keypoints are not included: they start over."""
        return self._pixels.state()

    def restore(self, state: SmoothingState) -> None:
        """Continue from the state of a filter with the same settings and skeleton."""
        self._pixels.restore(state)

    def smooth(self, poses: Poses, timestamp: float) -> Poses:
        """Return the poses with smoothed keypoints, in 2D and, if there are any, in 3D.

        timestamp: of the frame, in seconds. If it goes back, all filters start over; if it stands still, nothing moves.
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


class _PointFilters:
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
        """Smooth points (N, K, D). seen: (N, K). Returns (N, K, D), with unseen points unchanged."""
        x = points.astype(np.float64)
        now = np.full(seen.shape, timestamp)
        new = Filtered.start(x, np.where(seen, now, -np.inf))
        if self._states is not None and len(self._ids):
            rows = _rows(self._ids, ids)
            last = _map(lambda a: a[rows], self._states)
            age = now - last.time
            known = (rows >= 0)[:, None] & (age >= 0) & (age <= self._config.forget_seconds)
            begun = _where(known, last, Filtered.start(x, now))
            # Unseen points keep their last state and its time, so that it expires.
            new = _where(seen & known, advance(begun, x, now, scale, self._config), _where(known, last, new))
        result = np.where(seen[..., None], new.value, x).astype(np.float32)
        self._remember(ids, new, timestamp)
        return result

    def _remember(self, ids: NDArray[np.int64], new: Filtered, timestamp: float) -> None:
        """Store the filters of this frame, and keep those of absent people until they expire."""
        if self._states is not None and len(self._ids):
            age = timestamp - self._states.time.max(axis=1)
            absent = ~np.isin(self._ids, ids) & (age >= 0) & (age <= self._config.forget_seconds)
            ids = np.concatenate([ids, self._ids[absent]])
            new = _map(lambda a, b: np.concatenate([a, b[absent]]), new, self._states)
        self._ids, self._states = ids, new


def _rows(known: NDArray[np.int64], ids: NDArray[np.int64]) -> NDArray[np.intp]:
    """The index of each of `ids` in `known` (at least one id); -1 if it is missing."""
    same = ids[:, None] == known[None, :]
    return np.where(same.any(axis=1), same.argmax(axis=1), -1)


def _map(function: Callable[..., Doubles], *states: Filtered) -> Filtered:
    return Filtered(*(function(*(getattr(state, name) for state in states)) for name in Filtered.__slots__))


def _where(condition: NDArray[np.bool_], yes: Filtered, no: Filtered) -> Filtered:
    """condition: (N, K)."""

    def choose(a: Doubles, b: Doubles) -> Doubles:
        return np.where(condition[..., None] if a.ndim > condition.ndim else condition, a, b)

    return _map(choose, yes, no)
