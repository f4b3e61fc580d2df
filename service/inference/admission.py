"""Who may enter a pipeline: what all of its queues together can do in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import Any

from service.batching import Batcher, BatchObserver, DeadlineExceededError, OverloadedError, Priority
from service.batching.admission import SafetyMargin
from service.inference.stage import InferenceOptions

_MEMORY = 20
_GENERATIONS = 4
"""A change is believed after some _MEMORY requests, and so many times all those under way: what is learnt of a request
was decided before they came, and a faster reaction would swing."""
_MOST_DRIFT = 8.0

Work = Sequence[tuple[Batcher[Any, Any], int]]
"""The queues that a request will meet and the work units that it brings to each, in order."""


class PipelineAdmission:
    """Refuses on arrival what a whole pipeline could not finish by its deadline.

    What is let in holds a place in every queue until it gets there, so that requests still in an earlier stage count
    for those that ask to enter behind them. The queues know nothing of the time between them, on an event loop that
    has others to answer and refuse: how much longer the whole takes than its parts is learnt from those that waited.
    """

    def __init__(self, observer: BatchObserver | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: that of the Batchers."""
        self._observer = observer or BatchObserver()
        self._clock = clock
        self._inside = 0
        self._drift = 1.0
        self._margins = {priority: SafetyMargin() for priority in Priority}
        self._forgiven = dict.fromkeys(Priority, -inf)  # until when a miss has the cause of one before

    def test(self, work: Work, options: InferenceOptions) -> float:
        """Seconds until `work` should be done, 0 where it need not wait or that is not known yet.

        Raises OverloadedError, with the seconds after which a new try is worth it, ClosedError or
        DeadlineExceededError.
        """
        left = inf if options.deadline is None else options.deadline - self._clock()
        if left <= 0:
            self._observer.rejected(work[0][0].name, DeadlineExceededError.reason)
            raise DeadlineExceededError("the deadline had passed before the work could begin")
        # An idle pipeline takes anything: a prediction that is wrong would otherwise never be righted.
        if not self._inside and all(batcher.idle for batcher, _ in work):
            return 0.0
        forecasts = [batcher.admit(units, priority=options.priority, client=options.client) for batcher, units in work]
        # The stages work side by side: a request waits in full only for the slowest of them.
        waiting = [forecast.done - forecast.run for forecast in forecasts]
        longest = max(waiting)
        if longest <= 0:
            return 0.0
        needed = self._drift * (sum(forecast.run for forecast in forecasts) + longest)
        patience = left / self._margins[options.priority].factor
        if needed > patience:
            slowest = work[waiting.index(longest)][0].name
            self._observer.rejected(slowest, "late")
            raise OverloadedError(
                f"{slowest} would need {needed:.3f} s, the deadline is in {left:.3f} s",
                reason="late",
                retry_after_s=needed - patience,
            )
        return needed

    @contextmanager
    def admit(self, work: Work, options: InferenceOptions) -> Iterator[InferenceOptions]:
        """`ask` with places held for `work`, while the work is done. Raises as `test` does."""
        needed = self.test(work, options)
        arrived = self._clock()
        reservations = {b.name: b.reserve(units, priority=options.priority, client=options.client) for b, units in work}
        self._inside += 1
        try:
            yield replace(options, reservations=reservations)
        except DeadlineExceededError:
            self._learn(options, arrived, needed, missed=True)
            raise
        else:
            self._learn(options, arrived, needed, missed=False)
        finally:
            self._inside -= 1
            for batcher, _ in work:
                batcher.release(reservations[batcher.name])

    def _learn(self, options: InferenceOptions, arrived: float, needed: float, *, missed: bool) -> None:
        """Compare what was foreseen with what came."""
        now = self._clock()
        if needed:
            drift = self._drift * (now - arrived) / needed
            gain = 1 / (_MEMORY + _GENERATIONS * self._inside)
            self._drift += gain * (min(max(drift, 1.0), _MOST_DRIFT) - self._drift)
        if options.deadline is None:
            return
        margin = self._margins[options.priority]
        if not missed:
            if 2 * needed * margin.factor > options.deadline - arrived:  # with little time to spare
                margin.learn()
        elif now >= self._forgiven[options.priority]:
            self._forgiven[options.priority] = now + options.deadline - arrived  # one stall delays all that wait
            margin.miss()
            margin.learn()
