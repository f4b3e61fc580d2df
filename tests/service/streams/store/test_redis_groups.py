"""Groups of streams on two servers share people and ids by a real Redis, whatever is in it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from redis import Redis

from engines.skeletons import COCO_17
from service.streams.groups import ID_BLOCK, MOST_PEOPLE, AbsentPerson, Group, GroupKey, Groups
from service.streams.store.redis_groups import RedisGroups
from service.tracking_workers.state import TrackingOptions
from tests.redis_servers import RedisProcess

OPTIONS = TrackingOptions(grouped=True)
KEY = GroupKey.of("client a", "hall", COCO_17, OPTIONS)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as running:
        yield running


@asynccontextmanager
async def servers(redis: RedisProcess, *keys: GroupKey) -> AsyncIterator[list[tuple[RedisGroups, Group]]]:
    """Servers with a stream of a group each."""
    with Redis.from_url(redis.url) as client:
        client.flushall()
    opened = []
    for key in keys:
        groups = Groups(shared=True)
        member = groups.join(key, OPTIONS)
        opened.append((RedisGroups(redis.url, groups), member.__enter__().group, member))
    try:
        yield [(store, group) for store, group, _ in opened]
    finally:
        for store, _, member in opened:
            member.__exit__(None, None, None)
            await store.close()


def person(number: int, keep: float = 60.0) -> AbsentPerson:
    now = time.monotonic()
    return AbsentPerson(number, 2.5, now - 1, now + keep, bytes(range(4 * 17)))


def test_people_and_ids_are_shared(redis: RedisProcess) -> None:
    async def scenario() -> None:
        async with servers(redis, KEY, KEY) as [(one, first), (other, second)]:
            for store in (one, other):
                await store.exchange()
            assert (first.take_ids(1), second.take_ids(1)) == (1, 2 * ID_BLOCK + 1)
            first.add(person(7))
            for store in (one, other, one):
                await store.exchange()
            assert second.people.keys() == first.people.keys() == {7}
            got = second.people[7]
            assert (got.known_s, got.looks) == (2.5, person(7).looks)
            assert got.left == pytest.approx(first.people[7].left, abs=1)
            second.remove(7)
            for store in (other, one):
                await store.exchange()
            assert not first.people
            first.add(person(8, keep=0.3))
            await one.exchange()
            await asyncio.sleep(0.5)
            await other.exchange()
            assert not second.people

    asyncio.run(scenario())


def test_other_clients_and_groups_are_apart_and_people_are_bounded(redis: RedisProcess) -> None:
    async def scenario() -> None:
        keys = KEY, GroupKey.of("client b", "hall", COCO_17, OPTIONS), GroupKey.of("client a", "yard", COCO_17, OPTIONS)
        async with servers(redis, *keys) as opened:
            for number in range(1, MOST_PEOPLE + 9):
                opened[0][1].add(person(number))
            for store, _ in opened:
                await store.exchange()
            assert [len(group.people) for _, group in opened] == [MOST_PEOPLE, 0, 0]
            with Redis.from_url(redis.url) as client:
                names = client.keys("*")
                assert not any(b"hall" in name or b"client" in name for name in names)
                assert all(client.ttl(name) > 0 for name in names)

    asyncio.run(scenario())


def test_garbage_in_redis_is_dropped(redis: RedisProcess) -> None:
    async def scenario() -> None:
        async with servers(redis, KEY, KEY) as [(one, first), (other, second)]:
            first.add(person(7))
            await one.exchange()
            with Redis.from_url(redis.url) as client:
                for name in client.keys("*"):
                    if client.type(name) == b"hash":
                        for member, value in {
                            "x": "1:2:3",
                            "9": "garbage",
                            "10": "1:99999999999999:" + "y" * 50,
                            "11": "1:99999999999999:" + "z" * 500,
                            "version": "",
                        }.items():
                            client.hset(name, member, value)
                    else:
                        client.set(name, "many")
            await other.exchange()
            assert second.people.keys() == {7}
            assert second.take_ids(500) is None
            await other.exchange()
            assert (second.take_ids(500) or 0) >= 500
            with Redis.from_url(redis.url) as client:
                for name in client.keys("*"):
                    client.delete(name)
                    client.lpush(name, "a list")
            first.add(person(8))
            for store in (one, other):
                await store.exchange()
            assert 8 in second.people
            assert not second.alone

    asyncio.run(scenario())


def test_without_redis_a_group_goes_on_alone(redis: RedisProcess) -> None:
    async def scenario() -> None:
        async with servers(redis, KEY) as [(one, first)]:
            redis.kill()
            first.add(person(7))
            await one.exchange()
            assert first.alone
            assert (first.take_ids(1) or 0) >= 2**31
            redis.start()
            await one.exchange()
            assert not first.alone
            assert not first.added

    asyncio.run(scenario())
