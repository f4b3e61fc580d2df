"""How fast tracked people move and how long they have been in view, from tracks alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engines.poses import Poses

_SETTLE_S = 0.3
"""Time constant of the low-pass on velocities: steps of a walk are shorter, changes of mind longer."""


@dataclass(frozen=True, slots=True, eq=False)
class Movement:
    """Of each of N people: velocities (N, 2) float32 pixels a second, visible_seconds (N,) float32 in view so far.

    Both are 0 for people that nobody tracks, and for a person's first frame.
    """

    velocities: NDArray[np.float32]
    visible_seconds: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class _Walker:
    keypoints: NDArray[np.float32]
    confident: NDArray[np.bool_]
    seen: float
    velocity: NDArray[np.float64]
    visible: float = 0.0


class VelocityMeter:
    """Measures the people of one stream.

    A velocity is that of the middle keypoint (the median over those confident in both frames, or the box's centre where
    there are none), smoothed. A gap of more than `lost_seconds` starts a person anew; one of less counts as in view.
    min_score: 0..1, from which a keypoint is confident.
    """

    def __init__(self, *, min_score: float = 0.3, lost_seconds: float = 2.0) -> None:
        self._min_score = min_score
        self._lost_seconds = lost_seconds
        self._walkers: dict[int, _Walker] = {}

    def __len__(self) -> int:
        """How many people it remembers."""
        return len(self._walkers)

    def update(self, poses: Poses, timestamp: float) -> Movement:
        """The movement of each person of this frame, taken at `timestamp` seconds."""
        velocities = np.zeros((len(poses), 2), np.float32)
        visible = np.zeros(len(poses), np.float32)
        for n, number in enumerate([] if poses.ids is None else poses.ids.tolist()):
            if number < 0:
                continue
            walker = self._follow(self._walkers.get(number), poses, n, timestamp)
            self._walkers[number] = walker
            velocities[n], visible[n] = walker.velocity, walker.visible
        for number in [number for number, w in self._walkers.items() if not self._goes_on(w, timestamp)]:
            del self._walkers[number]
        return Movement(velocities, visible)

    def _goes_on(self, walker: _Walker, now: float) -> bool:
        return 0 <= now - walker.seen <= self._lost_seconds

    def _follow(self, last: _Walker | None, poses: Poses, n: int, now: float) -> _Walker:
        # The box's centre counts as one more keypoint, for people without confident ones.
        box = poses.boxes[n]
        points = np.concatenate([poses.keypoints[n], [(box[:2] + box[2:]) / 2]])
        confident = np.append(poses.keypoint_scores[n] >= self._min_score, True)
        if last is None or not self._goes_on(last, now):
            return _Walker(points, confident, now, np.zeros(2))
        passed = now - last.seen
        if passed == 0:
            return last
        both = confident & last.confident
        if both.sum() > 1:
            both[-1] = False
        velocity = np.median(points[both].astype(np.float64) - last.keypoints[both], axis=0) / passed
        if last.visible > 0:  # the first that is measured is taken as it is
            velocity = last.velocity + (velocity - last.velocity) * (1 - np.exp(-passed / _SETTLE_S))
        return _Walker(points, confident, now, velocity, last.visible + passed)
