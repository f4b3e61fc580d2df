"""Replicas that take and leave cameras, with their threads and a real Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager

import pytest
from redis import Redis

from service.cameras.ownership.base import LocalOwnership
from service.cameras.ownership.redis import RedisOwnership
from service.cameras.ownership.redis_lease_thread import LeaseTimes
from service.process.supervisor import Supervisor
from tests.loopback import LoopbackProxy
from tests.redis_servers import RedisProcess
from tests.waiting import until

NAMES = [f"camera-{n}" for n in range(6)]
TIMES = LeaseTimes(lease=1.0, every=0.05, timeout=0.25, hang=600)


class Keeper:
    """Knows what it serves. happened: what it was told, in order; `log` is shared by replicas."""

    def __init__(self, name: str, log: list[str]) -> None:
        self.name = name
        self.serves: dict[str, int] = {}
        self.outcomes: list[str] = []
        self.slow = asyncio.Event()
        self.slow.set()
        self._log = log

    async def take(self, name: str, generation: int) -> None:
        self._log.append(f"{self.name} takes {name}")
        assert name not in self.serves
        self.serves[name] = generation

    async def leave(self, name: str, *, lost: bool) -> None:
        await self.slow.wait()
        del self.serves[name]
        self._log.append(f"{self.name} {'loses' if lost else 'leaves'} {name}")

    def see_version(self, version: int) -> None:
        assert version == 0


class Group:
    """Replicas in one event loop."""

    def __init__(self, redis: RedisProcess) -> None:
        self.log: list[str] = []
        self._url = redis.url
        self._supervisor = Supervisor()
        self._members: list[RedisOwnership] = []

    async def join(self, name: str, cameras: Iterable[str] = NAMES, *, url: str = "") -> tuple[RedisOwnership, Keeper]:
        """url: of Redis, if this one has a way of its own to it."""
        keeper = Keeper(name, self.log)
        changed = keeper.outcomes.append
        ownership = RedisOwnership(url or self._url, name, supervisor=self._supervisor, changed=changed, times=TIMES)
        ownership.know(cameras)
        await ownership.start(keeper)
        self._members.append(ownership)
        return ownership, keeper

    async def close(self) -> None:
        for member in self._members:
            await member.close()
        await self._supervisor.close()


def run(redis: RedisProcess, story: Callable[[Group], Awaitable[None]]) -> list[str]:
    """Run a story with an empty Redis. Returns what happened until its end."""

    async def whole() -> list[str]:
        async with _group(redis) as group:
            await story(group)
            return list(group.log)

    with Redis.from_url(redis.url) as base:
        base.flushall()
    return asyncio.run(whole())


@asynccontextmanager
async def _group(redis: RedisProcess) -> AsyncIterator[Group]:
    group = Group(redis)
    try:
        yield group
    finally:
        await group.close()


def test_a_replica_that_joins_gets_its_part_and_one_that_leaves_gives_it_back(redis: RedisProcess) -> None:
    async def story(group: Group) -> None:
        a, first = await group.join("a")
        await until(lambda: len(first.serves) == 6)
        assert {a.owner(name) for name in NAMES} == {"a"}
        b, second = await group.join("b")
        await until(lambda: len(first.serves) == len(second.serves) == 3)
        assert first.outcomes == ["taken"] * 6 + ["handed-over"] * 3
        await b.hand_over()
        assert second.serves == {}
        await until(lambda: len(first.serves) == 6)
        assert all(generation == 3 for name, generation in first.serves.items() if f"b takes {name}" in group.log)

    log = run(redis, story)
    for line in log:
        assert "loses" not in line
        if line.startswith("b takes"):
            camera = line.split()[-1]
            assert log.index(f"a leaves {camera}") < log.index(line) < log.index(f"b leaves {camera}")


def test_nobody_gets_a_camera_before_its_owner_has_left_it(redis: RedisProcess) -> None:
    async def story(group: Group) -> None:
        _, first = await group.join("a")
        await until(lambda: len(first.serves) == 6)
        first.slow.clear()
        _, second = await group.join("b")
        await asyncio.sleep(3 * TIMES.lease)  # only the bad case would show in this time
        assert (len(first.serves), len(second.serves)) == (6, 0)
        first.slow.set()
        await until(lambda: len(second.serves) == 3)

    run(redis, story)


def test_the_cameras_of_one_that_ends_without_a_word_are_taken(redis: RedisProcess) -> None:
    async def story(group: Group) -> None:
        a, first = await group.join("a")
        await until(lambda: len(first.serves) == 6)
        _, second = await group.join("b")
        await until(lambda: len(second.serves) == 3)
        await a.close()
        await until(lambda: len(second.serves) == 6)

    run(redis, story)


def test_an_owner_is_sure_of_its_camera_until_it_has_left_it(redis: RedisProcess) -> None:
    async def story(group: Group) -> None:
        a, first = await group.join("a")
        await until(lambda: len(first.serves) == 6)
        assert await a.confirm(NAMES[0], first.serves[NAMES[0]])
        assert not await a.confirm(NAMES[0], first.serves[NAMES[0]] + 1)
        assert not await a.confirm("another", 1)
        generation = first.serves[NAMES[0]]
        a.know(NAMES[1:])
        await until(lambda: NAMES[0] not in first.serves)
        assert not await a.confirm(NAMES[0], generation)

    run(redis, story)


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_owners_go_on_while_redis_is_away_and_after_it_was_started_again_empty(
    mortal: RedisProcess, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(group: Group) -> None:
        a, first = await group.join("a")
        _, second = await group.join("b")
        await until(lambda: len(first.serves) == len(second.serves) == 3)
        name, generation = next(iter(first.serves.items()))
        with caplog.at_level(logging.WARNING):
            mortal.kill() if how == "kill" else mortal.freeze()
            await until(lambda: sum("goes on with 3 cameras" in line for line in caplog.messages) == 2)
            await until(lambda: not a.certain)  # `b` may have taken them, for all that it knows
            assert await a.confirm(name, generation)
            mortal.start() if how == "kill" else mortal.thaw()
            await until(lambda: caplog.messages.count("Redis is back") == 2)
        assert a.certain
        await asyncio.sleep(2 * TIMES.lease)
        assert await a.confirm(name, generation)

    log = run(mortal, story)
    assert [line for line in log if "takes" not in line] == []


def test_a_replica_that_is_alone_is_certain_without_redis(
    mortal: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(group: Group) -> None:
        a, keeper = await group.join("a")
        await until(lambda: len(keeper.serves) == 6)
        mortal.kill()
        await until(lambda: any("goes on with 6 cameras" in line for line in caplog.messages))
        await asyncio.sleep(TIMES.lease)
        assert a.certain

    run(mortal, story)


@pytest.mark.parametrize("how", ["silent", "refusing"])
def test_a_replica_that_alone_is_cut_off_from_redis_knows_that_others_may_have_its_cameras(
    redis: RedisProcess, how: str
) -> None:
    async def story(group: Group) -> None:
        async with LoopbackProxy(redis.port) as proxy:
            a, first = await group.join("a")
            b, second = await group.join("b", url=f"redis://127.0.0.1:{proxy.port}/0")
            await until(lambda: len(first.serves) == len(second.serves) == 3)
            await proxy.cut(refuse=how == "refusing")
            await until(lambda: len(first.serves) == 6)
            assert a.certain
            for name, generation in second.serves.items():
                assert await b.confirm(name, generation)
            assert not b.certain
            await proxy.mend()
            await until(lambda: len(first.serves) == len(second.serves) == 3)
            assert b.certain
        assert first.outcomes.count("lost") == 0  # nothing happened to the other's

    run(redis, story)


def test_an_owner_does_not_know_for_a_moment_after_redis_stops_to_answer(mortal: RedisProcess) -> None:
    times = LeaseTimes(lease=0.3, every=0.05, timeout=10, hang=600)

    async def story(group: Group) -> None:
        keeper = Keeper("a", group.log)
        supervisor = Supervisor()
        ownership = RedisOwnership(mortal.url, "a", supervisor=supervisor, times=times)
        ownership.know(NAMES)
        await ownership.start(keeper)
        await until(lambda: len(keeper.serves) == 6)
        mortal.freeze()
        await asyncio.sleep(times.lease)
        sure = asyncio.create_task(ownership.confirm(NAMES[0], keeper.serves[NAMES[0]]))
        await asyncio.sleep(times.lease)
        assert not sure.done()
        with Redis.from_url(mortal.url) as base:
            mortal.thaw()
            assert await sure
            assert base.ping()
        await ownership.close()
        await supervisor.close()

    run(mortal, story)


def test_a_replica_without_redis_owns_what_it_knows() -> None:
    async def story() -> list[str]:
        log: list[str] = []
        supervisor, keeper = Supervisor(), Keeper("a", log)
        ownership = LocalOwnership("a", supervisor)
        ownership.know(NAMES[:2])
        await ownership.start(keeper)
        await until(lambda: set(keeper.serves) == set(NAMES[:2]))
        assert ownership.owner(NAMES[0]) == "a"
        assert ownership.owner(NAMES[5]) == ""
        assert await ownership.confirm(NAMES[0], 1)
        ownership.know(NAMES[1:3])
        await until(lambda: set(keeper.serves) == set(NAMES[1:3]))
        await ownership.hand_over()
        await ownership.close()
        await supervisor.close()
        return log

    log = asyncio.run(story())
    assert log[:2] == ["a takes camera-0", "a takes camera-1"]
    assert sorted(log[2:4]) == ["a leaves camera-0", "a takes camera-2"]
    assert sorted(log[4:]) == ["a leaves camera-1", "a leaves camera-2"]
