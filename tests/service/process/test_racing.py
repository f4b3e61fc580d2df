"""Racing coroutines: the first to end decides, and the others are gone afterwards."""

from __future__ import annotations

import asyncio

import pytest

from service.process.racing import race


@pytest.mark.parametrize("fails", [False, True])
def test_the_first_decides_and_the_others_are_cancelled(fails: bool) -> None:
    cancelled = []

    async def first() -> None:
        await asyncio.sleep(0)
        if fails:
            raise ConnectionError("gone")

    async def other() -> None:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            cancelled.append("other")
            raise

    async def story() -> None:
        await race(first(), other(), asyncio.get_running_loop().create_future())

    if fails:
        with pytest.raises(ConnectionError, match="gone"):
            asyncio.run(story())
    else:
        asyncio.run(story())
    assert cancelled == ["other"]
