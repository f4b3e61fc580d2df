"""Faults of a runtime: only the culprit fails, the worker goes on, and health is reported correctly."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest

from service.batching import Batcher, ClosedError, RunError
from tests.service.batching.fakes import Poisonable, PoisonError, RecordingObserver, Runtime, ready, stopped_clock

linux = pytest.mark.skipif(sys.platform != "linux", reason="only on Linux do threads have a priority of their own")


def test_only_the_culprit_gets_the_error_of_a_failed_batch() -> None:
    async def main() -> None:
        runtime = Poisonable(held=True)
        async with Batcher(runtime, name="x", clock=stopped_clock) as batcher:
            first = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            tasks = [asyncio.create_task(batcher.submit(item)) for item in (1, -2, 3)]
            await ready()
            runtime.release()
            await first
            good, bad, fine = await asyncio.gather(*tasks, return_exceptions=True)
        assert not isinstance(good, BaseException)
        assert (good.value, good.batch) == (2, 1)
        assert isinstance(bad, PoisonError)
        assert not isinstance(fine, BaseException)
        assert runtime.batches == [[0], [1, -2, 3], [1], [-2], [3]]

    asyncio.run(main())


def test_a_single_item_that_fails_is_not_retried() -> None:
    async def main() -> None:
        runtime = Poisonable()
        async with Batcher(runtime, name="x") as batcher:
            with pytest.raises(PoisonError):
                await batcher.submit(-1)
        assert runtime.batches == [[-1]]

    asyncio.run(main())


def test_an_error_returned_for_one_item_does_not_affect_the_others() -> None:
    runs: list[int] = []

    def run(items: Sequence[int]) -> list[int | BaseException]:
        runs.append(len(items))
        return [PoisonError() if item < 0 else item for item in items]

    async def main() -> None:
        async with Batcher(run, name="x", max_delay=60.0, max_batch=3) as batcher:
            one, two, three = await asyncio.gather(*map(batcher.submit, (1, -2, 3)), return_exceptions=True)
        assert not isinstance(one, BaseException)
        assert isinstance(two, PoisonError)
        assert not isinstance(three, BaseException)
        assert runs == [3]

    asyncio.run(main())


def test_a_wrong_number_of_results_is_reported() -> None:
    def run(items: Sequence[int]) -> list[int]:
        return [1, 2]

    async def main() -> None:
        async with Batcher(run, name="x") as batcher:
            with pytest.raises(RunError, match="run returned 2 results for 1 items"):
                await batcher.submit(1)

    asyncio.run(main())


def test_if_one_item_of_a_call_fails_the_others_are_cancelled() -> None:
    async def main() -> None:
        runtime, observer = Poisonable(held=True), RecordingObserver()
        async with Batcher(runtime, name="x", max_batch=1, observer=observer) as batcher:
            frame = asyncio.create_task(batcher.submit_all([1, -2, 3, 4]))
            await runtime.entered()
            runtime.release()
            with pytest.raises(PoisonError):
                await frame
            assert batcher.stats.waiting_items == 0
        assert observer.count("failed") == 1
        assert observer.count("cancelled") == 2

    asyncio.run(main())


@pytest.mark.parametrize("fatal", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()])
def test_the_worker_survives_exceptions_that_would_end_a_thread(
    fatal: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    runtime, observer = Runtime(), RecordingObserver()
    raised: list[BaseException] = []

    def run(items: Sequence[int]) -> list[int | BaseException]:
        results = runtime(items)
        if not raised:
            raised.append(fatal)
            raise fatal
        return results

    async def main() -> None:
        async with Batcher(run, name="x", observer=observer) as batcher:
            with pytest.raises(RunError, match=type(fatal).__name__) as error:
                await batcher.submit(1)
            assert error.value.__cause__ is fatal
            assert (await batcher.submit(2)).value == 4
            assert batcher.health.ok
            assert batcher.stats.restarts == 1
        assert runtime.threads[0] is not runtime.threads[1]
        assert observer.count("restarted") == 1

    asyncio.run(main())
    assert "a thread of x is replaced" in caplog.text


@pytest.mark.parametrize("error", [StopIteration(), MemoryError(), ClosedError("raised by run"), TimeoutError()])
def test_any_exception_reaches_only_its_caller(error: Exception) -> None:
    def run(items: Sequence[int]) -> list[int]:
        if items[0] < 0:
            raise error
        return list(items)

    async def main() -> None:
        async with Batcher(run, name="x") as batcher:
            with pytest.raises((type(error), RunError)):
                await batcher.submit(-1)
            assert (await batcher.submit(1)).value == 1
            assert batcher.stats.restarts == 0

    asyncio.run(main())


def test_a_hung_runtime_is_reported_and_recovers() -> None:
    now = 0.0

    async def main() -> None:
        nonlocal now
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="x", hang_after=5.0, clock=lambda: now) as batcher:
            assert batcher.health.ok
            stuck = asyncio.create_task(batcher.submit(0))
            await runtime.entered()
            now = 5.0
            assert batcher.health.ok
            now = 5.1
            assert batcher.health.state == "hung"
            assert "a batch of 1 for 5.1 s" in batcher.health.detail
            runtime.release()
            await stuck
            assert batcher.health.ok

    asyncio.run(main())


def test_a_failed_batch_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Batcher(Poisonable(), name="x", max_delay=60.0, max_batch=2) as batcher:
            await asyncio.gather(batcher.submit(1), batcher.submit(-1), return_exceptions=True)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "a batch of 2 failed in x, its items run alone" in caplog.text


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
def test_if_the_system_denies_a_lower_priority_threads_keep_theirs() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DENIED], capture_output=True, encoding="utf-8", timeout=60, check=True
    )
    assert done.stdout.split("]") == ["[0, 1, 2, 3, 4, 5, 6, 7, 8", " ok 0\n"]
    [line] = done.stderr.splitlines()
    assert line.startswith("the threads of x keep the event loop's priority, lowering it is denied: [Errno 1]")
