"""Whatever a runtime does, only the culprit is hurt, the worker goes on, and health tells the truth."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import pytest

from service.batching import (
    Batcher,
    ClosedError,
    RunError,
)
from tests.service.batching.fakes import Counting, Poisonable, PoisonError, Runtime, ready


def test_only_the_culprit_gets_the_error_of_a_failed_batch() -> None:
    async def main() -> None:
        runtime = Poisonable(held=True)
        async with Batcher(runtime, name="x") as batcher:
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


def test_a_lone_item_that_fails_is_not_tried_twice() -> None:
    async def main() -> None:
        runtime = Poisonable()
        async with Batcher(runtime, name="x") as batcher:
            with pytest.raises(PoisonError):
                await batcher.submit(-1)
        assert runtime.batches == [[-1]]

    asyncio.run(main())


def test_an_error_in_place_of_a_result_costs_its_neighbours_nothing() -> None:
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


def test_a_wrong_number_of_results_says_so() -> None:
    def run(items: Sequence[int]) -> list[int]:
        return [1, 2]

    async def main() -> None:
        async with Batcher(run, name="x") as batcher:
            with pytest.raises(RunError, match="run returned 2 results for 1 items"):
                await batcher.submit(1)

    asyncio.run(main())


def test_where_one_of_several_fails_the_others_are_cancelled() -> None:
    async def main() -> None:
        runtime, observer = Poisonable(held=True), Counting()
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
def test_the_worker_survives_what_would_end_a_thread(fatal: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    runtime, observer = Runtime(), Counting()
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


@pytest.mark.parametrize("error", [StopIteration(), MemoryError(), ClosedError("theirs"), TimeoutError()])
def test_any_exception_reaches_its_caller_and_no_further(error: Exception) -> None:
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


def test_a_hung_runtime_is_seen_and_recovers() -> None:
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


def test_what_went_wrong_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with Batcher(Poisonable(), name="x", max_delay=60.0, max_batch=2) as batcher:
            await asyncio.gather(batcher.submit(1), batcher.submit(-1), return_exceptions=True)

    with caplog.at_level(logging.WARNING):
        asyncio.run(main())
    assert "a batch of 2 failed in x, its items run alone" in caplog.text
