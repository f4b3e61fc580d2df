"""The Redis store: who may write and resume a session, and the keys of its tokens."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from service.streams.store.redis import check_url
from service.streams.tokens import Claim, Tokens, new_session
from tests.redis_servers import RedisProcess
from tests.service.streams.store.replicas import Replica, replica, state, two
from tests.waiting import until


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
