"""Smoothing with both directions of time, for recorded video: keypoints are steady and do not lag.

A One-Euro filter (see `smoothing`) knows only the past, so that it must lag to be steady. Here each keypoint is a local
linear fit to the samples before and after it (kernel regression, as in Cleveland, "Robust Locally Weighted Regression",
1979). The weights are those of an exponential filter that runs in both directions. The cutoff has the parameters of
One-Euro, but rises with the change of velocity instead of the speed, because a line does not lag behind steady motion.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from engines.poses import Doubles, Poses
from service.tracking.smoothing import OneEuroConfig

Frame = TypeVar("Frame")

_REACH = 3.0
"""Samples count up to this many time constants away: their weight falls to 5 %."""
_LONGEST_S = 1.0
"""The most look-ahead, and as much looking back."""
_CHANGE = 0.25
"""The speed for One-Euro's beta, as a share of the change of velocity. Measured: see tests/benchmarks/smoothing.py."""
_PARALLEL = 1e-9
"""Below this spread of time, relative to its square, a line has no slope."""


@dataclass(frozen=True, slots=True, eq=False)
class _Moment(Generic[Frame]):
    """A frame, its people and its time in seconds. of: the row of each confirmed id."""

    frame: Frame
    poses: Poses
    time: float
    of: dict[int, int]


class TwoWaySmoother(Generic[Frame]):
    """Smooths the keypoints of tracked people, each keypoint of each id separately. Deterministic.

    What is not changed, and when a keypoint starts over, is as with `OneEuro`. Frames come out `ahead` seconds after
    they went in, with their smoothed people. Memory: the frames of that time, at most `frames` of them, and the poses
    of twice as many.
    """

    def __init__(self, config: OneEuroConfig | None = None, *, frames: int = 64) -> None:
        """frames: at least 1, the most frames that wait. Fewer look less far ahead, and as far back."""
        if frames < 1:
            raise ValueError(f"frames is {frames}; at least one waits")
        self._config = config or OneEuroConfig()
        self._most = frames
        self._past: deque[_Moment[None]] = deque()
        self._waiting: deque[_Moment[Frame]] = deque()

    @property
    def ahead(self) -> float:
        """How many seconds after and before a frame its keypoints depend on, at most."""
        return min(_REACH * float(_time_constant(self._config.min_cutoff)), _LONGEST_S)

    def push(self, frame: Frame, poses: Poses, timestamp: float) -> list[tuple[Frame, Poses]]:
        """Add the next frame; return those that are complete, in order. timestamp: seconds, ascending."""
        ids = [] if poses.ids is None else poses.ids.tolist()
        of = {number: row for row, number in enumerate(ids) if number >= 0}
        self._waiting.append(_Moment(frame, poses, timestamp, of))
        complete = []
        while len(self._waiting) > self._most or timestamp - self._waiting[0].time >= self.ahead:
            complete.append(self._next())
        return complete

    def flush(self) -> Iterator[tuple[Frame, Poses]]:
        """Return the frames that still wait, one by one, after the last one."""
        while self._waiting:
            yield self._next()

    def _next(self) -> tuple[Frame, Poses]:
        now = self._waiting.popleft()
        while self._past and (len(self._past) > self._most or now.time - self._past[0].time > self.ahead):
            self._past.popleft()
        smoothed = self._smooth(now) if now.of else now.poses
        self._past.append(_Moment(None, now.poses, now.time, now.of))
        return now.frame, smoothed

    def _smooth(self, now: _Moment[Frame]) -> Poses:
        rows = list(now.of.values())
        later = [moment for moment in self._waiting if moment.time - now.time <= self.ahead]
        moments: list[_Moment[Any]] = [*self._past, now, *later]
        times = np.array([moment.time - now.time for moment in moments])
        here = len(self._past)

        def window(column: Callable[[Poses], NDArray[np.float32] | None], *shape: int) -> Doubles:
            """The column of everybody who is in this frame, (W, N, ...), at all moments; 0 where somebody is not."""
            values = np.zeros((len(moments), len(rows), *shape))
            for n, moment in enumerate(moments):
                there = column(moment.poses)
                known = [(to, moment.of[number]) for to, number in enumerate(now.of) if number in moment.of]
                if known and there is not None:
                    to, of = zip(*known, strict=True)
                    values[n, list(to)] = there[list(of)]
            return values

        k = now.poses.keypoint_scores.shape[1]
        seen = window(lambda poses: poses.keypoint_scores, k) >= self._config.min_score
        used = _unbroken(seen, times, here, self._config.forget_seconds)
        boxes = now.poses.boxes[rows].astype(np.float64)
        sizes = np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1.0))[:, None, None]

        def fitted(raw: NDArray[np.float32], points: Doubles, scale: Doubles | float) -> NDArray[np.float32]:
            result = raw.copy()
            fit = self._fit(points, used, times, scale)
            result[rows] = np.where(seen[here][..., None], fit, raw[rows]).astype(np.float32)
            return result

        keypoints = fitted(now.poses.keypoints, window(lambda poses: poses.keypoints, k, 2), sizes)
        if now.poses.keypoints_3d is None:
            return replace(now.poses, keypoints=keypoints)
        in_3d = fitted(now.poses.keypoints_3d, window(lambda poses: poses.keypoints_3d, k, 3), 1.0)
        return replace(now.poses, keypoints=keypoints, keypoints_3d=in_3d)

    def _fit(self, x: Doubles, used: NDArray[np.bool_], times: Doubles, scale: Doubles | float) -> Doubles:
        """Fit x (W, N, K, D) at time 0 to the samples in `used` (W, N, K). Returns (N, K, D)."""
        away, sides = np.abs(times)[:, None, None], times[:, None, None]
        period = _time_constant(self._config.speed_cutoff)
        near = used * np.exp(-away / period)
        _, before, spread_before = _line(x, near * (sides <= 0), times)
        _, after, spread_after = _line(x, near * (sides >= 0), times)
        # The slope of a few samples is mostly noise. With samples enough, their times spread over one time constant.
        trust = np.minimum(np.minimum(spread_before, spread_after) / period**2, 1)
        change = (after - before) * trust * _CHANGE
        cutoff = self._config.min_cutoff + self._config.beta * np.linalg.norm(change, axis=-1, keepdims=True) / scale
        return _line(x, used * np.exp(-away / _time_constant(cutoff[..., 0])), times)[0]


def _time_constant(cutoff: Doubles | float) -> Doubles | float:
    """Seconds after which the weight of a sample falls to a third, of a first-order low-pass filter of `cutoff` Hz."""
    return 1 / (2 * np.pi * cutoff)


def _line(x: Doubles, weights: NDArray[Any], times: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Fit lines to x (W, N, K, D) with weights (W, N, K).

    Returns values at time 0 and slopes, (N, K, D) each, and the variances of the times of the samples, (N, K, 1). A
    signal with one sample has the value of that and slope 0.
    """
    total = np.maximum(weights.sum(axis=0), 1e-12)[..., None]
    time = np.einsum("wnk,w->nk", weights, times)[..., None] / total
    square = np.einsum("wnk,w->nk", weights, times**2)[..., None] / total
    mean = np.einsum("wnk,wnkd->nkd", weights, x) / total
    product = np.einsum("wnk,w,wnkd->nkd", weights, times, x) / total
    spread = square - time**2
    flat = spread <= _PARALLEL * np.maximum(square, 1e-12)
    slope = np.where(flat, 0.0, (product - time * mean) / np.where(flat, 1.0, spread))
    return mean - slope * time, slope, spread


def _unbroken(seen: NDArray[np.bool_], times: Doubles, here: int, gap: float) -> NDArray[np.bool_]:
    """The samples (W, N, K) from which no gap of more than `gap` seconds without one leads to the moment `here`."""
    used = np.zeros_like(seen)
    used[here] = seen[here]
    for side in (range(here + 1, len(times)), range(here - 1, -1, -1)):
        last = np.full(seen.shape[1:], times[here])
        for n in side:
            used[n] = seen[n] & (np.abs(times[n] - last) <= gap)
            last = np.where(used[n], times[n], last)
    return used
