"""The Redis store with a real Redis that goes away, hangs, loses its data, refuses, and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
import traceback
from collections.abc import Awaitable, Callable

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from service.streams.store.base import StoreAwayError
from service.streams.tokens import Tokens
from service.tracking_workers.codec import StateError
from tests.redis_servers import RedisProcess
from tests.service.streams.store.replicas import Replica, replica, state
from tests.waiting import until


def test_while_redis_is_away_a_server_resumes_its_own_sessions_and_logs_once(
    mortal: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with replica(mortal) as a, replica(mortal) as b:
            mortal.kill()
            for sequence in range(5):
                a.keep("mine", state(b"%d" % sequence, sequence=sequence), 30)
                await asyncio.sleep(0.05)
            await until(lambda: a.counts.up is False)
            assert await a.claim("mine", 30) == state(b"4", generation=2, sequence=4)
            with pytest.raises(StoreAwayError, match="what servers share cannot be reached now"):
                await b.claim("mine", 30)
            mortal.start()
            await until(lambda: a.counts.up is True and a.counts.states["kept"] > 0)
            assert await b.claim("mine", 30) == state(b"4", generation=3, sequence=4)

    with caplog.at_level(logging.INFO):
        asyncio.run(scenario())
    mine = [record.message for record in caplog.records if record.name.endswith("store.redis")]
    assert sum("Redis is away" in message for message in mine) == 2  # each of the two replicas, once
    assert sum("Redis is back" in message for message in mine) == 2


def test_a_redis_that_hangs_delays_no_stream(mortal: RedisProcess) -> None:
    async def scenario() -> None:
        async with replica(mortal) as store:
            mortal.freeze()
            longest = 0.0
            for sequence in range(40):
                started = time.perf_counter()
                store.keep("s", state(b"%d" % sequence, sequence=sequence), 30)
                await asyncio.sleep(0)
                longest = max(longest, time.perf_counter() - started)
                await asyncio.sleep(0.05)
            assert store.counts.up is False
            assert store.counts.most_waiting == 1
            assert longest < 0.5  # half of the timeout of a call
            mortal.thaw()
            await until(lambda: store.counts.states["kept"] > 0)
            assert await store.claim("s", 30) == state(b"39", generation=2, sequence=39)

    asyncio.run(scenario())


def test_a_server_starts_without_redis_and_connects_later(mortal: RedisProcess) -> None:
    async def scenario() -> None:
        mortal.kill()
        async with replica(mortal) as store:
            assert store.counts.up is False
            store.keep("early", state(b"x"), 30)
            mortal.start()
            await until(lambda: store.counts.states["kept"] == 1)

    asyncio.run(scenario())


def test_a_redis_that_refuses_counts_as_away_and_the_warning_says_why(
    mortal: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with Redis.from_url(mortal.url) as client:
            await client.config_set("requirepass", "secret")
        async with replica(mortal) as store:
            assert store.counts.up is False

    asyncio.run(scenario())
    assert "not authenticated; check the user and the password in redis_url" in caplog.text


async def _out_of_memory(client: Redis) -> None:
    await client.config_set("maxmemory", "1")


async def _read_only(client: Redis) -> None:
    await client.replicaof("127.0.0.1", "1")


async def _no_permission(client: Redis) -> None:
    await client.acl_setuser("default", enabled=True, nopass=True, reset_keys=True, keys=["other:*"])


async def _no_disk(client: Redis) -> None:
    shutil.rmtree(str((await client.config_get("dir"))["dir"]))
    await client.config_set("save", "1 1")
    await client.set("something", "new")
    with contextlib.suppress(ResponseError):
        await client.bgsave()
    await until_async(lambda: _failed_to_save(client))


async def _failed_to_save(client: Redis) -> bool:
    return bool((await client.info("persistence"))["rdb_last_bgsave_status"] == "err")


async def until_async(condition: Callable[[], Awaitable[bool]]) -> None:
    stop = time.monotonic() + 20
    while not await condition():
        assert time.monotonic() < stop
        await asyncio.sleep(0.05)


REFUSALS: dict[str, tuple[Callable[[Redis], Awaitable[None]], str]] = {
    "out of memory": (_out_of_memory, "it is out of memory and takes no writes"),
    "a replica": (_read_only, "it is a replica that takes no writes"),
    "no permission": (_no_permission, "its access list does not permit"),
    "no disk": (_no_disk, "it cannot write to its disk and takes no writes"),
}


@pytest.mark.parametrize("what", REFUSALS)
@pytest.mark.parametrize("shared_key", [False, True])
def test_a_redis_that_takes_no_writes_is_logged_as_away_once_without_secrets(
    mortal: RedisProcess, caplog: pytest.LogCaptureFixture, what: str, shared_key: bool
) -> None:
    refuse, why = REFUSALS[what]
    tokens = Tokens("", 30) if shared_key else None
    texts: list[str] = []

    async def scenario() -> None:
        async with replica(mortal, tokens) as store, Redis.from_url(mortal.url) as client:
            store.keep("there", state(b"private state"), 30)
            await store.flush(5)
            await refuse(client)
            for sequence in range(6):
                store.keep("kept back", state(b"private state", sequence=sequence), 30)
                await asyncio.sleep(0.2)
            assert store.counts.up is False
            assert store.counts.most_waiting == 1
            with pytest.raises(StoreAwayError, match=why) as refusal:
                await store.claim("there", 30)
            texts.append(str(refusal.value))
            texts.append("".join(traceback.format_exception(refusal.value)))

    with caplog.at_level(logging.DEBUG):
        asyncio.run(scenario())
    mine = [record.message for record in caplog.records if record.name.endswith("store.redis")]
    assert (
        mine == [f"Redis is away ({message}): streams go on, but only here can they be resumed"]
        if (message := next((m.partition("(")[2].partition(")")[0] for m in mine), ""))
        else False
    )
    assert why in mine[0]
    for text in (caplog.text, *texts):
        assert "private state" not in text
        if tokens is not None:
            assert str(tokens.key)[2:-1] not in text
            assert tokens.key.hex() not in text


def test_a_password_is_in_no_message(mortal: RedisProcess, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> str:
        async with Redis.from_url(mortal.url) as client:
            await client.config_set("requirepass", "right")
        store = Replica(mortal.url.replace("redis://", "redis://:hunter2-wrong@"))
        await store.start(lambda *_: None)
        with pytest.raises(StoreAwayError, match="not authenticated") as refusal:
            await store.claim("s", 30)
        await store.close()
        return "".join(traceback.format_exception(refusal.value))

    with caplog.at_level(logging.DEBUG):
        trace = asyncio.run(scenario())
    assert "Redis is away (not authenticated" in caplog.text
    for text in (caplog.text, trace):
        assert "hunter2" not in text
        assert "right" not in text


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b":12\r\n" * 50,
        b"$-7\r\n" * 50,
        b"*x\r\n",
        b"*1\r\n" * 5000,
        b"\0" * 70_000,
    ],
    ids=range(7),
)
def test_another_server_in_place_of_redis_counts_as_away(answer: bytes) -> None:
    async def answerer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while await reader.read(10_000):
                writer.write(answer)
                await writer.drain()
        writer.close()

    async def scenario() -> None:
        server = await asyncio.start_server(answerer, "127.0.0.1", 0)
        async with server:
            store = Replica(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", Tokens("", 30))
            await store.start(lambda *_: None)
            assert store.counts.up is False
            with pytest.raises((StoreAwayError, StateError)):
                await store.claim("s", 30)
            await store.close()

    asyncio.run(scenario())
