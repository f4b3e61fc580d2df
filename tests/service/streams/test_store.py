"""The state of streams whose clients have left, in the memory of the process: bounded, and not for ever."""

from __future__ import annotations

import asyncio

from service.streams.store import MemoryStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_state_is_taken_once() -> None:
    async def story() -> list[bytes | None]:
        store = MemoryStore()
        await store.put("a", b"one", 30)
        await store.put("a", b"two", 30)
        return [await store.take("b"), await store.take("a"), await store.take("a")]

    assert asyncio.run(story()) == [None, b"two", None]


def test_a_state_expires_and_is_reaped() -> None:
    async def story() -> None:
        clock = Clock()
        store = MemoryStore(clock=clock)
        await store.put("short", b"s", 10)
        await store.put("long", b"l", 30)
        await store.put("missed", b"m", 10)
        clock.now = 9.9
        assert await store.reap() == 3
        clock.now = 10
        assert await store.take("short") is None
        assert await store.reap() == 1
        assert await store.take("missed") is None
        assert await store.take("long") == b"l"

    asyncio.run(story())


def test_beyond_its_bounds_it_forgets_the_oldest() -> None:
    async def story() -> None:
        store = MemoryStore(most=3, most_bytes=10)
        for name in "abcd":
            await store.put(name, b"xx", 30)
        assert [await store.take(name) for name in "ab"] == [None, b"xx"]
        await store.put("e", b"7 bytes", 30)
        assert [await store.take(name) for name in "cde"] == [None, b"xx", b"7 bytes"]

    asyncio.run(story())


def test_a_state_larger_than_the_store_is_not_kept_and_harms_no_other() -> None:
    async def story() -> None:
        store = MemoryStore(most_bytes=10)
        await store.put("a", b"small", 30)
        await store.put("b", b"much too large", 30)
        assert await store.take("b") is None
        assert await store.take("a") == b"small"

    asyncio.run(story())
