"""Who may enter a pipeline: what all of its queues together can do in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from service.batching import Batcher, DeadlineExceededError, Observer, OverloadedError, Priority
from service.batching.margin import Margin
from service.stages import Ask

Work = Sequence[tuple[Batcher[Any, Any], int]]
"""The queues that a request will meet and the work units that it brings to each, in order."""


class Entrance:
    """Refuses on arrival what a whole pipeline could not finish by its deadline.

    What is let in holds a place in every queue until it gets there, so that requests still in an earlier stage count
    for those that ask to enter behind them.
    """

    def __init__(self, observer: Observer | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: that of the Batchers."""
        self._observer = observer or Observer()
        self._clock = clock
        self._margins = {priority: Margin() for priority in Priority}
        self._forgiven = dict.fromkeys(Priority, -float("inf"))  # until when a miss has the cause of one before

    def test(self, work: Work, ask: Ask) -> float:
        """Seconds until `work` would be done; 0 where that is not known yet.

        Raises OverloadedError, with the seconds after which a new try is worth it, ClosedError or
        DeadlineExceededError.
        """
        for batcher, units in work:
            batcher.admit(units, priority=ask.priority, client=ask.client)
        now = self._clock()
        left = float("inf") if ask.deadline is None else ask.deadline - now
        if left <= 0:
            self._observer.rejected(work[0][0].name, DeadlineExceededError.reason)
            raise DeadlineExceededError("the deadline had passed before the work could begin")
        forecasts = [batcher.predict(units, priority=ask.priority, client=ask.client) for batcher, units in work]
        # The stages work side by side: a request waits in full only for the slowest of them.
        waiting = [forecast.done - forecast.run for forecast in forecasts]
        longest = max(waiting)
        needed = sum(forecast.run for forecast in forecasts) + longest
        # An idle pipeline takes anything: a prediction that is wrong would otherwise never be righted.
        if needed * self._margins[ask.priority].factor > left and longest > 0:
            slowest = work[waiting.index(longest)][0].name
            self._observer.rejected(slowest, "late")
            raise OverloadedError(
                f"{slowest} would need {needed:.3f} s, the deadline is in {left:.3f} s",
                reason="late",
                retry_after_s=needed - left / self._margins[ask.priority].factor,
            )
        return needed

    @contextmanager
    def admit(self, work: Work, ask: Ask) -> Iterator[Ask]:
        """`ask` with places held for `work`, while the work is done. Raises as `test` does."""
        needed = self.test(work, ask)
        arrived = self._clock()
        places = {b.name: b.hold(units, priority=ask.priority, client=ask.client) for b, units in work}
        try:
            yield replace(ask, places=places)
        except DeadlineExceededError:
            self._missed(ask, arrived)
            raise
        else:
            self._in_time(ask, arrived, needed)
        finally:
            for batcher, _ in work:
                batcher.release(places[batcher.name])

    def _in_time(self, ask: Ask, arrived: float, needed: float) -> None:
        margin = self._margins[ask.priority]
        if ask.deadline is not None and 2 * needed * margin.factor > ask.deadline - arrived:  # little time to spare
            margin.learn()

    def _missed(self, ask: Ask, arrived: float) -> None:
        if ask.deadline is None or self._clock() < self._forgiven[ask.priority]:
            return
        self._forgiven[ask.priority] = self._clock() + ask.deadline - arrived  # one stall delays all that wait
        margin = self._margins[ask.priority]
        margin.miss()
        margin.learn()
