"""Admission to a pipeline of two queues, in simulated time where nothing runs by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from service.batching import Batcher, BatchObserver, DeadlineExceededError, OverloadedError
from service.inference.pipeline_admission import PipelineAdmission
from service.inference.stage import InferenceOptions


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Refusals(BatchObserver):
    """Records the queue and the reason of every refusal."""

    def __init__(self) -> None:
        self.recorded: list[tuple[str, str]] = []

    def rejected(self, name: str, reason: str) -> None:
        self.recorded.append((name, reason))


class TwoQueues:
    """`front` takes 1 s for each item and `back` 2 s, one item at a time; both are idle."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.refusals = Refusals()
        self.admission = PipelineAdmission(self.refusals, self.clock)
        self.front = self._queue("front", 1.0)
        self.back = self._queue("back", 2.0)
        self.work = [(self.front, 1), (self.back, 1)]

    def _queue(self, name: str, seconds: float) -> Batcher[int, int]:
        def run(items: Sequence[int]) -> Sequence[int]:
            self.clock.now += seconds
            return items

        return Batcher(run, name=name, max_batch=1, clock=self.clock)

    def due(self, seconds: float) -> InferenceOptions:
        return InferenceOptions(deadline=self.clock.now + seconds)


def simulate(scenario: Callable[[TwoQueues], Awaitable[None]]) -> None:
    """Run a scenario with queues that have learnt their service times."""

    async def whole() -> None:
        queues = TwoQueues()
        async with queues.front, queues.back:
            await queues.front.submit(1)
            await queues.back.submit(1)
            await scenario(queues)

    asyncio.run(whole())


def test_an_idle_pipeline_takes_anything() -> None:
    async def scenario(queues: TwoQueues) -> None:
        with queues.admission.admit(queues.work, queues.due(0.1)) as options:
            assert set(options.reservations) == {"front", "back"}

    simulate(scenario)


def test_admitted_requests_count_for_later_ones_before_they_reach_a_queue() -> None:
    async def scenario(queues: TwoQueues) -> None:
        with queues.admission.admit(queues.work, queues.due(60)), queues.admission.admit(queues.work, queues.due(60)):
            # Two are ahead, at 2 s each for the slower queue; then its own 1 + 2 s.
            assert queues.admission.test(queues.work, queues.due(60)) == pytest.approx(4 + 3)
            with pytest.raises(
                OverloadedError, match=r"back would need 7\.000 s, the deadline is in 7\.500 s"
            ) as refusal:
                queues.admission.test(queues.work, queues.due(7.5))  # in time only if the prediction was exact
            assert refusal.value.retry_after_s == pytest.approx(7 - 7.5 / 1.5)
        assert queues.admission.test(queues.work, queues.due(0.1)) == 0  # all have ended: idle again
        assert queues.refusals.recorded == [("back", "late")]

    simulate(scenario)


def test_a_deadline_that_has_passed_is_not_an_overload() -> None:
    async def scenario(queues: TwoQueues) -> None:
        with pytest.raises(DeadlineExceededError):
            queues.admission.test(queues.work, queues.due(0))
        assert queues.refusals.recorded == [("front", "expired")]

    simulate(scenario)


def test_reservations_are_released_however_the_work_ends() -> None:
    async def scenario(queues: TwoQueues) -> None:
        with pytest.raises(RuntimeError), queues.admission.admit(queues.work, queues.due(60)):
            raise RuntimeError
        with queues.admission.admit(queues.work, queues.due(60)) as options:
            await queues.front.submit(1, reservation=options.reservations["front"])
        assert queues.admission.test(queues.work, queues.due(60)) == 0

    simulate(scenario)


def shortest_deadline(queues: TwoQueues) -> float:
    """The shortest deadline, in seconds, that is admitted while one other request is under way."""
    with queues.admission.admit(queues.work, queues.due(60)):
        for tenths in range(1, 600):
            try:
                queues.admission.test(queues.work, queues.due(tenths / 10))
            except OverloadedError:
                continue
            return tenths / 10
    raise AssertionError


def pass_through(queues: TwoQueues, seconds: float, deadline: float) -> None:
    """Be admitted, and end `seconds` later: with a DeadlineExceededError if that is after the deadline."""
    with suppress(DeadlineExceededError), queues.admission.admit(queues.work, queues.due(deadline)):
        queues.clock.now += seconds
        if seconds > deadline:
            raise DeadlineExceededError


def test_missed_deadlines_make_admission_stricter_and_one_stall_counts_once() -> None:
    async def scenario(queues: TwoQueues) -> None:
        before = shortest_deadline(queues)
        pass_through(queues, 51, deadline=50)
        once = shortest_deadline(queues)
        assert before < once < 1.2 * before
        pass_through(queues, 2, deadline=1)  # within the 50 s of the first
        assert shortest_deadline(queues) == once
        queues.clock.now += 60
        pass_through(queues, 2, deadline=1)
        assert shortest_deadline(queues) > once

    simulate(scenario)


def test_the_time_between_the_queues_is_learnt() -> None:
    async def scenario(queues: TwoQueues) -> None:
        before = shortest_deadline(queues)
        for _ in range(200):
            with queues.admission.admit(queues.work, queues.due(600)):
                pass_through(queues, 20, deadline=500)  # four times the prediction of the queues, 5 s
        assert shortest_deadline(queues) == pytest.approx(4 * before, rel=0.1)

    simulate(scenario)
