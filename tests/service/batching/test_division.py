"""Items of several units that are divided between batches, and whose results are joined."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import pytest

from service.batching import Batcher, DeadlineExceededError, Division, Priority
from tests.service.batching.fakes import RecordingObserver, ready, stopped_clock
from tests.waiting import until


class Upper:
    """Makes words upper case, letter by letter. Blocks while it is held, and records its batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self._go = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, words: Sequence[str]) -> list[str]:
        self.batches.append(list(words))
        asyncio.run_coroutine_threadsafe(self._go.wait(), self._loop).result(10)
        if "!" in "".join(words):
            raise ValueError("no letter")
        return [word.upper() for word in words]

    async def entered(self, batches: int) -> None:
        await until(lambda: len(self.batches) >= batches)

    def release(self) -> None:
        self._go.set()


def divided(run: Upper, **options: object) -> Batcher[str, str]:
    division: Division[str, str] = Division(lambda word, units: (word[:units], word[units:]), "".join)
    given: dict[str, Any] = {"clock": stopped_clock, **options}
    return Batcher(run, name="x", cost=len, division=division, **given)


def test_a_batch_takes_the_part_that_fits_and_the_results_are_joined_in_order() -> None:
    async def main() -> None:
        run = Upper()
        run.release()
        async with divided(run, max_batch=4) as batcher:
            first = await batcher.submit("abcdefghij")
            both = await batcher.submit_all(["klm", "nopqr"])
        assert first.value == "ABCDEFGHIJ"
        assert [result.value for result in both] == ["KLM", "NOPQR"]
        assert run.batches == [["abcd"], ["efgh"], ["ij"], ["klm", "n"], ["opqr"]]

    asyncio.run(main())


def test_all_idle_workers_share_one_item() -> None:
    async def main() -> None:
        run = Upper()
        async with divided(run, workers=2) as batcher:
            word = asyncio.create_task(batcher.submit("abcdef"))
            await run.entered(2)
            run.release()
            assert (await word).value == "ABCDEF"
        assert sorted(run.batches) == [["abc"], ["def"]]

    asyncio.run(main())


def test_clients_take_turns_unit_by_unit_and_each_item_has_one_part_in_a_batch() -> None:
    async def main() -> None:
        run = Upper()
        async with divided(run, max_batch=4) as batcher:
            blocker = asyncio.create_task(batcher.submit("z"))
            await run.entered(1)
            long = asyncio.create_task(batcher.submit("abcdefgh", client="a"))
            await ready()
            short = asyncio.create_task(batcher.submit("uv", client="b"))
            await ready()
            assert batcher.stats.waiting_units == 10
            run.release()
            assert [(await word).value for word in (blocker, long, short)] == ["Z", "ABCDEFGH", "UV"]
        assert [sorted(batch) for batch in run.batches] == [["z"], ["ab", "uv"], ["cdef"], ["gh"]]

    asyncio.run(main())


def test_an_urgent_item_overtakes_the_rest_of_a_divided_one() -> None:
    async def main() -> None:
        run = Upper()
        async with divided(run, max_batch=2) as batcher:
            bulk = asyncio.create_task(batcher.submit("abcd", priority=Priority.BULK))
            await run.entered(1)
            live = asyncio.create_task(batcher.submit("x", priority=Priority.LIVE))
            await ready()
            run.release()
            assert [(await word).value for word in (bulk, live)] == ["ABCD", "X"]
        assert run.batches[1][0] == "x"

    asyncio.run(main())


def test_the_error_of_a_part_fails_its_item_once_and_no_other() -> None:
    async def main() -> None:
        run, observer = Upper(), RecordingObserver()
        run.release()
        async with divided(run, max_batch=2, observer=observer) as batcher:
            words = (batcher.submit(word) for word in ("abc", "de!f", "ghi"))
            results = await asyncio.gather(*words, return_exceptions=True)
        assert [getattr(result, "value", type(result)) for result in results] == ["ABC", ValueError, "GHI"]
        assert observer.count("failed") == 1

    asyncio.run(main())


def test_the_rest_of_an_item_does_not_run_after_its_deadline() -> None:
    now = [0.0]

    async def main() -> None:
        run = Upper()
        async with divided(run, max_batch=2, clock=lambda: now[0]) as batcher:
            word = asyncio.create_task(batcher.submit("abcd", deadline=5.0))
            await run.entered(1)
            now[0] = 6.0
            run.release()
            with pytest.raises(DeadlineExceededError):
                await word
        assert list(map(itemgetter(0), run.batches)) == ["ab"]

    asyncio.run(main())
