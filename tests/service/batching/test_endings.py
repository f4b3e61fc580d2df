"""The ways a submission ends without a result: its caller is cancelled, its deadline passes, or the batcher closes."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Sequence
from math import inf

import pytest

from service.batching import Batcher, BatchingError, ClosedError, DeadlineExceededError, OverloadedError
from tests.service.batching.fakes import Poisonable, PoisonError, RecordingObserver, Runtime, ready


def test_a_cancelled_item_leaves_the_queue_at_once_and_does_not_run() -> None:
    async def main() -> None:
        runtime, observer = Runtime(held=True), RecordingObserver()
        async with Batcher(runtime, name="x", observer=observer) as batcher:
            running = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            leaving, staying = (asyncio.create_task(batcher.submit(item)) for item in (1, 2))
            await ready()
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert batcher.stats.waiting_units == 1
            runtime.release()
            await asyncio.gather(running, staying)
        assert runtime.batches == [[0], [2]]
        assert observer.count("cancelled") == 1

    asyncio.run(main())


def test_a_cancelled_item_does_not_run_even_if_the_event_loop_is_late() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="x") as batcher:
            running = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            leaving, staying = (asyncio.create_task(batcher.submit(item)) for item in (1, 2))
            await ready()
            leaving.cancel()
            runtime.release()
            assert runtime.entered_blocking()
            await asyncio.gather(running, staying)
        assert runtime.batches == [[0], [2]]

    asyncio.run(main())


def test_cancelling_a_running_item_does_not_affect_other_items() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="x") as batcher:
            leaving = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            leaving.cancel()
            staying = asyncio.create_task(batcher.submit(1))
            await ready()
            runtime.release()
            assert (await staying).value == 2
            assert leaving.cancelled()

    asyncio.run(main())


def test_an_item_that_is_cancelled_before_its_retry_is_not_retried() -> None:
    async def main() -> None:
        runtime = Poisonable(held=True)
        async with Batcher(runtime, name="x", max_delay=60.0, max_batch=2) as batcher:
            bad, leaving = (asyncio.create_task(batcher.submit(item)) for item in (-1, 2))
            await runtime.entered()
            leaving.cancel()
            await ready()
            runtime.release()
            with pytest.raises(PoisonError):
                await bad
        assert runtime.batches == [[-1, 2], [-1]]

    asyncio.run(main())


def test_an_item_whose_deadline_passes_while_it_waits_does_not_run() -> None:
    async def main() -> None:
        runtime, observer = Runtime(held=True), RecordingObserver()
        async with Batcher(runtime, name="x", observer=observer) as batcher:
            running = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            with pytest.raises(DeadlineExceededError):
                await batcher.submit(1, deadline=time.monotonic() + 0.01)
            assert batcher.stats.waiting_units == 0
            runtime.release()
            await running
        assert runtime.batches == [[0]]
        assert observer.count("expired") == 1

    asyncio.run(main())


def test_a_deadline_that_passes_during_the_run_ends_the_call_and_drops_the_result() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="x") as batcher:
            with pytest.raises(DeadlineExceededError):
                await batcher.submit(1, deadline=time.monotonic() + 0.01)
            assert runtime.batches == [[1]]
            runtime.release()
            assert (await batcher.submit(2)).value == 4

    asyncio.run(main())


def test_items_that_expire_before_a_worker_takes_them_fail_with_a_deadline_error() -> None:
    """The clock runs ahead of the event loop's, so that the worker is the first to see the deadline pass."""
    now = 0.0

    async def main() -> None:
        nonlocal now
        runtime, observer = Runtime(held=True), RecordingObserver()
        async with Batcher(runtime, name="x", clock=lambda: now, observer=observer) as batcher:
            running = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            frame = asyncio.create_task(batcher.submit_all([1, 2], deadline=3600.0))
            await ready()
            now = 3600.0
            runtime.release()
            await running
            with pytest.raises(DeadlineExceededError, match="while the item waited"):
                await frame
        assert runtime.batches == [[0]]
        assert observer.count("expired") == 2

    asyncio.run(main())


def test_closing_finishes_accepted_work() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        batcher = Batcher(runtime, name="x", max_batch=1)
        assert batcher.health.state == "closed"
        with pytest.raises(ClosedError):
            await batcher.submit(0)
        await batcher.start()
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(3)]
        await runtime.entered()
        closing = [asyncio.create_task(batcher.close(drain=60.0)) for _ in range(2)]
        await ready()
        with pytest.raises(ClosedError):
            await batcher.submit(4)
        runtime.release()
        await asyncio.gather(*closing)
        assert [(await task).value for task in tasks] == [0, 2, 4]
        await batcher.close()
        assert batcher.health.state == "closed"
        assert not any(thread.is_alive() for thread in runtime.threads)
        with pytest.raises(RuntimeError, match="only once"):
            await batcher.start()

    asyncio.run(main())


def test_closing_does_not_wait_for_a_batch_to_fill_up() -> None:
    submitted, checked = threading.Event(), threading.Event()

    def clock() -> float:
        if submitted.is_set() and threading.current_thread().name == "posewire-x-0":
            checked.set()
        return 0.0

    async def main() -> None:
        async with Batcher(Runtime(), name="x", max_delay=60.0, clock=clock) as batcher:
            submitted.set()
            task = asyncio.create_task(batcher.submit(1))
            assert await asyncio.to_thread(checked.wait, 10)
            assert batcher.stats.waiting_items == 1  # the worker saw it, and released the lock to wait
        assert (await task).value == 2

    asyncio.run(main())


def test_closing_fails_work_that_is_not_done_by_the_end_of_the_drain_time(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> tuple[Runtime, threading.Thread]:
        runtime, observer = Runtime(held=True), RecordingObserver()
        batcher = Batcher(runtime, name="x", max_batch=1, observer=observer)
        await batcher.start()
        tasks = [asyncio.create_task(batcher.submit(item)) for item in range(3)]
        await runtime.entered()
        await batcher.close(drain=0.0)
        for task in tasks:
            with pytest.raises(ClosedError, match="before the item was done"):
                await task
        assert observer.count("failed") == 3
        return runtime, runtime.threads[0]

    runtime, hung = asyncio.run(main())
    assert "a batch of it still runs" in caplog.text
    runtime.release()  # it returns after its event loop has ended, without an error
    hung.join(10)
    assert not hung.is_alive()
    assert runtime.batches == [[0]]


def test_a_batcher_that_was_never_started_can_be_closed() -> None:
    asyncio.run(Batcher(Runtime(), name="x").close())


class Image:
    """An item that uses much memory."""


@pytest.mark.parametrize("end", [None, DeadlineExceededError, OverloadedError, asyncio.CancelledError])
def test_items_are_freed_with_their_call_without_the_garbage_collector(end: type[BaseException] | None) -> None:
    go, entered = threading.Event(), threading.Event()

    def run(items: Sequence[Image | None]) -> list[None]:
        entered.set()
        assert go.wait(10)
        return [None for _ in items]

    async def submit(batcher: Batcher[Image | None, None], image: Image) -> None:
        if end is None:
            go.set()
            await batcher.submit(image)
        elif end is DeadlineExceededError:
            await batcher.submit(image, deadline=time.monotonic() + 0.001)
        elif end is OverloadedError:
            await batcher.submit_all([image] * 10)
        else:
            async with asyncio.timeout(0.001):
                await batcher.submit(image)

    async def main() -> None:
        async with Batcher(run, name="x", max_queue=4) as batcher:
            first = asyncio.create_task(batcher.submit(None))
            assert await asyncio.to_thread(entered.wait, 10)
            second = asyncio.create_task(batcher.submit(None, client="another"))
            await ready()
            image = Image()
            alive = weakref.ref(image)
            with contextlib.suppress(BatchingError, TimeoutError):
                await submit(batcher, image)
            del image
            go.set()
            await asyncio.gather(first, second)
            await batcher.submit(None)  # the worker has released its last batch
            assert alive() is None

    gc.disable()
    try:
        asyncio.run(main())
    finally:
        gc.enable()


def test_deadlines_are_times_of_the_batchers_clock() -> None:
    async def main() -> None:
        async with Batcher(Runtime(), name="x", clock=lambda: 100.0) as batcher:
            assert (await batcher.submit(1, deadline=100.5)).value == 2
            assert (await batcher.submit(1, deadline=inf)).value == 2
            with pytest.raises(DeadlineExceededError):
                await batcher.submit(1, deadline=100.0)

    asyncio.run(main())
