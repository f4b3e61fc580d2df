"""Joining the ids of one person in recorded video, once it is known what comes after.

A tracker must decide at once, from the past alone. Here each id's whole time in sight is known: its mean colours are
steady, its motion is continued forwards from its end and backwards from its beginning, and of several ids that may
follow, the best is chosen. Each cue is a likelihood ratio of one person to two people, and the logarithms are added.
The constants of colours were measured on the first and last thirds of true tracks of PoseTrack, TUD-Campus and PETS
S3-MF1 (18 pairs of the same person, 96 of others). Those of place and size are chosen, not fitted. The threshold lies
between the joins seen on the last two that were right (5 and more, one 1.8) and the one that was wrong (2.2).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from engines.poses import Doubles, Floats, Frame, Poses
from engines.skeletons import Skeleton
from service.tracking import colours
from service.tracking.similarity import Observed
from service.tracking.state import UNCONFIRMED

_LONGEST_S = 60.0
"""The longest absence after which ids are joined."""
_SETTLES_S = 10.0
"""An id's colours and motion are taken as known after this time."""
_WINDOW_S = 1.0
"""Time at the beginning and the end of an id for which its speed is measured."""
_MOST_SAMPLES = 32
_DAMPING_S = 1.0
"""People out of sight keep their speed for about this time."""
_START, _SPREAD = 0.35, 0.7
"""Standard deviation of the place after an absence, in sizes of the person: without one, and what a second adds. It
grows with the square root of time."""
_GROWTH, _GROWTH_OF_OTHERS = 0.2, 0.45
"""Standard deviation of the logarithm of the ratio of sizes, of one person and of different ones."""
_SAME, _OTHERS = (math.log(0.07), 0.45), (math.log(0.14), 0.42)
"""Mean and standard deviation of the logarithm of the difference of mean colours."""
_MOST_BY_COLOURS = 2.5
"""Colours never count more, as people dress alike."""
_FEWEST_COLOURS = 5
"""Keypoints with colours on both sides."""
_CLEAR = 3.0
"""The least evidence (a logarithm) for a join."""
_MARGIN = 1.0
"""By how much it must exceed the evidence for another id before or after."""


@dataclass(slots=True, eq=False)
class _Life:
    """An id's time in sight. first, last: rows of time, x, y and size at its beginning and end. rgb: (K, 3) sums of
    colours over the looks, (K,), at which a keypoint was clear.
    """

    id: int
    begin: float
    end: float
    rgb: Doubles
    looks: Doubles
    first: list[tuple[float, float, float, float]] = field(default_factory=list)
    last: deque[tuple[float, float, float, float]] = field(default_factory=lambda: deque(maxlen=_MOST_SAMPLES))

    def motion(self, *, at_end: bool) -> tuple[Doubles, Doubles, float]:
        """Place (2,), velocity (2,) in pixels a second, and size at the end or the beginning."""
        rows = np.array(list(self.last) if at_end else self.first)
        anchor = rows[-1] if at_end else rows[0]
        rows = rows[np.abs(rows[:, 0] - anchor[0]) <= _WINDOW_S]
        times = rows[:, 0] - rows[:, 0].mean()
        spread = float((times**2).sum())
        slope = (times[:, None] * rows[:, 1:3]).sum(axis=0) / spread if spread > 1e-6 else np.zeros(2)
        return anchor[1:3], slope, float(np.median(rows[:, 3]))


class TrackJoiner:
    """Finds the ids that are one person. Memory: the ids of the last two minutes, and the pairs that were joined."""

    def __init__(self, skeleton: Skeleton) -> None:
        self._k = len(skeleton)
        self._lives: dict[int, _Life] = {}
        self._before: dict[int, int] = {}
        self._followed: set[int] = set()
        self._settled: set[int] = set()
        self._next = _SETTLES_S
        self._area = 1.0

    def add(self, poses: Poses, frame: Frame, timestamp: float) -> None:
        """Add the next frame, with the ids of its poses. timestamp: seconds, ascending."""
        if poses.ids is not None and len(poses):
            self._look(poses, frame, timestamp)
        if timestamp > self._next:
            self._next = timestamp + _SETTLES_S
            self._settle(timestamp - _LONGEST_S - _SETTLES_S)
            self._forget(timestamp - 2 * (_LONGEST_S + _SETTLES_S))

    def joined(self) -> dict[int, int]:
        """After the last frame: for each id that is a person of before, that person's first id."""
        self._settle(math.inf)
        firsts: dict[int, int] = {}
        for number in sorted(self._before):  # ids ascend, so those before are known
            before = self._before[number]
            firsts[number] = firsts.get(before, before)
        return firsts

    def _look(self, poses: Poses, frame: Frame, timestamp: float) -> None:
        seen = Observed.of(poses.keypoints, poses.keypoint_scores, poses.boxes, poses.scores, 0.2)
        appearance = colours.sample(frame, seen.points, seen.boxes, seen.areas)
        self._area = float(frame.shape[0] * frame.shape[1])
        assert poses.ids is not None  # noqa: S101 - the caller looked
        for row, number in enumerate(poses.ids.tolist()):
            if number < 0:
                continue
            life = self._lives.get(number)
            if life is None:
                life = _Life(number, timestamp, timestamp, np.zeros((self._k, 3)), np.zeros(self._k))
                self._lives[number] = life
            x0, y0, x1, y1 = poses.boxes[row].tolist()
            sample = timestamp, (x0 + x1) / 2, (y0 + y1) / 2, math.sqrt(float(seen.areas[row]))
            life.end = timestamp
            life.last.append(sample)
            if len(life.first) < _MOST_SAMPLES:
                life.first.append(sample)
            life.rgb += appearance.rgb[row] * appearance.known[row][:, None]
            life.looks += appearance.known[row]

    def _settle(self, before: float) -> None:
        """Join the ids that began before a time with those that they continue, the clearest pairs first."""
        lives = sorted(self._lives.values(), key=lambda life: life.begin)
        pairs = [
            (evidence, one.id, other.id)
            for one in lives
            for other in lives
            if 0 < other.begin - one.end <= _LONGEST_S
            and one.id not in self._followed
            and other.id not in self._settled
            and (evidence := self._evidence(one, other)) > 0
        ]
        pairs.sort(reverse=True)
        for evidence, one, other in pairs:
            if evidence < _CLEAR:
                break
            if self._lives[other].begin >= before or one in self._followed or other in self._before:
                continue
            rival = max(
                (
                    e
                    for e, a, b in pairs
                    if (a == one) != (b == other) and a not in self._followed and b not in self._before
                ),
                default=0.0,
            )
            if evidence - rival >= _MARGIN:
                self._before[other] = one
                self._followed.add(one)
        self._settled |= {life.id for life in lives if life.begin < before}

    def _forget(self, before: float) -> None:
        gone = [life.id for life in self._lives.values() if life.end < before]
        for number in gone:
            del self._lives[number]
        self._followed.difference_update(gone)
        self._settled.difference_update(gone)

    def _evidence(self, one: _Life, other: _Life) -> float:
        """The logarithm of the likelihood ratio that `other` continues `one`."""
        gap = other.begin - one.end
        place, velocity, size = one.motion(at_end=True)
        to, towards, size_after = other.motion(at_end=False)
        reach = _DAMPING_S * -math.expm1(-gap / _DAMPING_S)
        middle = math.sqrt(size * size_after)
        spread = _START + _SPREAD * math.sqrt(gap)
        ahead = np.linalg.norm(place + velocity * reach - to) / middle
        back = np.linalg.norm(to - towards * reach - place) / middle
        away = (ahead**2 + back**2) / 2
        by_place = math.log(self._area / middle**2 / (2 * math.pi * spread**2)) - away / (2 * spread**2)
        growth = math.log(size_after / size)
        by_size = _log_ratio(growth, (0.0, _GROWTH), (0.0, _GROWTH_OF_OTHERS))
        return float(by_place) + by_size + _by_colours(one, other)


def rename(poses: Poses, firsts: Mapping[int, int]) -> Poses:
    """Replace the ids that are a person of before. Of two poses that would have one id, the better keeps it."""
    if poses.ids is None:
        return poses
    ids = np.array([firsts.get(number, number) for number in poses.ids.tolist()], np.int64)
    order = np.argsort(-poses.scores, kind="stable")
    _, first = np.unique(ids[order], return_index=True)
    single = np.zeros(len(ids), np.bool_)
    single[order[first]] = True
    return replace(poses, ids=np.where(single, ids, UNCONFIRMED))


def _by_colours(one: _Life, other: _Life) -> float:
    both = (one.looks > 0) & (other.looks > 0)
    if both.sum() < _FEWEST_COLOURS:
        return 0.0
    differ = mean_colour_difference(one.rgb[both] / one.looks[both, None], other.rgb[both] / other.looks[both, None])
    ratio = _log_ratio(math.log(max(differ, 1e-3)), _SAME, _OTHERS)
    return min(ratio, _MOST_BY_COLOURS)


def mean_colour_difference(a: Doubles | Floats, b: Doubles | Floats) -> float:
    """The mean over keypoints of the root mean square difference of colours (K, 3) in 0..1."""
    return float(np.sqrt(np.square(a - b).mean(axis=-1)).mean())


def _log_ratio(value: float, same: tuple[float, float], others: tuple[float, float]) -> float:
    """The logarithm of the ratio of two normal densities, given by mean and standard deviation."""
    return _log_density(value, *same) - _log_density(value, *others)


def _log_density(value: float, mean: float, deviation: float) -> float:
    return -0.5 * ((value - mean) / deviation) ** 2 - math.log(deviation)
