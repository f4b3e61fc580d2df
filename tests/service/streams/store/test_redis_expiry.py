"""The Redis store: how long states are kept, and how old they are."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from service.streams.store.base import StoredState
from tests.redis_servers import RedisProcess
from tests.service.streams.store.replicas import Replica, state, two


def test_states_expire_in_redis_and_large_ones_are_not_written(redis: RedisProcess) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        a.keep("short", state(b"x"), 0.05)
        a.keep("not at all", state(b"x"), 0)
        a.keep("huge", state(bytes(1_000_001)), 30)
        await a.flush(5)
        await asyncio.sleep(0.1)
        for session in ("short", "not at all", "huge"):
            assert await b.claim(session, 30) is None
        async with Redis.from_url(redis.url) as client:
            left = [await client.pttl(key) for key in await client.keys("posewire:session:*")]
        assert all(0 < milliseconds <= 30_000 for milliseconds in left)

    two(redis, scenario)


def test_the_age_of_a_state_does_not_depend_on_the_clocks_of_servers(redis: RedisProcess) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        a.keep("aged", StoredState(1, 0, b"x", age=4.0), 30)
        await a.flush(5)
        await asyncio.sleep(0.3)
        kept = await b.claim("aged", 30)
        assert kept is not None
        assert 4.3 <= kept.age < 6

    two(redis, scenario)


@pytest.mark.parametrize("dated", ["", "x", "7:x", "8:1", "7:-5", "7:" + "9" * 400, "7:99999999999999"])
def test_a_state_with_another_states_date_has_age_0(redis: RedisProcess, dated: str) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        a.keep("odd", state(b"x", sequence=7), 30)
        await a.flush(5)
        async with Redis.from_url(redis.url) as client:
            await client.hset("posewire:session:odd", "dated", dated)
            kept = await b.claim("odd", 30)
            await client.delete("posewire:session:odd")
        assert kept is not None
        assert kept.age == 0

    two(redis, scenario)


def test_the_age_of_a_state_is_at_most_the_time_it_is_kept(redis: RedisProcess) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        a.keep("old", state(b"x", sequence=7), 30)
        await a.flush(5)
        async with Redis.from_url(redis.url) as client:
            await client.hset("posewire:session:old", "dated", "7:5")
        kept = await b.claim("old", 30)
        assert kept is not None
        assert kept.age == 30

    two(redis, scenario)
