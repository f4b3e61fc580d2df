"""Every worker thread that ends is noticed: another takes its place, or health says so and nobody waits for it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import pytest

from service.batching import Batcher, BatchObserver, ClosedError, RunError
from tests.denied import no_threads
from tests.service.batching.fakes import Counting, Runtime, ready
from tests.waiting import until

linux = pytest.mark.skipif(sys.platform != "linux", reason="threads have a priority of their own on Linux alone")


def failing(method: Callable[..., Any], error: BaseException, times: int) -> Callable[..., Any]:
    """A method that raises for so many times, and then is as it was."""
    remaining = times

    def call(*arguments: Any) -> Any:
        nonlocal remaining
        if remaining:
            remaining -= 1
            raise error
        return method(*arguments)

    return call


class BrokenObserver(BatchObserver):
    """Raises whatever it is told."""

    def __getattribute__(self, name: str) -> Any:
        def fail(*arguments: Any) -> None:
            raise ZeroDivisionError(name)

        return fail if name in vars(BatchObserver) and not name.startswith("_") else super().__getattribute__(name)


@pytest.mark.parametrize("error", [MemoryError(), SystemExit()])
def test_a_worker_that_fails_while_it_takes_work_is_started_again(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        runtime, observer = Runtime(held=True), Counting()
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


def test_a_worker_that_fails_for_good_is_dead_and_does_not_spin(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_what_could_not_be_delivered_fails_and_its_worker_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_an_end_is_told_of_though_the_loop_takes_no_message_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        batcher = Batcher(Runtime(), name="x")
        monkeypatch.setattr(batcher, "_on_loop", failing(batcher._on_loop, MemoryError(), 3))
        async with batcher:
            with pytest.raises(RunError):
                await batcher.submit(0)
            await until(lambda: batcher.health.ok)
            assert (await batcher.submit(1)).value == 2

    asyncio.run(main())


def test_where_the_system_starts_no_thread_health_says_so_until_it_does(caplog: pytest.LogCaptureFixture) -> None:
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


def test_a_thread_that_cannot_be_replaced_costs_nobody_an_answer() -> None:
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


def test_more_workers_than_the_system_starts_are_reported_and_the_others_serve() -> None:
    async def main() -> None:
        async with Batcher(Runtime(), name="x") as batcher:
            with no_threads():
                batcher.reshape(8, (1, 8), 3)
                await ready()
                assert batcher.health.detail == "2 of 3 workers of x have ended"
                assert (await batcher.submit(1)).value == 2
            await until(lambda: batcher.health.ok)

    asyncio.run(main())


def test_closing_does_not_wait_for_a_worker_that_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        batcher = Batcher(Runtime(), name="x")
        monkeypatch.setattr(batcher._scheduler, "take", failing(batcher._scheduler.take, MemoryError(), 99))
        async with batcher:
            await until(lambda: batcher.health.state == "dead")
        assert batcher.health.state == "closed"

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("posewire-x")]


def test_an_observer_that_fails_costs_no_item(caplog: pytest.LogCaptureFixture) -> None:
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


@linux
def test_a_replaced_thread_has_the_priority_of_the_first() -> None:
    def nice(thread: threading.Thread | None = None) -> int:
        return os.getpriority(os.PRIO_PROCESS, thread.native_id or 0 if thread else os.getpid())

    found: list[int] = []

    def run(items: Sequence[int]) -> list[int]:
        found.append(nice(threading.current_thread()))
        raise SystemExit

    async def main() -> None:
        async with Batcher(run, name="x") as batcher:
            for _ in range(3):
                with pytest.raises(RunError):
                    await batcher.submit(0)

    asyncio.run(main())
    assert found == [min(19, nice() + 5)] * 3


_DENIED = """
import asyncio, logging
from service.batching import Batcher
from tests.denied import deny

async def main():
    async with Batcher(lambda items: items, name="x", workers=3, max_batch=1) as batcher:
        print([(await batcher.submit(n)).value for n in range(9)], batcher.health.state, batcher.stats.restarts)

logging.basicConfig(format="%(message)s")
deny("setpriority")
asyncio.run(main())
"""


@linux
def test_where_the_system_denies_a_lower_priority_threads_keep_theirs() -> None:
    done = subprocess.run([sys.executable, "-c", _DENIED], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("]") == ["[0, 1, 2, 3, 4, 5, 6, 7, 8", " ok 0\n"]
    [line] = done.stderr.splitlines()
    assert line.startswith("the threads of x keep the event loop's priority, lowering it is denied: [Errno 1]")
