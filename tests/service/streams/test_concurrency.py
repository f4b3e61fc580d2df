"""Streams take turns: what waits can still be replaced by something newer."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

import numpy as np
import pytest

from service.streams.concurrency import ConcurrencyLimiter, ConcurrencySlot
from service.streams.mailbox import Mailbox
from tests import instant


class Server:
    """A network of `batch` frames in 30 ms, after which each frame has a core to itself for `own` seconds."""

    def __init__(self, batch: int, own: float) -> None:
        self._batch, self._own = batch, own
        self._queue: list[asyncio.Future[None]] = []
        self._core = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None

    async def see(self) -> float:
        """The seconds of work in one frame."""
        done = asyncio.get_running_loop().create_future()
        self._queue.append(done)
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        await done
        async with self._core:
            await asyncio.sleep(self._own)
        return 0.03 + self._own

    async def _run(self) -> None:
        while self._queue:
            batch, self._queue = self._queue[: self._batch], self._queue[self._batch :]
            await asyncio.sleep(0.03)
            for done in batch:
                done.set_result(None)


async def crowd(
    server: Server, limiter: ConcurrencyLimiter | None, streams: int = 50, seconds: float = 30.0
) -> list[list[float]]:
    """The ages of the results of each stream, which sends ten frames a second."""
    clock = asyncio.get_running_loop().time

    async def send(mailbox: Mailbox, phase: float) -> None:
        await asyncio.sleep(phase)
        while True:
            mailbox.put(b"", clock())
            await asyncio.sleep(0.1)

    async def work(mailbox: Mailbox, ages: list[float]) -> None:
        while True:
            await mailbox.arrival()
            mine: AbstractAsyncContextManager[ConcurrencySlot] = (
                limiter.turn() if limiter else nullcontext(ConcurrencySlot())
            )
            async with mine as turn:
                queued = mailbox.take()
                turn.worked = await server.see()
            ages.append(clock() - queued.arrived)

    heard: list[list[float]] = [[] for _ in range(streams)]
    boxes = [Mailbox() for _ in heard]
    phases = np.random.default_rng(1).uniform(0, 0.1, streams)
    tasks = [asyncio.create_task(send(box, phase)) for box, phase in zip(boxes, phases, strict=True)]
    tasks += [asyncio.create_task(work(box, ages)) for box, ages in zip(boxes, heard, strict=True)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return heard


async def in_turn(server: Server) -> list[list[float]]:
    return await crowd(server, ConcurrencyLimiter(asyncio.get_running_loop().time))


@pytest.mark.parametrize(("batch", "own"), [(32, 0.004), (4, 0.001), (1, 0.0)])
def test_with_more_cameras_than_can_be_served_results_are_rarer_but_as_fresh(batch: int, own: float) -> None:
    jumbled = instant.run(crowd(Server(batch, own), None))
    ordered = instant.run(in_turn(Server(batch, own)))
    served, before = sum(map(len, ordered)), sum(map(len, jumbled))
    assert before < 0.6 * 50 * 300  # it is too much
    assert served > 0.97 * before  # as many results
    late, later = np.percentile(np.concatenate(ordered), 99), np.percentile(np.concatenate(jumbled), 99)
    assert late < 0.1 + 3 * (0.03 + own) < later  # a frame interval in the mailbox, and then no queue
    shares = [len(ages) / served * 50 for ages in ordered]
    assert min(shares) > 0.9
    assert max(shares) < 1.1


def test_with_room_for_all_nobody_waits() -> None:
    heard = instant.run(in_turn(Server(32, 0.0005)))
    assert sum(map(len, heard)) > 0.98 * 50 * 300
    assert np.percentile(np.concatenate(heard), 99) < 0.1


def test_turns_come_in_the_order_in_which_they_were_asked_for() -> None:
    async def story() -> list[int]:
        limiter, order = ConcurrencyLimiter(asyncio.get_running_loop().time), list[int]()

        async def look(n: int) -> None:
            async with limiter.turn():
                order.append(n)
                await asyncio.sleep(1)

        await asyncio.gather(*(look(n) for n in range(20)))
        return order

    assert instant.run(story()) == list(range(20))


def test_who_leaves_the_line_costs_nobody_a_turn() -> None:
    async def story() -> int:
        limiter, served = ConcurrencyLimiter(asyncio.get_running_loop().time), 0

        async def look() -> None:
            nonlocal served
            async with limiter.turn():
                await asyncio.sleep(1)
                served += 1

        tasks = [asyncio.create_task(look()) for _ in range(40)]
        await asyncio.sleep(1)  # those who are next were given their turn in this moment
        for task in tasks[: 3 * limiter.most]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return served

    assert instant.run(story()) >= 40 - 3 * 4


def test_frames_that_fail_teach_nothing() -> None:
    async def story() -> int:
        limiter = ConcurrencyLimiter(asyncio.get_running_loop().time)

        async def fail() -> None:
            async with limiter.turn():
                await asyncio.sleep(100)

        await asyncio.gather(*(fail() for _ in range(100)))
        return limiter.most

    assert instant.run(story()) == 4


def test_a_client_with_many_streams_has_no_more_turns_than_one_with_few() -> None:
    served: list[str] = []

    async def frame(limiter: ConcurrencyLimiter, client: str) -> None:
        async with limiter.turn(client):
            served.append(client)
            await asyncio.sleep(0.1)

    async def story() -> None:
        limiter = ConcurrencyLimiter(asyncio.get_running_loop().time)
        many = [asyncio.create_task(frame(limiter, "many")) for _ in range(20)]
        await asyncio.sleep(0)
        few = [asyncio.create_task(frame(limiter, "few")) for _ in range(3)]
        await asyncio.gather(*many, *few)

    instant.run(story())
    assert served[:4] == ["many"] * 4  # those that were under way before
    assert served[4:10].count("few") == 3
