"""Admission to a whole pipeline, decided before the request body is read: can all its queues meet the deadline?

`service.batching.queue_admission` bounds a single queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from math import inf
from typing import Any

from service.batching import Batcher, BatchObserver, DeadlineExceededError, OverloadedError, Priority
from service.batching.queue_admission import SafetyMargin
from service.inference.stage import InferenceOptions

_MEMORY = 20
_GENERATIONS = 4
"""A change is believed after about _MEMORY requests plus _GENERATIONS times the requests under way. These were admitted
before the change was known, so a faster reaction would oscillate."""
_MAX_OVERHEAD = 8.0

Work = Sequence[tuple[Batcher[Any, Any], int]]
"""The queues that a request will pass, in order, and the work units that it brings to each."""


class PipelineAdmission:
    """Refuses requests on arrival that a whole pipeline could not finish by their deadline.

    An admitted request reserves its work in every queue, so that requests in an earlier stage count for those that
    arrive later. The queues do not account for the time between them, on an event loop that also serves and refuses
    others: the ratio of the time of the whole to the sum of its parts is learnt from requests that waited.
    """

    def __init__(self, observer: BatchObserver | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: that of the Batchers."""
        self._observer = observer or BatchObserver()
        self._clock = clock
        self._active = 0
        self._overhead = 1.0
        self._margins = {priority: SafetyMargin() for priority in Priority}
        self._same_stall_until = dict.fromkeys(Priority, -inf)  # a miss before this belongs to a counted stall

    def test(self, work: Work, options: InferenceOptions) -> float:
        """Seconds until `work` should be done; 0 if it need not wait, or if that is not known yet.

        Raises OverloadedError, with the seconds after which to retry, ClosedError or DeadlineExceededError.
        """
        left = inf if options.deadline is None else options.deadline - self._clock()
        if left <= 0:
            self._observer.rejected(work[0][0].name, DeadlineExceededError.reason)
            raise DeadlineExceededError("the deadline had passed before the work could begin")
        # An idle pipeline takes anything: a wrong prediction would otherwise never be corrected.
        if not self._active and all(batcher.idle for batcher, _ in work):
            return 0.0
        forecasts = [batcher.admit(units, priority=options.priority, client=options.client) for batcher, units in work]
        # The stages work in parallel: a request waits in full only for the slowest of them.
        waiting = [forecast.done - forecast.run for forecast in forecasts]
        longest = max(waiting)
        if longest <= 0:
            return 0.0
        needed = self._overhead * (sum(forecast.run for forecast in forecasts) + longest)
        slowest = work[waiting.index(longest)][0].name
        try:
            self._margins[options.priority].test(slowest, needed, left)
        except OverloadedError as refusal:
            self._observer.rejected(slowest, refusal.reason)
            raise
        return needed

    @contextmanager
    def admit(self, work: Work, options: InferenceOptions) -> Iterator[InferenceOptions]:
        """Reserve `work` while it is being done. Yields the options with the reservations. Raises as `test` does."""
        needed = self.test(work, options)
        arrived = self._clock()
        reservations = {b.name: b.reserve(units, priority=options.priority, client=options.client) for b, units in work}
        self._active += 1
        try:
            yield replace(options, reservations=reservations)
        except DeadlineExceededError:
            self._learn(options, arrived, needed, missed=True)
            raise
        else:
            self._learn(options, arrived, needed, missed=False)
        finally:
            self._active -= 1
            for batcher, _ in work:
                batcher.release(reservations[batcher.name])

    def _learn(self, options: InferenceOptions, arrived: float, needed: float, *, missed: bool) -> None:
        """Compare the prediction with the outcome."""
        now = self._clock()
        if needed:
            overhead = self._overhead * (now - arrived) / needed
            gain = 1 / (_MEMORY + _GENERATIONS * self._active)
            self._overhead += gain * (min(max(overhead, 1.0), _MAX_OVERHEAD) - self._overhead)
        if options.deadline is None:
            return
        margin = self._margins[options.priority]
        if not missed:
            if 2 * needed * margin.factor > options.deadline - arrived:  # with little time to spare
                margin.learn()
        elif now >= self._same_stall_until[options.priority]:
            # One stall delays all waiting requests, and counts once.
            self._same_stall_until[options.priority] = now + options.deadline - arrived
            margin.miss()
            margin.learn()
