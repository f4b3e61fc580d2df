"""Every worker thread that ends is replaced, or reported by health, and its callers get an error."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from service.batching import Batcher, BatchObserver, ClosedError, RunError
from tests.denied import no_threads
from tests.service.batching.fakes import RecordingObserver, Runtime, ready
from tests.waiting import until


def failing(method: Callable[..., Any], error: BaseException, times: int) -> Callable[..., Any]:
    """Wrap a method so that its first `times` calls raise `error`."""
    remaining = times

    def call(*arguments: Any) -> Any:
        nonlocal remaining
        if remaining:
            remaining -= 1
            raise error
        return method(*arguments)

    return call


class BrokenObserver(BatchObserver):
    """Raises at every event."""

    def __getattribute__(self, name: str) -> Any:
        def fail(*arguments: Any) -> None:
            raise ZeroDivisionError(name)

        return fail if name in vars(BatchObserver) and not name.startswith("_") else super().__getattribute__(name)


@pytest.mark.parametrize("error", [MemoryError(), SystemExit()])
def test_a_worker_that_fails_while_it_takes_work_is_started_again(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        runtime, observer = Runtime(held=True), RecordingObserver()
        async with Batcher(runtime, name="x", observer=observer) as batcher:
            running = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            waiting = asyncio.create_task(batcher.submit(1))
            await ready()
            monkeypatch.setattr(batcher._scheduler, "take", failing(batcher._scheduler.take, error, 1))
            runtime.release()
            await running
            with pytest.raises(ClosedError):
                await waiting
            assert batcher.health.state == "dead"
            with pytest.raises(ClosedError):
                await batcher.submit(2)
            await until(lambda: batcher.health.ok)
            assert (await batcher.submit(3)).value == 6
            assert batcher.stats.restarts == observer.count("restarted") == 1
            assert batcher.stats.waiting_units == 0

    asyncio.run(main())
    assert "a worker of x failed outside of run" in caplog.text
    assert "it is started again in 0.1 s" in caplog.text


def test_a_worker_that_keeps_failing_is_dead_and_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    takes: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def take(worker: int) -> None:
            takes.append(loop.time())
            raise MemoryError

        batcher = Batcher(Runtime(), name="x")
        monkeypatch.setattr(batcher._scheduler, "take", take)
        async with batcher:
            await until(lambda: len(takes) == 4)
            await until(lambda: batcher.health.state == "dead")
            with pytest.raises(ClosedError):
                await batcher.submit(0)

    asyncio.run(main())
    pauses = [after - before for before, after in pairwise(takes[:4])]
    assert all(pause > least for pause, least in zip(pauses, (0.09, 0.19, 0.39), strict=True))


def test_items_that_could_not_be_delivered_fail_and_their_worker_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        runtime = Runtime()
        batcher = Batcher(runtime, name="x", max_batch=2, max_delay=60.0)
        monkeypatch.setattr(batcher, "_post", failing(batcher._post, MemoryError(), 1))
        async with batcher:
            both = await asyncio.gather(batcher.submit(0), batcher.submit(1), return_exceptions=True)
            assert [type(one) for one in both] == [RunError, RunError]
            assert batcher.stats.running_batches == 0
            await until(lambda: batcher.health.ok)
            again = await asyncio.gather(batcher.submit(2), batcher.submit(3))
            assert [one.value for one in again] == [4, 6]

    asyncio.run(main())


def test_the_end_of_a_thread_is_reported_even_if_the_loop_takes_no_message_at_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        batcher = Batcher(Runtime(), name="x")
        monkeypatch.setattr(batcher, "_on_loop", failing(batcher._on_loop, MemoryError(), 3))
        async with batcher:
            with pytest.raises(RunError):
                await batcher.submit(0)
            await until(lambda: batcher.health.ok)
            assert (await batcher.submit(1)).value == 2

    asyncio.run(main())


def test_while_the_system_starts_no_thread_the_batcher_is_dead(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        batcher = Batcher(Runtime(), name="x")
        with no_threads():
            await batcher.start()
            await ready()
            assert batcher.health.state == "dead"
            with pytest.raises(ClosedError):
                await batcher.submit(0)
        await until(lambda: batcher.health.ok)
        assert (await batcher.submit(1)).value == 2
        await batcher.close()

    asyncio.run(main())
    assert "a worker of x has no thread (can't start new thread)" in caplog.text


def test_if_a_thread_cannot_be_replaced_every_caller_gets_an_error() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)

        def run(items: Sequence[int]) -> list[int | BaseException]:
            results = runtime(items)
            if 0 in items:
                raise SystemExit
            return results

        async with Batcher(run, name="x", max_batch=1) as batcher:
            fatal = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            waiting = asyncio.create_task(batcher.submit(1))
            await ready()
            with no_threads():
                runtime.release()
                with pytest.raises(RunError):
                    await fatal
                with pytest.raises(ClosedError):
                    await waiting
                assert batcher.health.state == "dead"
            await until(lambda: batcher.health.ok)
            assert (await batcher.submit(2)).value == 4

    asyncio.run(main())


def test_workers_that_could_not_be_started_are_reported_and_the_others_serve() -> None:
    async def main() -> None:
        async with Batcher(Runtime(), name="x") as batcher:
            with no_threads():
                batcher.reshape(8, (1, 8), 3)
                await ready()
                assert batcher.health.detail == "2 of 3 workers of x have ended"
                assert (await batcher.submit(1)).value == 2
            await until(lambda: batcher.health.ok)

    asyncio.run(main())


def test_closing_does_not_wait_for_a_paused_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        batcher = Batcher(Runtime(), name="x")
        monkeypatch.setattr(batcher._scheduler, "take", failing(batcher._scheduler.take, MemoryError(), 99))
        async with batcher:
            await until(lambda: batcher.health.state == "dead")
        assert batcher.health.state == "closed"

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("posewire-x")]


def test_a_failing_observer_does_not_affect_items(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="x", observer=BrokenObserver()) as batcher:
            running = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            leaving, staying = (asyncio.create_task(batcher.submit(item)) for item in (1, 2))
            await ready()
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            runtime.release()
            assert [(await task).value for task in (running, staying)] == [0, 4]
            assert batcher.health.ok
            assert batcher.stats.restarts == 0
        with pytest.raises(ClosedError):
            await batcher.submit(3)

    asyncio.run(main())
    failed = sorted(str(record.exc_info[1]) for record in caplog.records if record.exc_info)
    assert failed == ["batch_finished", "batch_started", "cancelled", "rejected", "waited"], "each is logged once"
