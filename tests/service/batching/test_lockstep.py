"""Batches in step: the same ones however long each member takes to come."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from service.batching import SteppedBatcher, in_step
from tests.service.batching.fakes import Poisonable, PoisonError, Runtime

Batches = list[list[int]]


async def journeys(members: Sequence[int], first: Runtime, second: Runtime, delays: random.Random) -> list[object]:
    """Each member brings its number to the first queue, and some bring two items to the second."""
    async with (
        SteppedBatcher(first, name="first", max_batch=4, workers=3) as one,
        SteppedBatcher(second, name="second", max_batch=4, workers=3) as two,
    ):

        async def go(number: int) -> list[int]:
            await asyncio.sleep(delays.uniform(0, 0.003))
            doubled = (await one.submit(number)).value
            await asyncio.sleep(delays.uniform(0, 0.003))
            items = [doubled, doubled + 1] if number % 2 else []
            return [served.value for served in await two.submit_all(items)]

        return list(await in_step([go(number) for number in members]))


@pytest.mark.parametrize("seed", range(8))
def test_batches_are_filled_in_the_order_of_the_members_whoever_comes_first(seed: int) -> None:
    first, second = Runtime(), Runtime()
    results = asyncio.run(journeys(range(7), first, second, random.Random(seed)))  # noqa: S311
    assert first.batches == [[0, 1, 2, 3], [4, 5, 6]]
    assert second.batches == [[2, 3, 6, 7], [10, 11]]
    assert results == [[], [4, 6], [], [12, 14], [], [20, 22], []]


@pytest.mark.parametrize("seed", range(4))
def test_members_at_different_queues_go_on_together(seed: int) -> None:
    first, second = Runtime(), Runtime()

    async def main() -> None:
        delays = random.Random(seed)  # noqa: S311
        async with SteppedBatcher(first, name="first") as one, SteppedBatcher(second, name="second") as two:

            async def go(number: int) -> None:
                for queue in (one, two) if number % 2 else (two, one):
                    await asyncio.sleep(delays.uniform(0, 0.003))
                    await queue.submit(number)

            await in_step([go(number) for number in range(4)])

    asyncio.run(main())
    assert (first.batches, second.batches) == ([[1, 3], [0, 2]], [[0, 2], [1, 3]])


def test_a_culprit_fails_alone() -> None:
    runtime = Poisonable()
    results = asyncio.run(journeys([1, 3, -5, 7], runtime, Runtime(), random.Random(0)))  # noqa: S311
    assert isinstance(results[2], PoisonError)
    assert [results[n] for n in (0, 1, 3)] == [[4, 6], [12, 14], [28, 30]]


def test_whoever_is_in_no_group_waits_for_nobody() -> None:
    async def main() -> int:
        async with SteppedBatcher(Runtime(), name="x") as batcher:
            assert await in_step([]) == []
            return (await batcher.submit(21)).value

    assert asyncio.run(main()) == 42


def test_a_group_that_is_cancelled_leaves_nobody_behind() -> None:
    async def main() -> int:
        runtime = Runtime(held=True)
        async with SteppedBatcher(runtime, name="x") as batcher:

            async def go(number: int) -> int:
                return (await batcher.submit(number)).value

            group = asyncio.create_task(in_step([go(n) for n in range(3)]))
            await runtime.entered()
            group.cancel()
            with pytest.raises(asyncio.CancelledError):
                await group
            runtime.release()
            return len(asyncio.all_tasks())

    assert asyncio.run(main()) == 1
