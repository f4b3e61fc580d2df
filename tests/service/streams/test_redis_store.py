"""What replicas share, with a real Redis that goes away, hangs, forgets all and comes back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from service.streams.redis_store import Observer, RedisStore, check_url
from service.streams.store import Kept, StoreAwayError
from service.streams.tokens import Claim, Tokens, new_session
from tests.redis_servers import RedisProcess
from tests.waiting import until


class Counts(Observer):
    """What a store has told of itself."""

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
    """A server's store, with what it tells. lost: the sessions that others have taken over."""

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
    """A Redis of the test's own, to be maltreated."""
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


def two(redis: RedisProcess, story: Callable[[Replica, Replica], Awaitable[None]]) -> None:
    """Tell a story of two replicas."""

    async def whole() -> None:
        async with replica(redis) as a, replica(redis) as b:
            await story(a, b)

    asyncio.run(whole())


def state(data: bytes, generation: int = 1, sequence: int = 0) -> Kept:
    return Kept(generation, sequence, data)


def test_what_one_replica_keeps_another_can_claim(redis: RedisProcess) -> None:
    async def story(a: Replica, b: Replica) -> None:
        a.keep("plain", state(b"\x00\xff", sequence=7), 30)
        await a.flush(5)
        assert await b.claim("plain", 30) == state(b"\x00\xff", generation=2, sequence=7)
        assert await b.claim("nobody's", 30) is None

    two(redis, story)


def test_a_claimed_state_stays_for_the_next_if_its_holder_dies_at_once(redis: RedisProcess) -> None:
    async def story(a: Replica, b: Replica) -> None:
        a.keep("orphan", state(b"x"), 30)
        await a.flush(5)
        assert await b.claim("orphan", 30) == state(b"x", generation=2)
        assert await a.claim("orphan", 30) == state(b"x", generation=3)

    two(redis, story)


def test_a_replica_that_was_frozen_cannot_undo_what_another_has_seen_since(redis: RedisProcess) -> None:
    async def story(frozen: Replica, other: Replica) -> None:
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

    two(redis, story)


def test_before_the_new_holder_has_kept_anything_the_old_one_has_lost_already(redis: RedisProcess) -> None:
    async def story(old: Replica, new: Replica) -> None:
        old.keep("early", state(b"one"), 30)
        await old.flush(5)
        await new.claim("early", 30)
        old.keep("early", state(b"two", sequence=1), 30)
        await old.flush(5)
        assert old.lost == [("early", 1)]

    two(redis, story)


def test_within_a_generation_the_later_result_counts_whatever_comes_last(redis: RedisProcess) -> None:
    async def story(a: Replica, b: Replica) -> None:
        a.keep("late", state(b"newer", sequence=9), 30)
        await a.flush(5)
        b.keep("late", state(b"older", sequence=8), 30)
        await b.flush(5)
        kept = await a.claim("late", 30)
        assert kept is not None
        assert kept.data == b"newer"

    two(redis, story)


def test_states_expire_in_redis_and_are_written_in_bounds(redis: RedisProcess) -> None:
    async def story(a: Replica, b: Replica) -> None:
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

    two(redis, story)


def test_many_sessions_are_written_together_the_newest_of_each(redis: RedisProcess) -> None:
    async def story(a: Replica, b: Replica) -> None:
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

    two(redis, story)


def test_while_redis_is_away_a_server_resumes_its_own_and_tells_once(
    mortal: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
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
        asyncio.run(story())
    mine = [record.message for record in caplog.records if record.name.endswith("redis_store")]
    assert sum("Redis is away" in message for message in mine) == 2  # each of the two replicas, once
    assert sum("Redis is back" in message for message in mine) == 2


def test_a_redis_that_hangs_holds_up_nobody(mortal: RedisProcess) -> None:
    async def story() -> None:
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
            assert longest < 0.5  # half of what a call would have waited for an answer
            mortal.thaw()
            await until(lambda: store.counts.states["kept"] > 0)
            assert await store.claim("s", 30) == state(b"39", generation=2, sequence=39)

    asyncio.run(story())


def test_a_server_starts_without_redis_and_finds_it_later(mortal: RedisProcess) -> None:
    async def story() -> None:
        mortal.kill()
        async with replica(mortal) as store:
            assert store.counts.up is False
            store.keep("early", state(b"x"), 30)
            mortal.start()
            await until(lambda: store.counts.states["kept"] == 1)

    asyncio.run(story())


def test_replicas_without_a_key_agree_on_one_and_keep_reading_tokens_of_before(mortal: RedisProcess) -> None:
    async def story() -> None:
        first, second = Tokens("", 30), Tokens("", 30)
        claim = Claim(new_session(), 3)
        early = second.make(claim)
        async with replica(mortal, first), replica(mortal, second):
            assert second.read(first.make(claim)) == first.read(second.make(claim)) == claim
            assert second.read(early) == claim
            mortal.kill()
            mortal.start()  # it has forgotten the key, and they have not
            third = Tokens("", 30)
            await asyncio.sleep(0)
            async with replica(mortal, third):
                pass
            await until(lambda: third.key in (first.key, second.key))

    asyncio.run(story())


def test_a_key_that_was_given_is_not_put_into_redis(mortal: RedisProcess) -> None:
    async def story() -> None:
        async with replica(mortal), Redis.from_url(mortal.url) as client:
            assert await client.keys("*") == []

    asyncio.run(story())


def test_a_redis_that_refuses_is_away_and_the_warning_says_why(
    mortal: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def story() -> None:
        async with Redis.from_url(mortal.url) as client:
            await client.config_set("requirepass", "secret")
        async with replica(mortal) as store:
            assert store.counts.up is False

    asyncio.run(story())
    assert "authenticated" in caplog.text


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://user:secret@localhost", "redis://, rediss://, unix://"),
        ("localhost:6379", "redis://, rediss://, unix://"),
        ("redis://localhost:port", "Port could not be cast"),
        ("redis://localhost?colour=red", "an option that is not known"),
    ],
)
def test_what_is_no_url_of_a_redis_is_refused_without_showing_its_password(url: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as refusal:
        check_url(url)
    assert "secret" not in str(refusal.value)


def test_urls_of_a_redis_are_taken() -> None:
    for url in ("redis://localhost:6379/0", "rediss://user:secret@redis.example/1", "unix:///run/redis.sock"):
        check_url(url)
