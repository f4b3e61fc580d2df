"""Flow control: the newest frame waits, results are bounded by acknowledgements, and frames by the limiter."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext

import numpy as np
import pytest

from service.streams.flow_control import ConcurrencyLimiter, ConcurrencySlot, Mailbox, QueuedFrame, Window
from tests import instant


def test_the_newest_frame_replaces_older_ones_and_counts_them() -> None:
    async def scenario() -> list[QueuedFrame]:
        mailbox = Mailbox()
        assert [mailbox.put(data, arrived) for data, arrived in ((b"a", 1.0), (b"b", 2.0), (b"c", 3.0))] == [0, 1, 1]
        await mailbox.arrival()
        first = mailbox.take()
        assert mailbox.put(b"d", 4.0) == 0
        await mailbox.arrival()
        return [first, mailbox.take()]

    assert asyncio.run(scenario()) == [QueuedFrame(2, b"c", 3.0, dropped=2), QueuedFrame(3, b"d", 4.0, dropped=0)]


def test_arrival_waits_while_the_mailbox_is_empty() -> None:
    async def scenario() -> bytes:
        mailbox = Mailbox()
        waiting = asyncio.create_task(mailbox.arrival())
        await asyncio.sleep(0)
        assert not waiting.done()
        mailbox.put(b"late", 1.0)
        await waiting
        return mailbox.take().data

    assert asyncio.run(scenario()) == b"late"


def test_a_frame_can_be_replaced_until_it_is_taken() -> None:
    async def scenario() -> QueuedFrame:
        mailbox = Mailbox()
        mailbox.put(b"old", 1.0)
        await mailbox.arrival()
        mailbox.put(b"new", 2.0)
        return mailbox.take()

    assert asyncio.run(scenario()) == QueuedFrame(1, b"new", 2.0, dropped=1)


def test_the_window_closes_at_its_size_and_opens_with_acknowledgements() -> None:
    async def scenario() -> None:
        window = Window(2)
        window.sent(0)
        assert window.open
        window.sent(3)  # the frames between were dropped
        assert not window.open
        waiting = asyncio.create_task(window.wait())
        await asyncio.sleep(0)
        assert not waiting.done()
        window.acknowledge(0)
        await waiting
        window.sent(4)
        assert not window.open
        window.acknowledge(4)  # includes all before it
        window.sent(5)
        assert window.open

    asyncio.run(scenario())


def test_an_older_acknowledgement_changes_nothing() -> None:
    window = Window(1)
    window.sent(0)
    window.acknowledge(0)
    window.sent(1)
    window.acknowledge(0)
    assert not window.open


def test_acknowledging_a_frame_without_a_result_is_an_error() -> None:
    window = Window(4)
    with pytest.raises(ValueError, match="frame 0 was acknowledged, but nothing was sent"):
        window.acknowledge(0)
    window.sent(7)
    with pytest.raises(ValueError, match="frame 8 was acknowledged, but the last with a result is 7"):
        window.acknowledge(8)
    with pytest.raises(ValueError, match="frame -1"):
        window.acknowledge(-1)


def test_a_window_of_0_is_always_open() -> None:
    window = Window(0)
    for number in range(1000):
        window.sent(number)
    window.acknowledge(17)
    assert window.open


class Server:
    """A network that takes 30 ms for `batch` frames, after which each frame takes one core for `own` seconds."""

    def __init__(self, batch: int, own: float) -> None:
        self._batch, self._own = batch, own
        self._queue: list[asyncio.Future[None]] = []
        self._core = asyncio.Lock()
        self._running: asyncio.Task[None] | None = None

    async def process(self) -> float:
        """Process a frame. Returns the seconds of work on it."""
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
    """Return the ages of the results of each stream, which sends ten frames a second."""
    clock = asyncio.get_running_loop().time

    async def send(mailbox: Mailbox, phase: float) -> None:
        await asyncio.sleep(phase)
        while True:
            mailbox.put(b"", clock())
            await asyncio.sleep(0.1)

    async def work(mailbox: Mailbox, ages: list[float]) -> None:
        while True:
            await mailbox.arrival()
            acquired: AbstractAsyncContextManager[ConcurrencySlot] = (
                limiter.slot() if limiter else nullcontext(ConcurrencySlot())
            )
            async with acquired as slot:
                queued = mailbox.take()
                slot.worked = await server.process()
            ages.append(clock() - queued.arrived)

    results: list[list[float]] = [[] for _ in range(streams)]
    boxes = [Mailbox() for _ in results]
    phases = np.random.default_rng(1).uniform(0, 0.1, streams)
    tasks = [asyncio.create_task(send(box, phase)) for box, phase in zip(boxes, phases, strict=True)]
    tasks += [asyncio.create_task(work(box, ages)) for box, ages in zip(boxes, results, strict=True)]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return results


async def limited(server: Server) -> list[list[float]]:
    return await crowd(server, ConcurrencyLimiter(asyncio.get_running_loop().time))


@pytest.mark.parametrize(("batch", "own"), [(32, 0.004), (4, 0.001), (1, 0.0)])
def test_with_more_cameras_than_can_be_served_results_are_rarer_but_as_fresh(batch: int, own: float) -> None:
    jumbled = instant.run(crowd(Server(batch, own), None))
    ordered = instant.run(limited(Server(batch, own)))
    served, before = sum(map(len, ordered)), sum(map(len, jumbled))
    assert before < 0.6 * 50 * 300  # the server is overloaded
    assert served > 0.97 * before  # as many results
    late, later = np.percentile(np.concatenate(ordered), 99), np.percentile(np.concatenate(jumbled), 99)
    assert late < 0.1 + 3 * (0.03 + own) < later  # a frame interval in the mailbox, and then no queue
    shares = [len(ages) / served * 50 for ages in ordered]
    assert min(shares) > 0.9
    assert max(shares) < 1.1


def test_without_overload_no_frame_waits() -> None:
    results = instant.run(limited(Server(32, 0.0005)))
    assert sum(map(len, results)) > 0.98 * 50 * 300
    assert np.percentile(np.concatenate(results), 99) < 0.1


def test_slots_are_granted_in_the_order_of_requests() -> None:
    async def scenario() -> list[int]:
        limiter, order = ConcurrencyLimiter(asyncio.get_running_loop().time), list[int]()

        async def frame(n: int) -> None:
            async with limiter.slot():
                order.append(n)
                await asyncio.sleep(1)

        await asyncio.gather(*(frame(n) for n in range(20)))
        return order

    assert instant.run(scenario()) == list(range(20))


def test_a_cancelled_frame_takes_no_slot_from_others() -> None:
    async def scenario() -> int:
        limiter, served = ConcurrencyLimiter(asyncio.get_running_loop().time), 0

        async def frame() -> None:
            nonlocal served
            async with limiter.slot():
                await asyncio.sleep(1)
                served += 1

        tasks = [asyncio.create_task(frame()) for _ in range(40)]
        await asyncio.sleep(1)  # the next frames have just been granted their slots
        for task in tasks[: 3 * limiter.limit]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return served

    assert instant.run(scenario()) >= 40 - 3 * 4


def test_failed_frames_do_not_change_the_limit() -> None:
    async def scenario() -> int:
        limiter = ConcurrencyLimiter(asyncio.get_running_loop().time)

        async def fail() -> None:
            async with limiter.slot():
                await asyncio.sleep(100)

        await asyncio.gather(*(fail() for _ in range(100)))
        return limiter.limit

    assert instant.run(scenario()) == 4


def test_a_client_with_many_streams_gets_no_more_slots_than_one_with_few() -> None:
    served: list[str] = []

    async def frame(limiter: ConcurrencyLimiter, client: str) -> None:
        async with limiter.slot(client):
            served.append(client)
            await asyncio.sleep(0.1)

    async def scenario() -> None:
        limiter = ConcurrencyLimiter(asyncio.get_running_loop().time)
        many = [asyncio.create_task(frame(limiter, "many")) for _ in range(20)]
        await asyncio.sleep(0)
        few = [asyncio.create_task(frame(limiter, "few")) for _ in range(3)]
        await asyncio.gather(*many, *few)

    instant.run(scenario())
    assert served[:4] == ["many"] * 4  # those that were under way before
    assert served[4:10].count("few") == 3


def test_a_client_does_not_wait_for_another_ones_several_frames() -> None:
    """The limit is 4. Four clients do not wait, a fifth one does, and the client with four frames gets no fifth."""

    async def scenario() -> dict[str, float]:
        loop = asyncio.get_running_loop()
        limiter, began = ConcurrencyLimiter(loop.time), dict[str, float]()

        async def frame(client: str, name: str) -> None:
            async with limiter.slot(client):
                began[name] = loop.time() - start
                await asyncio.sleep(1)

        start = loop.time()
        many = [asyncio.create_task(frame("many", f"many-{n}")) for n in range(5)]
        await asyncio.sleep(0.5)
        await asyncio.gather(*many, *(frame(f"few-{n}", f"few-{n}") for n in range(5)))
        return began

    began = instant.run(scenario())
    assert {began[f"few-{n}"] for n in range(4)} == {0.5}
    assert min(began["few-4"], began["many-4"]) >= 1.0
