"""Leases of cameras: rounds of replicas in a real Redis, one after the other."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest
from redis import Redis

from service.cameras.ownership.redis_lease_thread import (
    AWAY_AFTER,
    KEY,
    LeaseRound,
    LeaseThread,
    LeaseTimes,
    lease_clock,
)
from tests.redis_servers import RedisProcess
from tests.waiting import wait_for

TIMES = LeaseTimes(lease=600, every=1, timeout=10, hang=600)
"""Leases do not end by themselves, however slow this machine is."""
SHORT = LeaseTimes(lease=0.4, every=0.05, timeout=10, hang=600)
TWELVE = [f"camera-{n:02}" for n in range(12)]


@dataclass
class Member:
    """A replica whose rounds the test runs."""

    thread: LeaseThread
    told: LeaseRound = field(default_factory=lambda: LeaseRound({}, 0))

    def round(self) -> set[str]:
        """Return the cameras that it has after another round."""
        self.thread.beat()
        self.told = self.thread.round(lease_clock())
        return set(self.told.held)

    def take_all(self) -> None:
        """Run rounds until it may take cameras."""
        wait_for(lambda: bool(self.round()))

    def passing(self) -> dict[str, str]:
        """The cameras that it is to give to others."""
        return {name: lease.next_owner for name, lease in self.told.leases.items() if lease.next_owner}

    def pass_on(self) -> bool:
        """Give back what it is to give to others. Returns False if that is nothing."""
        names = [name for name in self.passing() if name in self.told.held]
        for name in names:
            self.thread.release(name, self.told.held[name])
        self.round()
        return bool(names)


@pytest.fixture
def base(redis: RedisProcess) -> Iterator[Redis]:
    with Redis.from_url(redis.url) as base:
        base.flushall()
        yield base


def member(redis: RedisProcess, name: str, cameras: Iterable[str] = TWELVE, times: LeaseTimes = TIMES) -> Member:
    thread = LeaseThread(redis.url, name, lambda _: None, times)
    thread.know(cameras)
    return Member(thread)


def awake(base: Redis) -> None:
    """End the time in which nobody takes cameras, as after a lease's time."""
    base.hset(KEY, "quiet", "0")


def expire(base: Redis, *owners: str) -> None:
    """End the leases of replicas, and their lives, as if they were dead for a lease's time."""
    for name, value in fields(base).items():
        if name.startswith("lease:"):
            generation, _, owner, next_owner = value.split(" ")
            if owner in owners:
                before = 1000 * int(base.time()[0]) - 1000
                base.hset(KEY, name, f"{generation} {before} {owner} {next_owner}")
        elif name.removeprefix("replica:") in owners:
            base.hdel(KEY, name)


def fields(base: Redis) -> dict[str, str]:
    """What is in Redis."""
    known = cast("dict[bytes, bytes]", base.hgetall(KEY))
    return {name.decode(): value.decode() for name, value in known.items()}


def settle(*members: Member) -> list[int]:
    """Run rounds until nobody is to give anything away. Returns how many cameras each has."""
    for _ in range(50):
        for one in (*members, *members):  # the first may not know of the last
            one.round()
        passed = [one.pass_on() for one in members]
        if not any(passed):
            break
    held = [one.round() for one in members]
    assert set().union(*held) == set(TWELVE)
    assert sum(map(len, held)) == 12
    return [len(cameras) for cameras in held]


def started(redis: RedisProcess, base: Redis, *names: str) -> list[Member]:
    """Replicas that have shared the cameras."""
    members = [member(redis, name) for name in names]
    for one in members:
        assert one.round() == set()
    awake(base)
    settle(*members)
    return members


def test_three_replicas_that_start_together_have_four_cameras_each(redis: RedisProcess, base: Redis) -> None:
    members = [member(redis, name) for name in "abc"]
    assert [one.round() for one in members] == [set(), set(), set()], "at first, holders may come back"
    awake(base)
    assert [len(one.round()) for one in members] == [4, 4, 4]
    assert [one.told.replicas for one in members] == [3, 3, 3]
    members[0].round()
    assert {lease.owner for lease in members[0].told.leases.values()} == {"a", "b", "c"}


def test_a_replica_that_joins_gets_cameras_one_by_one_until_all_have_as_many(redis: RedisProcess, base: Redis) -> None:
    (a,) = started(redis, base, "a")
    assert len(a.told.held) == 12
    b = member(redis, "b")
    assert b.round() == set()
    a.round()
    assert list(a.passing().values()) == ["b"]
    assert b.round() == set(), "the owner has not given it back yet"
    assert settle(a, b) == [6, 6]
    c = member(redis, "c")
    c.round()
    assert settle(a, b, c) == [4, 4, 4]


def test_five_replicas_have_two_or_three_each(redis: RedisProcess, base: Redis) -> None:
    members = started(redis, base, *"abcd")
    members.append(member(redis, "e"))
    assert sorted(settle(*members)) == [2, 2, 2, 3, 3]


def test_the_cameras_of_a_dead_replica_are_taken_by_the_others_in_one_round(redis: RedisProcess, base: Redis) -> None:
    a, b, c = started(redis, base, *"abc")
    expire(base, "a")
    assert [len(b.round()), len(c.round())] == [6, 6]
    assert a.round() == set(), "it was only suspended, and learns that it has lost its cameras"
    settle(a, b, c)
    assert max(lease.generation for lease in b.told.leases.values()) >= 2


def test_a_lease_that_nobody_else_has_taken_is_renewed_even_if_it_has_ended(redis: RedisProcess, base: Redis) -> None:
    (a,) = started(redis, base, "a")
    expire(base, "a")
    assert len(a.round()) == 12
    assert {lease.generation for lease in a.told.leases.values()} == {1}


def test_a_replica_that_leaves_gets_nothing_back(redis: RedisProcess, base: Redis) -> None:
    a, b = started(redis, base, *"ab")
    a.thread.leave()
    for name, generation in dict(a.told.held).items():
        a.thread.release(name, generation)
    assert a.thread.giving_back
    assert a.round() == set()
    assert not a.thread.giving_back
    assert len(b.round()) == 12
    assert b.told.replicas == 1


def test_what_the_next_owner_does_not_take_is_taken_by_another(redis: RedisProcess, base: Redis) -> None:
    a, b = started(redis, base, *"ab")
    c = member(redis, "c")
    c.round()
    a.round()
    (name,) = [name for name, to in a.passing().items() if to == "c" and name in a.told.held]
    expire(base, "c")
    a.thread.release(name, a.told.held[name])
    a.round()
    assert name in a.round() | b.round()


def test_nobody_is_to_give_a_camera_to_a_replica_that_does_not_know_all_of_them(
    redis: RedisProcess, base: Redis
) -> None:
    (a,) = started(redis, base, "a")
    other = member(redis, "b", TWELVE[:3])
    assert other.round() == set()
    a.round()
    assert a.passing() == {}


def test_a_camera_that_only_one_replica_knows_is_taken_by_it_even_beyond_its_share(
    redis: RedisProcess, base: Redis
) -> None:
    a, b = (member(redis, name, cameras, SHORT) for name, cameras in (("a", TWELVE), ("b", TWELVE[:2])))
    taken: set[str] = set()

    def both() -> bool:
        taken.clear()
        taken.update(a.round() | b.round())
        return taken == set(TWELVE)

    wait_for(both)


def test_holders_are_first_after_redis_was_started_again_empty(mortal: RedisProcess) -> None:
    a, b = (member(mortal, name) for name in "ab")
    with Redis.from_url(mortal.url) as base:
        a.round()
        awake(base)
        assert len(a.round()) == 12
    mortal.kill()
    mortal.start()
    wait_for(lambda: not b.thread.round(lease_clock()).failed)
    assert b.round() == set()
    wait_for(lambda: not a.thread.round(lease_clock()).failed)
    assert len(a.round()) == 12
    assert {lease.generation for lease in a.told.leases.values()} == {1}


def test_the_later_owner_has_a_camera_if_two_say_so(mortal: RedisProcess) -> None:
    a, b = (member(mortal, name) for name in "ab")
    with Redis.from_url(mortal.url) as base:
        a.round()
        awake(base)
        a.round()
        expire(base, "a")
        b.round()
        awake(base)
        assert len(b.round()) == 12
    mortal.kill()
    mortal.start()
    wait_for(lambda: not a.thread.round(lease_clock()).failed)  # it still says so, as it does not know better
    wait_for(lambda: not b.thread.round(lease_clock()).failed)
    assert len(b.round()) == 12
    assert a.round() == set()


def test_damaged_fields_cost_only_what_they_are_of(redis: RedisProcess, base: Redis) -> None:
    (a,) = started(redis, base, "a")
    far = 2 * 10**14
    base.hset(KEY, mapping={
        "lease:camera-03": "nonsense", "lease:camera-04": f"7 {far} evil -", "replica:ghost": f"{far} x",
        "replica:x": "", "round": "x", "quiet": str(far), b"\xff\xfe": b"\0",
    })  # fmt: skip
    assert a.round() == set(TWELVE) - {"camera-04"}
    assert a.told.replicas == 1
    assert a.told.leases["camera-04"].owner == "evil"
    base.delete(KEY)
    base.set(KEY, "no hash at all")
    assert a.round() == set(TWELVE) - {"camera-04"}


def test_redis_is_away_after_some_failures_in_a_row(mortal: RedisProcess) -> None:
    a = member(mortal, "a")
    with Redis.from_url(mortal.url) as base:
        a.round()
        awake(base)
        assert len(a.round()) == 12
    mortal.kill()
    for number in range(1, AWAY_AFTER + 2):
        assert len(a.round()) == 12, "nobody else can have them"
        assert a.told.failed
        assert bool(a.told.away) == (number >= AWAY_AFTER)
    assert "cannot be connected to" in a.told.away


def test_a_thread_gives_the_cameras_of_an_event_loop_that_hangs_away(redis: RedisProcess, base: Redis) -> None:
    told: list[LeaseRound] = []
    times = LeaseTimes(lease=600, every=0.02, timeout=10, hang=3)
    thread = LeaseThread(redis.url, "a", told.append, times)
    thread.know(TWELVE)
    running = threading.Thread(target=thread.run)

    def works() -> bool:
        thread.beat()
        return len(told[-1].held) == 12

    running.start()
    try:
        wait_for(lambda: bool(told))
        awake(base)
        wait_for(works)
        wait_for(lambda: told[-1].hung)
        assert told[-1].held == {}
        wait_for(works)
    finally:
        thread.stop()
        running.join()
    assert told[-1].replicas == 0


def test_a_process_that_was_suspended_does_not_take_its_event_loop_to_hang(redis: RedisProcess, base: Redis) -> None:
    now = [lease_clock()]
    told: list[LeaseRound] = []

    def tell(one: LeaseRound) -> None:
        told.append(one)
        if len(told) == 3:
            now[0] += 5000  # everything stood still
        if len(told) == 6:
            thread.stop()

    times = LeaseTimes(lease=600, every=0.0, timeout=10, hang=1000)
    thread = LeaseThread(redis.url, "a", tell, times, lambda: now[0])
    thread.know(TWELVE)
    thread.run()
    assert not any(one.hung for one in told)
