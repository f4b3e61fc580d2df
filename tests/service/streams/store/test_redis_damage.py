"""The Redis store: damaged data costs only the session that it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest
from redis.asyncio import Redis

from service.streams.tokens import Tokens
from service.tracking_workers.codec import StateError
from tests.redis_servers import RedisProcess
from tests.service.streams.store.replicas import Replica, replica, state, two


async def _set_field(client: Redis, key: str, *, name: str, value: str) -> None:
    await client.hset(key, name, value)


async def _replace(client: Redis, key: str, put: Callable[..., Awaitable[object]], value: object) -> None:
    await client.delete(key)
    await put(key, value)


GARBAGE: dict[str, Callable[[Redis, str], Awaitable[object]]] = {
    **{
        f"{name} {value[:12]}": partial(_set_field, name=name, value=value)
        for name in ("generation", "sequence")
        for value in ("", "abc", "1.5", "-1", "nan", "inf", "0x10", " 1", "9" * 30, str(2**63 - 1), "1" * 100_000)
    },
    "generation missing": lambda client, key: client.hdel(key, "generation"),
    "sequence missing": lambda client, key: client.hdel(key, "sequence"),
    "a state of 50 MB": lambda client, key: client.hset(key, "state", b"P" * 50_000_000),
    "a string": lambda client, key: client.set(key, "x"),
    "a list": lambda client, key: _replace(client, key, client.rpush, "x"),
    "a set": lambda client, key: _replace(client, key, client.sadd, "x"),
    "a stream": lambda client, key: _replace(client, key, client.xadd, {"a": "x"}),
    "a sorted set": lambda client, key: _replace(client, key, client.zadd, {"x": 1}),
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_costs_only_its_session_until_the_next_state_is_stored(redis: RedisProcess, what: str) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        key = "posewire:session:hurt"
        async with Redis.from_url(redis.url) as client:
            await client.delete(key)
            a.keep("hurt", state(b"x", sequence=3), 30)
            a.keep("well", state(b"y"), 30)
            await a.flush(5)
            await GARBAGE[what](client, key)
            with pytest.raises(StateError, match="in Redis, it"):
                await b.claim("hurt", 30)
            a.keep("hurt", state(b"z", sequence=4), 30)
            a.keep("well", state(b"y", sequence=1), 30)
            await a.flush(5)
            assert a.counts.states == {"kept": 4, "refused": 0, "failed": 0}
            assert a.lost == []
            assert a.counts.up is True
            assert b.counts.up is True
            assert await b.claim("hurt", 30) == state(b"z", generation=2, sequence=4)
            assert (await b.claim("well", 30) or state(b"")).data == b"y"
            await client.delete(key, "posewire:session:well")

    two(redis, scenario)


def test_a_missing_state_is_empty(redis: RedisProcess) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        a.keep("stateless", state(b"x"), 30)
        await a.flush(5)
        async with Redis.from_url(redis.url) as client:
            await client.hdel("posewire:session:stateless", "state")
        assert await b.claim("stateless", 30) == state(b"", generation=2)

    two(redis, scenario)


def test_a_state_that_redis_refuses_is_given_up_and_costs_no_other(
    redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(a: Replica, _: Replica) -> None:
        for n in range(70):
            a.keep(f"batch{n}", state(b"x"), 30)
        a.keep("batch7", state(b"x"), 1e30)  # longer than Redis can keep anything
        await a.flush(5)
        assert a.counts.states == {"kept": 69, "refused": 0, "failed": 1}
        assert a.counts.up is True

    two(redis, scenario)
    assert "Redis did not take the state of a stream: it refused a command" in caplog.text


@pytest.mark.parametrize("garbage", ["", "short", "x" * 33, "x" * 1_000_000, ["a", "list"]], ids=lambda g: str(g)[:8])
def test_garbage_in_place_of_the_key_is_replaced(mortal: RedisProcess, garbage: str | list[str]) -> None:
    async def scenario() -> None:
        async with Redis.from_url(mortal.url) as client:
            if isinstance(garbage, list):
                await client.rpush("posewire:resume-key", *garbage)
            else:
                await client.set("posewire:resume-key", garbage)
        first, second = Tokens("", 30), Tokens("", 30)
        async with replica(mortal, first) as a, replica(mortal, second):
            assert a.counts.up is True
            assert first.key == second.key
            assert len(first.key) == 32

    asyncio.run(scenario())
