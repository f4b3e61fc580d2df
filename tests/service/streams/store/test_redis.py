"""The Redis store with a real Redis that goes away, hangs, loses its data and comes back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from service.streams.store.base import StoreAwayError, StoredState, StoreObserver
from service.streams.store.redis import RedisStore, check_url
from service.streams.tokens import Claim, Tokens, new_session
from service.tracking_workers.codec import StateError
from tests.redis_servers import RedisProcess
from tests.waiting import until


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


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[RedisProcess]:
    """A Redis of the test's own, which it may break."""
    with RedisProcess(tmp_path) as running:
        yield running


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


def test_a_replica_can_claim_the_states_of_another(redis: RedisProcess) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        a.keep("plain", state(b"\x00\xff", sequence=7), 30)
        await a.flush(5)
        assert await b.claim("plain", 30) == state(b"\x00\xff", generation=2, sequence=7)
        assert await b.claim("unknown", 30) is None

    two(redis, scenario)


def test_a_claimed_state_can_be_claimed_again_if_its_holder_dies_at_once(redis: RedisProcess) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        a.keep("orphan", state(b"x"), 30)
        await a.flush(5)
        assert await b.claim("orphan", 30) == state(b"x", generation=2)
        assert await a.claim("orphan", 30) == state(b"x", generation=3)

    two(redis, scenario)


def test_a_replica_that_was_frozen_cannot_undo_later_writes_of_another(redis: RedisProcess) -> None:
    async def scenario(frozen: Replica, other: Replica) -> None:
        frozen.keep("fenced", state(b"before", sequence=5), 30)
        await frozen.flush(5)
        claimed = await other.claim("fenced", 30)
        assert claimed is not None
        other.keep("fenced", state(b"since", claimed.generation, sequence=6), 30)
        await other.flush(5)
        frozen.keep("fenced", state(b"woken up", sequence=900), 30)
        await frozen.flush(5)
        assert frozen.lost == [("fenced", 1)]
        assert frozen.counts.states["refused"] == 1
        assert other.lost == []
        kept = await frozen.claim("fenced", 30)
        assert kept is not None
        assert kept.data == b"since"

    two(redis, scenario)


def test_the_old_holder_loses_a_session_before_the_new_one_stores_a_state(redis: RedisProcess) -> None:
    async def scenario(old: Replica, new: Replica) -> None:
        old.keep("early", state(b"one"), 30)
        await old.flush(5)
        await new.claim("early", 30)
        old.keep("early", state(b"two", sequence=1), 30)
        await old.flush(5)
        assert old.lost == [("early", 1)]

    two(redis, scenario)


def test_within_a_generation_the_state_of_the_later_result_is_kept(redis: RedisProcess) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        a.keep("late", state(b"newer", sequence=9), 30)
        await a.flush(5)
        b.keep("late", state(b"older", sequence=8), 30)
        await b.flush(5)
        kept = await a.claim("late", 30)
        assert kept is not None
        assert kept.data == b"newer"

    two(redis, scenario)


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


def test_the_newest_states_of_many_sessions_are_written_together(redis: RedisProcess) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        for sequence in range(3):
            for n in range(200):
                a.keep(f"s{n}", state(b"%d" % sequence, sequence=sequence), 30)
        assert a.counts.most_waiting == 200
        await a.flush(5)
        assert a.counts.states["kept"] == 200
        for n in (0, 99, 199):
            kept = await b.claim(f"s{n}", 30)
            assert kept is not None
            assert kept.data == b"2"

    two(redis, scenario)


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


def test_replicas_without_a_key_agree_on_one_and_still_read_older_tokens(mortal: RedisProcess) -> None:
    async def scenario() -> None:
        first, second = Tokens("", 30), Tokens("", 30)
        claim = Claim(new_session(), 3)
        early = second.make(claim)
        async with replica(mortal, first), replica(mortal, second):
            assert second.read(first.make(claim)) == first.read(second.make(claim)) == claim
            assert second.read(early) == claim
            mortal.kill()
            mortal.start()  # it has lost the key, and they have not
            third = Tokens("", 30)
            await asyncio.sleep(0)
            async with replica(mortal, third):
                pass
            await until(lambda: third.key in (first.key, second.key))

    asyncio.run(scenario())


def test_a_configured_key_is_not_stored_in_redis(mortal: RedisProcess) -> None:
    async def scenario() -> None:
        async with replica(mortal), Redis.from_url(mortal.url) as client:
            assert await client.keys("*") == []

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


def test_older_servers_and_this_one_read_each_others_states(redis: RedisProcess) -> None:
    async def scenario(a: Replica, b: Replica) -> None:
        key = "posewire:session:upgraded"
        async with Redis.from_url(redis.url) as client:
            await client.hset(key, mapping={"generation": "3", "sequence": "9", "state": b"old"})
            assert await a.claim("upgraded", 30) == state(b"old", generation=4, sequence=9)
            a.keep("upgraded", state(b"new", generation=4, sequence=10), 30)
            await a.flush(5)
            assert await client.hmget(key, "generation", "sequence", "state") == [b"4", b"10", b"new"]
            await client.hset(key, mapping={"generation": "5", "sequence": "11", "state": b"old again"})
            await client.hset(key, "dated", "10:1")  # of the state before
            kept = await b.claim("upgraded", 30)
        assert kept is not None
        assert kept.age == 0

    two(redis, scenario)


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


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://user:secret@localhost", "redis://, rediss://, unix://"),
        ("localhost:6379", "redis://, rediss://, unix://"),
        ("redis://localhost:port", "Port could not be cast"),
        ("redis://localhost?colour=red", "an option that is not known"),
    ],
)
def test_other_urls_are_refused_without_showing_their_passwords(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refusal:
        check_url(url)
    assert "secret" not in str(refusal.value)


def test_urls_of_a_redis_are_accepted() -> None:
    for url in ("redis://localhost:6379/0", "rediss://user:secret@redis.example/1", "unix:///run/redis.sock"):
        check_url(url)
