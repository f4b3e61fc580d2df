"""One frame waits, the newest, and what was passed over is counted."""

from __future__ import annotations

import asyncio

from service.streams.mailbox import Mailbox, QueuedFrame


def test_the_newest_frame_wins_and_says_how_many_it_passed() -> None:
    async def story() -> list[QueuedFrame]:
        mailbox = Mailbox()
        assert [mailbox.put(data, arrived) for data, arrived in ((b"a", 1.0), (b"b", 2.0), (b"c", 3.0))] == [0, 1, 1]
        await mailbox.arrival()
        first = mailbox.take()
        assert mailbox.put(b"d", 4.0) == 0
        await mailbox.arrival()
        return [first, mailbox.take()]

    assert asyncio.run(story()) == [QueuedFrame(2, b"c", 3.0, dropped=2), QueuedFrame(3, b"d", 4.0, dropped=0)]


def test_an_empty_mailbox_makes_who_asks_wait() -> None:
    async def story() -> bytes:
        mailbox = Mailbox()
        waiting = asyncio.create_task(mailbox.arrival())
        await asyncio.sleep(0)
        assert not waiting.done()
        mailbox.put(b"late", 1.0)
        await waiting
        return mailbox.take().data

    assert asyncio.run(story()) == b"late"


def test_a_frame_that_waits_for_its_turn_can_still_be_replaced() -> None:
    async def story() -> QueuedFrame:
        mailbox = Mailbox()
        mailbox.put(b"old", 1.0)
        await mailbox.arrival()
        mailbox.put(b"new", 2.0)
        return mailbox.take()

    assert asyncio.run(story()) == QueuedFrame(1, b"new", 2.0, dropped=1)
