"""One frame waits, the newest, and what was passed over is counted."""

from __future__ import annotations

import asyncio

from service.streams.mailbox import Letter, Mailbox


def test_the_newest_frame_wins_and_says_how_many_it_passed() -> None:
    async def story() -> list[Letter]:
        mailbox = Mailbox()
        assert [mailbox.put(data, arrived) for data, arrived in ((b"a", 1.0), (b"b", 2.0), (b"c", 3.0))] == [0, 1, 1]
        first = await mailbox.take()
        assert mailbox.put(b"d", 4.0) == 0
        return [first, await mailbox.take()]

    assert asyncio.run(story()) == [Letter(2, b"c", 3.0, dropped=2), Letter(3, b"d", 4.0, dropped=0)]


def test_an_empty_mailbox_makes_who_takes_wait() -> None:
    async def story() -> bytes:
        mailbox = Mailbox()
        taking = asyncio.create_task(mailbox.take())
        await asyncio.sleep(0)
        assert not taking.done()
        mailbox.put(b"late", 1.0)
        return (await taking).data

    assert asyncio.run(story()) == b"late"


def test_who_stops_waiting_takes_nothing_with_him() -> None:
    async def story() -> Letter:
        mailbox = Mailbox()
        taking = asyncio.create_task(mailbox.take())
        await asyncio.sleep(0)
        taking.cancel()
        mailbox.put(b"frame", 1.0)
        await asyncio.gather(taking, return_exceptions=True)
        return await mailbox.take()

    assert asyncio.run(story()).data == b"frame"
