"""Changing workers and batch size while work arrives: nothing is lost, and nothing runs twice."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.batching import Batcher, LockstepBatcher
from tests.service.batching.fakes import Runtime, ready, stopped_clock
from tests.waiting import until


def threads_of(name: str) -> list[str]:
    """The names of the worker threads of the batcher `name`."""
    return sorted(thread.name for thread in threading.enumerate() if thread.name.startswith(f"posewire-{name}-"))


def test_more_workers_run_more_batches_at_once() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="more", max_batch=1) as batcher:
            tasks = [asyncio.create_task(batcher.submit(item)) for item in range(4)]
            await runtime.entered()
            await asyncio.to_thread(batcher.reshape, 1, (1,), 3)
            await runtime.entered(2)
            assert batcher.stats.running_batches == 3
            assert threads_of("more") == ["posewire-more-0", "posewire-more-1", "posewire-more-2"]
            runtime.release()
            assert [(await task).value for task in tasks] == [0, 2, 4, 6]
        assert not threads_of("more")

    asyncio.run(main())


def test_a_surplus_worker_ends_when_its_batch_is_done() -> None:
    async def main() -> None:
        runtime = Runtime(held=True)
        async with Batcher(runtime, name="fewer", max_batch=1, workers=3, clock=stopped_clock) as batcher:
            tasks = [asyncio.create_task(batcher.submit(item)) for item in range(5)]
            await runtime.entered(3)
            batcher.reshape(4, (1, 2, 4), 1)
            assert batcher.stats.running_batches == 3
            runtime.release()
            assert [(await task).value for task in tasks] == [0, 2, 4, 6, 8]
            await until(lambda: threads_of("fewer") == ["posewire-fewer-0"])
            assert batcher.health.ok
            assert runtime.batches[3:] == [[3, 4]]
            assert runtime.threads[3].name == "posewire-fewer-0"

            batcher.reshape(4, (1, 2, 4), 2)
            assert threads_of("fewer") == ["posewire-fewer-0", "posewire-fewer-1"]

    asyncio.run(main())


def test_idle_surplus_workers_end_at_once_and_their_restarts_stay_counted() -> None:
    fatal = threading.Semaphore(2)

    def run(items: Sequence[int]) -> Sequence[int]:
        if fatal.acquire(blocking=False):
            raise SystemExit
        return items

    async def main() -> None:
        async with Batcher(run, name="idle", max_batch=1, workers=2) as batcher:
            await asyncio.gather(*(batcher.submit(item) for item in range(2)), return_exceptions=True)
            await until(lambda: batcher.stats.restarts == 2)
            batcher.reshape(1, (1,), 1)
            await until(lambda: threads_of("idle") == ["posewire-idle-0"])
            await ready()
            assert batcher.stats.restarts == 2
            assert batcher.health.ok
            assert (await batcher.submit(7)).value == 7

    asyncio.run(main())


def test_reshaping_starts_no_threads_before_the_start_or_after_the_end() -> None:
    async def main() -> None:
        batcher = Batcher(Runtime(), name="early")
        batcher.reshape(2, (1, 2), 2)
        assert not threads_of("early")
        await batcher.start()
        assert threads_of("early") == ["posewire-early-0", "posewire-early-1"]
        await batcher.close()
        batcher.reshape(2, (1, 2), 4)
        assert not threads_of("early")

    asyncio.run(main())


def test_zero_workers_are_refused_and_the_batcher_goes_on_as_before() -> None:
    async def main() -> None:
        async with Batcher(Runtime(), name="none", workers=2) as batcher:
            with pytest.raises(ValueError, match="workers must be at least 1"):
                batcher.reshape(8, (1, 8), 0)
            assert (await batcher.submit(1)).value == 2
            assert len(threads_of("none")) == 2

    asyncio.run(main())


def test_a_lockstep_batcher_keeps_one_worker() -> None:
    async def main() -> None:
        async with LockstepBatcher(Runtime(), name="step") as batcher:
            batcher.reshape(4, (1, 2, 4), 3)
            assert threads_of("step") == ["posewire-step-0"]

    asyncio.run(main())


@dataclass(frozen=True, slots=True)
class Step:
    """A call with `items` items, followed by `pause` iterations of the event loop.

    shape: the largest batch and the number of workers to change to before the call, or None.
    """

    items: int
    pause: int
    shape: tuple[int, int] | None


steps = st.builds(
    Step,
    items=st.integers(1, 5),
    pause=st.integers(0, 3),
    shape=st.none() | st.tuples(st.integers(1, 4), st.integers(1, 4)),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(steps, min_size=1, max_size=20), st.integers(1, 4))
def test_every_item_runs_once_whatever_the_shapes(script: list[Step], workers: int) -> None:
    runs = Counter[int]()
    counting = threading.Lock()

    def run(items: Sequence[int]) -> Sequence[int]:
        with counting:
            runs.update(items)
        return items

    async def main() -> None:
        calls: list[tuple[list[int], asyncio.Task[list[int]]]] = []
        shapes: list[asyncio.Future[None]] = []

        async def call(items: list[int]) -> list[int]:
            return [result.value for result in await batcher.submit_all(items)]

        async with Batcher(run, name="x", max_batch=2, workers=workers, max_queue=1000) as batcher:
            for step in script:
                if step.shape is not None:
                    largest, count = step.shape
                    shape = asyncio.to_thread(batcher.reshape, largest, tuple(range(1, largest + 1)), count)
                    shapes.append(asyncio.ensure_future(shape))
                items = [5 * len(calls) + n for n in range(step.items)]
                calls.append((items, asyncio.create_task(call(items))))
                for _ in range(step.pause):
                    await asyncio.sleep(0)
            for items, task in calls:
                assert await task == items
            await asyncio.gather(*shapes)
            assert batcher.health.ok
            assert batcher.stats.waiting_units == 0
        assert not threads_of("x")
        assert runs == Counter(item for items, _ in calls for item in items)

    asyncio.run(main())
