"""The memory store is bounded, and its states expire."""

from __future__ import annotations

import asyncio

from service.streams.store.base import StoredState
from service.streams.store.memory import MemoryStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def state(data: bytes, generation: int = 1, sequence: int = 0) -> StoredState:
    return StoredState(generation, sequence, data)


def claim(store: MemoryStore, session: str) -> bytes | None:
    kept = asyncio.run(store.claim(session, 30))
    return None if kept is None else kept.data


def test_a_state_is_claimed_once_under_the_next_generation() -> None:
    store = MemoryStore()
    store.keep("a", state(b"one"), 30)
    store.keep("a", state(b"two", generation=2, sequence=5), 30)
    assert claim(store, "b") is None
    assert asyncio.run(store.claim("a", 30)) == state(b"two", generation=3, sequence=5)
    assert claim(store, "a") is None


def test_an_older_state_does_not_replace_a_newer_one() -> None:
    store = MemoryStore()
    store.keep("a", state(b"new", generation=2, sequence=1), 30)
    store.keep("a", state(b"late", generation=1, sequence=9), 30)
    store.keep("a", state(b"earlier", generation=2, sequence=0), 30)
    assert claim(store, "a") == b"new"


def test_a_stored_state_ages() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    store.keep("a", StoredState(1, 0, b"x", age=2.0), 30)
    clock.now = 3.5
    assert [kept.age for _, kept, _ in store] == [5.5]
    kept = asyncio.run(store.claim("a", 30))
    assert kept is not None
    assert kept.age == 5.5


def test_a_state_expires_and_is_reaped() -> None:
    clock = Clock()
    store = MemoryStore(clock=clock)
    store.keep("short", state(b"s"), 10)
    store.keep("long", state(b"l"), 30)
    store.keep("missed", state(b"m"), 10)
    clock.now = 9.9
    assert asyncio.run(store.reap()) == 3
    clock.now = 10
    assert claim(store, "short") is None
    assert asyncio.run(store.reap()) == 1
    assert claim(store, "missed") is None
    assert claim(store, "long") == b"l"


def test_beyond_its_bounds_the_oldest_states_are_removed() -> None:
    store = MemoryStore(most=3, most_bytes=10)
    for name in "abcd":
        store.keep(name, state(b"xx"), 30)
    assert [claim(store, name) for name in "ab"] == [None, b"xx"]
    store.keep("e", state(b"7 bytes"), 30)
    assert [claim(store, name) for name in "cde"] == [None, b"xx", b"7 bytes"]


def test_a_state_larger_than_the_store_is_not_kept_and_removes_no_other() -> None:
    store = MemoryStore(most_bytes=10)
    store.keep("a", state(b"small"), 30)
    store.keep("b", state(b"much too large"), 30)
    assert claim(store, "b") is None
    assert claim(store, "a") == b"small"
