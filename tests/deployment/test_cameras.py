"""Three replicas that share twelve cameras: whatever happens to them, all go on and everybody keeps their id."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator

import pytest

from tests.deployment.camera_fleet import CameraFleet, Onlooker
from tests.deployment.programs import needs

pytestmark = needs("redis-server", "redis-server")

_IDS = {(1, 2, 3)}
"""In the order of arrival. A tracker that begins anew would number people in another order."""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CameraFleet]:
    with CameraFleet(tmp_path_factory.mktemp("cameras")) as fleet:
        yield fleet


def watched(fleet: CameraFleet, story: Callable[[Onlooker], Awaitable[None]]) -> None:
    """Run a story while somebody watches all cameras at the first replica. Nobody's id may be lost, and no event."""

    async def whole() -> None:
        async with Onlooker(fleet) as onlooker:
            await onlooker.until(fleet.spread)
            await onlooker.let_in(3)
            await onlooker.go_on()
            await story(onlooker)
            await onlooker.go_on()
            assert onlooker.lost() == {}
            assert onlooker.ids() == _IDS
            await onlooker.until(lambda: fleet.wrong_events() == [])

    asyncio.run(whole())


def test_a_killed_replica_loses_no_identity_and_gets_cameras_again_when_it_is_back(shared: CameraFleet) -> None:
    async def story(onlooker: Onlooker) -> None:
        shared.replicas[1].process.kill()
        await onlooker.until(lambda: len(shared.live) == 2 and shared.spread())
        await onlooker.go_on()
        await asyncio.to_thread(shared.restart, 1)
        await onlooker.until(shared.spread)

    watched(shared, story)


def test_a_suspended_replica_does_nothing_when_it_wakes_up(shared: CameraFleet) -> None:
    async def story(onlooker: Onlooker) -> None:
        suspended = shared.replicas[2]
        suspended.process.send_signal(signal.SIGSTOP)
        try:
            await onlooker.until(lambda: len(shared.owners()) == 2 and shared.owners().total() == 12)
            await onlooker.go_on()
        finally:
            suspended.process.send_signal(signal.SIGCONT)
        await onlooker.until(shared.spread)
        await onlooker.until(lambda: all(number == 1 for number in shared.scenes.watched.values()))

    watched(shared, story)


def test_a_replica_that_is_told_to_end_hands_its_cameras_over(shared: CameraFleet) -> None:
    async def story(onlooker: Onlooker) -> None:
        shared.replicas[1].process.send_signal(signal.SIGTERM)
        await onlooker.until(lambda: len(shared.live) == 2)
        assert shared.replicas[1].process.returncode == 0
        assert sum("is handed over" in line for line in shared.replicas[1].log) >= 4
        await onlooker.until(shared.spread)
        await asyncio.to_thread(shared.restart, 1)
        await onlooker.until(shared.spread)

    watched(shared, story)


def test_redis_that_is_started_again_empty_changes_no_owner(shared: CameraFleet) -> None:
    async def story(onlooker: Onlooker) -> None:
        owners = shared.owner_of_each()
        logged = {replica.port: len(replica.log) for replica in shared.live}

        def who_says(words: str) -> int:
            return sum(any(words in line for line in r.log[logged[r.port] :]) for r in shared.live)

        shared.redis.kill()
        await onlooker.until(lambda: who_says("goes on with 4 cameras") == 3)
        shared.redis.start()
        await onlooker.until(lambda: who_says("Redis is back") == 3)
        await onlooker.until(shared.spread)
        await onlooker.go_on()
        assert shared.owner_of_each() == owners
        assert who_says("served here") == 0

    watched(shared, story)
