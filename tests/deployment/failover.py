"""Failures of three replicas under load, for the tests and the benchmark."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from tests.deployment.crowd import Crowd
from tests.deployment.fleet import Fleet
from tests.deployment.marked import marked_catalogue
from tests.redis_servers import RedisProcess
from tests.servers import ServerProcess

_CHECKPOINT_S = 1.0
"""The default age of the state from which another replica resumes a stream."""


@contextmanager
def deployment(folder: Path) -> Iterator[tuple[Fleet, RedisProcess]]:
    """Three replicas with the model of `marked`, HAProxy, and Redis."""
    with RedisProcess(folder) as redis:
        environment = {"redis_url": redis.url, "log_level": "warning"}
        with Fleet(3, "--model", "marked", catalogue=marked_catalogue(folder), environment=environment) as fleet:
            yield fleet, redis


async def deaths(fleet: Fleet) -> Crowd:
    """Kill one replica, stop another one gracefully, then start both again."""
    async with _settled(fleet) as crowd:
        fleet.replicas[0].process.kill()
        await crowd.go_on()
        await asyncio.sleep(_CHECKPOINT_S)
        await _end(fleet.replicas[1])
        await crowd.go_on()
        await asyncio.to_thread(fleet.mend)
        await crowd.go_on()
    return crowd


async def rolling_restart(fleet: Fleet) -> Crowd:
    """Stop and start each replica in turn, each when the one before gets requests again."""
    async with _settled(fleet) as crowd:
        for replica in list(fleet.replicas):
            await _end(replica)
            await asyncio.to_thread(fleet.mend)
        await crowd.go_on()
    return crowd


async def redis_gone(fleet: Fleet, redis: RedisProcess) -> Crowd:
    """Kill Redis and start it again, empty. When it has all states again, kill a replica."""
    async with _settled(fleet) as crowd:
        redis.kill()
        await crowd.go_on()
        redis.start()
        await _written(fleet)
        await asyncio.sleep(_CHECKPOINT_S)
        await crowd.go_on()
        fleet.replicas[2].process.kill()
        await crowd.go_on()
    return crowd


@asynccontextmanager
async def _settled(fleet: Fleet) -> AsyncIterator[Crowd]:
    """A crowd whose people all have ids, in streams whose state is stored."""
    await asyncio.to_thread(fleet.mend)
    async with Crowd(fleet.url) as crowd:
        await crowd.settle()
        await asyncio.sleep(_CHECKPOINT_S)
        yield crowd


async def _end(replica: ServerProcess) -> None:
    replica.process.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(replica.process.wait, 40) == 0


async def _written(fleet: Fleet) -> None:
    """Wait until every replica has written all states to Redis."""
    async with httpx.AsyncClient(timeout=10) as client:
        for replica in fleet.replicas:
            text = ""
            while not (_value(text, "posewire_store_up") == 1 and _value(text, "posewire_store_waiting") == 0):
                text = (await client.get(f"{replica.url}/metrics")).text
                await asyncio.sleep(0.1)


def _value(text: str, name: str) -> float | None:
    found = re.search(rf"^{name}{{[^}}]*}} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else None
