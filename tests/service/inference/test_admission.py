"""Who may enter a pipeline of two queues, in simulated time where nothing runs by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from service.batching import Batcher, BatchObserver, DeadlineExceededError, OverloadedError
from service.inference.admission import PipelineAdmission
from service.inference.stage import InferenceOptions


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Refusals(BatchObserver):
    """Remembers who refused, and why."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def rejected(self, name: str, reason: str) -> None:
        self.seen.append((name, reason))


class House:
    """Two queues: `front` takes 1 s for each item, `back` 2 s; both one by one, both idle."""

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


def within(story: Callable[[House], Awaitable[None]]) -> None:
    """Tell a story in a house whose queues know how long they take."""

    async def whole() -> None:
        house = House()
        async with house.front, house.back:
            await house.front.submit(1)
            await house.back.submit(1)
            await story(house)

    asyncio.run(whole())


def test_an_idle_pipeline_takes_anything() -> None:
    async def story(house: House) -> None:
        with house.admission.admit(house.work, house.due(0.1)) as options:
            assert set(options.reservations) == {"front", "back"}

    within(story)


def test_those_inside_count_for_those_behind_them_although_no_queue_holds_them_yet() -> None:
    async def story(house: House) -> None:
        with house.admission.admit(house.work, house.due(60)), house.admission.admit(house.work, house.due(60)):
            # Two are ahead, at 2 s each for the slower queue; then its own 1 + 2 s.
            assert house.admission.test(house.work, house.due(60)) == pytest.approx(4 + 3)
            with pytest.raises(
                OverloadedError, match=r"back would need 7\.000 s, the deadline is in 7\.500 s"
            ) as refusal:
                house.admission.test(house.work, house.due(7.5))  # in time if all went as foreseen, which it never does
            assert refusal.value.retry_after_s == pytest.approx(7 - 7.5 / 1.5)
        assert house.admission.test(house.work, house.due(0.1)) == 0  # all have left: idle again
        assert house.refusals.seen == [("back", "late")]

    within(story)


def test_a_deadline_that_has_passed_is_no_overload() -> None:
    async def story(house: House) -> None:
        with pytest.raises(DeadlineExceededError):
            house.admission.test(house.work, house.due(0))
        assert house.refusals.seen == [("front", "expired")]

    within(story)


def test_a_place_is_given_up_however_the_work_ends() -> None:
    async def story(house: House) -> None:
        with pytest.raises(RuntimeError), house.admission.admit(house.work, house.due(60)):
            raise RuntimeError
        with house.admission.admit(house.work, house.due(60)) as options:
            await house.front.submit(1, reservation=options.reservations["front"])
        assert house.admission.test(house.work, house.due(60)) == 0

    within(story)


def least(house: House) -> float:
    """The shortest deadline, in seconds, that is let in behind one other."""
    with house.admission.admit(house.work, house.due(60)):
        for tenths in range(1, 600):
            try:
                house.admission.test(house.work, house.due(tenths / 10))
            except OverloadedError:
                continue
            return tenths / 10
    raise AssertionError


def pass_through(house: House, seconds: float, deadline: float) -> None:
    """Enter, and leave `seconds` later: without a result where that is after the deadline."""
    with suppress(DeadlineExceededError), house.admission.admit(house.work, house.due(deadline)):
        house.clock.now += seconds
        if seconds > deadline:
            raise DeadlineExceededError


def test_deadlines_missed_inside_make_it_careful_and_one_stall_counts_once() -> None:
    async def story(house: House) -> None:
        before = least(house)
        pass_through(house, 51, deadline=50)
        once = least(house)
        assert before < once < 1.2 * before
        pass_through(house, 2, deadline=1)  # within the 50 s of the first
        assert least(house) == once
        house.clock.now += 60
        pass_through(house, 2, deadline=1)
        assert least(house) > once

    within(story)


def test_time_that_passes_between_the_queues_is_learnt() -> None:
    async def story(house: House) -> None:
        before = least(house)
        for _ in range(200):
            with house.admission.admit(house.work, house.due(600)):
                pass_through(house, 20, deadline=500)  # four times what its queues foresee: 5 s
        assert least(house) == pytest.approx(4 * before, rel=0.1)

    within(story)
