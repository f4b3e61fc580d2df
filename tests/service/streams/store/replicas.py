"""Servers' stores in one Redis, with counts of what they report."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from service.streams.store.base import StoredState, StoreObserver
from service.streams.store.redis import RedisStore
from service.streams.tokens import Tokens
from tests.redis_servers import RedisProcess


class Counts(StoreObserver):
    """Counts what a store reports."""

    def __init__(self) -> None:
        self.up: bool | None = None
        self.states = {"kept": 0, "refused": 0, "failed": 0}
        self.most_waiting = 0

    def reached(self, up: bool) -> None:
        self.up = up

    def wrote(self, outcome: str, states: int) -> None:
        self.states[outcome] += states

    def waiting(self, states: int) -> None:
        self.most_waiting = max(self.most_waiting, states)


class Replica(RedisStore):
    """A server's store and its counts. lost: the sessions that other servers have claimed."""

    def __init__(self, url: str, tokens: Tokens | None = None) -> None:
        self.counts = Counts()
        self.lost: list[tuple[str, int]] = []
        super().__init__(url, tokens=tokens, observer=self.counts)


@asynccontextmanager
async def replica(redis: RedisProcess, tokens: Tokens | None = None) -> AsyncIterator[Replica]:
    store = Replica(redis.url, tokens)
    await store.start(lambda session, generation: store.lost.append((session, generation)))
    try:
        yield store
    finally:
        await store.close()


def two(redis: RedisProcess, scenario: Callable[[Replica, Replica], Awaitable[None]]) -> None:
    """Run a scenario with two replicas."""

    async def whole() -> None:
        async with replica(redis) as a, replica(redis) as b:
            await scenario(a, b)

    asyncio.run(whole())


def state(data: bytes, generation: int = 1, sequence: int = 0) -> StoredState:
    return StoredState(generation, sequence, data)
