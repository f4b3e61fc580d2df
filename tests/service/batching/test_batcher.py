"""How a Batcher gathers, orders and refuses work, with real threads. Tests wait for events, never for time to pass."""

from __future__ import annotations

import asyncio

import pytest

from service.batching import Batcher, DeadlineExceededError, OverloadedError, Priority
from tests.service.batching.fakes import RecordingObserver, Runtime, ready, stopped_clock


def test_a_result_carries_its_value_batch_size_and_times() -> None:
    async def main() -> None:
        async with Batcher(Runtime(), name="x") as batcher:
            result = await batcher.submit(21)
        assert (result.value, result.batch) == (42, 1)
        assert result.queued_s >= 0
        assert result.ran_s >= 0

    asyncio.run(main())


def test_an_idle_worker_starts_at_once_and_work_gathers_while_it_is_busy() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="x", max_batch=4, clock=stopped_clock) as batcher:
            first = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            others = [asyncio.create_task(batcher.submit(i)) for i in range(1, 7)]
            await ready()
            assert batcher.stats.waiting_items == 6
            runtime.release()
            assert [(await task).batch for task in [first, *others]] == [1, 4, 4, 4, 4, 2, 2]
        assert runtime.batches == [[0], [1, 2, 3, 4], [5, 6]]

    asyncio.run(main())


def test_the_items_of_one_call_use_all_idle_workers_and_return_in_order() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="x", workers=2, clock=stopped_clock) as batcher:
            frame = asyncio.create_task(batcher.submit_all([1, 2, 3, 4]))
            await runtime.entered(2)
            runtime.release()
            assert [result.value for result in await frame] == [2, 4, 6, 8]
        assert sorted(runtime.batches) == [[1, 2], [3, 4]]
        assert {thread.name for thread in runtime.threads} == {"posewire-x-0", "posewire-x-1"}

    asyncio.run(main())


def test_submitting_no_items_returns_no_results() -> None:
    async def main() -> None:
        async with Batcher(Runtime(), name="x") as batcher:
            assert await batcher.submit_all([]) == []

    asyncio.run(main())


def test_cost_is_counted_in_units() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="x", cost=lambda item: item, max_batch=8, clock=stopped_clock) as batcher:
            frame = asyncio.create_task(batcher.submit_all([9, 5, 4, 4]))
            await runtime.entered()
            assert batcher.stats.waiting_units == 13
            runtime.release()
            await frame
            with pytest.raises(ValueError, match="at least 1 unit, not 0"):
                await batcher.submit(0)
        assert runtime.batches == [[9], [5], [4, 4]]

    asyncio.run(main())


def test_work_is_refused_on_arrival_and_counted() -> None:
    now = 0.0

    async def main() -> None:
        nonlocal now
        runtime, observer = Runtime(held=True), RecordingObserver()
        async with Batcher(runtime, name="x", max_queue=4, clock=lambda: now, observer=observer) as batcher:
            running = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            now = 1.0
            waiting = [asyncio.create_task(batcher.submit(item)) for item in (1, 2)]
            await ready()
            with pytest.raises(OverloadedError, match="no room"):
                await batcher.submit(3)
            with pytest.raises(OverloadedError):
                batcher.admit(1)
            with pytest.raises(DeadlineExceededError):
                await batcher.submit(3, deadline=1.0)
            batcher.admit(1, client="newcomer")
            waiting.append(asyncio.create_task(batcher.submit(3, admitted=True)))
            await ready()
            assert batcher.stats.waiting_items == 3
            runtime.release()
            await asyncio.gather(running, *waiting)
            assert batcher.predict(1).done == pytest.approx(1.0, abs=1.0)
        assert [event[-1] for event in observer.events if event[0] == "rejected"] == ["full", "full", "expired"]

    asyncio.run(main())


def test_an_item_that_cannot_meet_its_deadline_is_refused() -> None:
    now = 0.0

    async def main() -> None:
        nonlocal now
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="x", max_batch=1, clock=lambda: now) as batcher:
            first = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            now = 1.0  # the first took a second
            runtime.release()
            await first
            assert batcher.predict().done == pytest.approx(1.0)
            runtime._go.clear()
            second = asyncio.create_task(batcher.submit(1, deadline=now + 0.5))  # an idle worker takes anything
            await runtime.entered()
            with pytest.raises(OverloadedError) as refusal:
                await batcher.submit(2, deadline=now + 2.0)
            assert refusal.value.reason == "late"
            runtime.release()
            await second

    asyncio.run(main())


def test_the_observer_is_told_about_batches() -> None:
    async def main() -> None:
        observer = RecordingObserver()
        async with Batcher(
            Runtime(), name="x", cost=lambda item: item, clock=lambda: 0.0, observer=observer
        ) as batcher:
            await batcher.submit(3)
        assert observer.events == [("batch_started", "x", 1, 3), ("waited", "x", 0.0), ("batch_finished", "x", 1, 0.0)]

    asyncio.run(main())


def test_urgent_work_of_a_client_runs_before_its_bulk_work() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="x", max_batch=1) as batcher:
            tasks = [asyncio.create_task(batcher.submit(0))]
            await runtime.entered()
            for item, priority in enumerate((Priority.BULK, Priority.STILL, Priority.LIVE), start=1):
                tasks.append(asyncio.create_task(batcher.submit(item, priority=priority)))
            await ready()
            runtime.release()
            await asyncio.gather(*tasks)
        assert runtime.batches == [[0], [3], [2], [1]]

    asyncio.run(main())
