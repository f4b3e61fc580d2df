"""Lockstep: the batches are the same however long each member takes to arrive."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from service.batching import LockstepBatcher, run_in_lockstep
from tests.service.batching.fakes import Poisonable, PoisonError, Runtime

Batches = list[list[int]]


async def run_members(members: Sequence[int], first: Runtime, second: Runtime, delays: random.Random) -> list[object]:
    """Each member submits its number to the first queue, and some submit two items to the second."""
    async with (
        LockstepBatcher(first, name="first", max_batch=4, workers=3) as one,
        LockstepBatcher(second, name="second", max_batch=4, workers=3) as two,
    ):

        async def go(number: int) -> list[int]:
            await asyncio.sleep(delays.uniform(0, 0.003))
            doubled = (await one.submit(number)).value
            await asyncio.sleep(delays.uniform(0, 0.003))
            items = [doubled, doubled + 1] if number % 2 else []
            return [result.value for result in await two.submit_all(items)]

        return list(await run_in_lockstep([go(number) for number in members]))


@pytest.mark.parametrize("seed", range(8))
def test_batches_are_filled_in_the_order_of_the_members_not_of_arrival(seed: int) -> None:
    first, second = Runtime(), Runtime()
    results = asyncio.run(run_members(range(7), first, second, random.Random(seed)))  # noqa: S311
    assert first.batches == [[0, 1, 2, 3], [4, 5, 6]]
    assert second.batches == [[2, 3, 6, 7], [10, 11]]
    assert results == [[], [4, 6], [], [12, 14], [], [20, 22], []]


@pytest.mark.parametrize("seed", range(4))
def test_members_at_different_queues_continue_together(seed: int) -> None:
    first, second = Runtime(), Runtime()

    async def main() -> None:
        delays = random.Random(seed)  # noqa: S311
        async with LockstepBatcher(first, name="first") as one, LockstepBatcher(second, name="second") as two:

            async def go(number: int) -> None:
                for queue in (one, two) if number % 2 else (two, one):
                    await asyncio.sleep(delays.uniform(0, 0.003))
                    await queue.submit(number)

            await run_in_lockstep([go(number) for number in range(4)])

    asyncio.run(main())
    assert (first.batches, second.batches) == ([[1, 3], [0, 2]], [[0, 2], [1, 3]])


def test_only_the_culprit_fails() -> None:
    runtime = Poisonable()
    results = asyncio.run(run_members([1, 3, -5, 7], runtime, Runtime(), random.Random(0)))  # noqa: S311
    assert isinstance(results[2], PoisonError)
    assert [results[n] for n in (0, 1, 3)] == [[4, 6], [12, 14], [28, 30]]


def test_a_caller_outside_of_a_group_does_not_wait_for_others() -> None:
    async def main() -> int:
        async with LockstepBatcher(Runtime(), name="x") as batcher:
            assert await run_in_lockstep([]) == []
            return (await batcher.submit(21)).value

    assert asyncio.run(main()) == 42


def test_a_cancelled_group_leaves_no_task_behind() -> None:
    async def main() -> int:
        runtime = Runtime(held=True)
        async with LockstepBatcher(runtime, name="x") as batcher:

            async def go(number: int) -> int:
                return (await batcher.submit(number)).value

            group = asyncio.create_task(run_in_lockstep([go(n) for n in range(3)]))
            await runtime.entered()
            group.cancel()
            with pytest.raises(asyncio.CancelledError):
                await group
            runtime.release()
            return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
