"""Predicts how long batches take, learning from each one, and when waiting work will be done."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from math import inf

_GAIN = 0.2
"""The weight of a new observation: a change is believed after about five batches."""

_SHORT_S, _LINEAR = 0.1, 0.8
"""Of batches that take at least this share of the time of their units one by one, none is planned to take longer."""
_STALL = 4.0
_STALL_FLOOR_S = 0.001
"""One batch counts for at most _STALL times the expected time: a single hang is no trend, ten slow batches are."""


def powers_of_two(limit: int) -> tuple[int, ...]:
    """The usual batch sizes: 1, 2, 4 and so on up to `limit`, which is always included."""
    return (*(1 << i for i in range((limit - 1).bit_length())), limit)


class ServiceTime:
    """The seconds that a batch takes: an exponentially weighted mean for each batch size.

    A batch takes at least as long as a smaller one, and at most in proportion to it. So each observation also moves the
    means of the other batch sizes to within those bounds: one that was never observed starts at the slower bound, and
    one that the load no longer reaches cannot keep an outdated value.
    """

    def __init__(self, batch_sizes: Sequence[int]) -> None:
        """batch_sizes: in units, those with a time of their own, ascending. Raises ValueError if they are not."""
        if not batch_sizes or batch_sizes[0] < 1 or any(a >= b for a, b in pairwise(batch_sizes)):
            raise ValueError(f"batch sizes must be positive and ascending, not {list(batch_sizes)}")
        self.known = False
        self._batch_sizes = tuple(batch_sizes)
        self._seconds = [0.0] * len(batch_sizes)

    def observe(self, units: int, seconds: float) -> None:
        """Record that a batch of `units` took `seconds`."""
        index = bisect_left(self._batch_sizes, units)
        size = self._batch_sizes[index] if index < len(self._batch_sizes) else units
        if self.known:
            seconds = min(seconds, _STALL * max(self.batch(units), _STALL_FLOOR_S))
        for i, batch_size in enumerate(self._batch_sizes):
            low, high = sorted((seconds, seconds * batch_size / size))
            mean = self._seconds[i]
            if self.known:
                self._seconds[i] += _GAIN * (min(max(mean, low), high) - mean)
            else:
                self._seconds[i] = high
        self.known = True

    def batch(self, units: int) -> float:
        """Seconds that one batch of `units` will take; 0 before the first observation."""
        index = bisect_left(self._batch_sizes, units)
        if index < len(self._batch_sizes):
            return self._seconds[index]
        return self._seconds[-1] * units / self._batch_sizes[-1]

    def short_batch(self, units: int) -> int:
        """The size of the next batch where `units` wait for it.

        Fewer where large batches gain little, as on CPUs, and take long: others who arrive meanwhile would wait for it.
        """
        seconds = self.batch(units)
        if not self.known or seconds <= _SHORT_S or seconds < _LINEAR * units * self.batch(1):
            return units
        return max(1, int(_SHORT_S / self.batch(1)))

    def until_done(self, units: int, max_batch: int, busy: Sequence[float]) -> float:
        """Seconds until `units` of waiting work are done, by workers that are free after `busy` seconds each.

        0 before the first observation. The work runs in batches of `max_batch`. The last one is assumed to be full if
        others run before it, as more work will have arrived by then.
        """
        if not self.known:
            return 0.0
        before = (units - 1) // max_batch
        if not before:
            return min(busy) + self.batch(units)
        full = self.batch(max_batch)
        return _start(before * full, busy) + full


def _start(work: float, busy: Sequence[float]) -> float:
    """Seconds until a worker is free, after workers busy for `busy` seconds each did `work` seconds more together.

    The work goes to the workers that are free first, so a hung worker gets none of it.
    """
    level = 0.0
    times = sorted(busy)
    for count, (start, end) in enumerate(pairwise([*times, inf]), 1):
        level = start + work / count
        if level <= end:
            break
        work -= (end - start) * count
    return level
