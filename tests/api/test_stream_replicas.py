"""Streams that go on at another server: killed, frozen, left in good order, or one of several workers."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.redis_servers import RedisProcess
from tests.servers import ServerProcess
from tests.streaming import stream
from tests.waiting import until, wait_for

Message = Mapping[str, Any]
CHECKPOINT_S = 0.2


def ids(result: Message) -> list[int]:
    return [person["id"] for person in result["people"]]


def metric(server: ServerProcess, name: str) -> float:
    """The sum of a metric, over its labels."""
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", httpx.get(f"{server.url}/metrics").text, re.MULTILINE)
    return sum(map(float, found))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path) as running:
        yield running


@pytest.fixture
def pair(redis: RedisProcess, catalogue: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two replicas that share a Redis."""
    environment = {"redis_url": redis.url, "checkpoint_ms": round(1e3 * CHECKPOINT_S), "drain_seconds": 0.5}
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(ServerProcess("--model", "pair", catalogue=catalogue, environment=environment))
            for _ in range(2)
        )
        yield first, second


def test_after_kill_9_the_other_replica_goes_on(pair: tuple[ServerProcess, ServerProcess], jpeg: bytes) -> None:
    first, second = pair

    async def story() -> tuple[Message, Message, Message]:
        async with stream(first.port) as opened:
            before = await opened.ask(jpeg)
            await asyncio.sleep(2 * CHECKPOINT_S)
            first.process.kill()
            async with stream(second.port, resume=before["token"]) as resumed:
                return before, resumed.welcome, await resumed.ask(jpeg)

    before, welcome, after = asyncio.run(story())
    assert welcome["resumed"] is True
    assert ids(after) == ids(before) == [1, 2]


def test_a_replica_that_wakes_up_has_lost_its_streams_and_changes_nothing(
    pair: tuple[ServerProcess, ServerProcess], jpeg: bytes
) -> None:
    first, second = pair

    async def story() -> None:
        async with stream(first.port) as old:
            token = (await old.ask(jpeg))["token"]
            await asyncio.sleep(2 * CHECKPOINT_S)
            await old.show(jpeg)  # something new to keep, for when it wakes up
            first.process.send_signal(signal.SIGSTOP)
            async with stream(second.port, resume=token) as new:
                assert ids(await new.ask(jpeg)) == [1, 2]
                first.process.send_signal(signal.SIGCONT)
                assert await old.ending() == (4409, "another connection has taken this session over")
                assert ids(await new.ask(jpeg)) == [1, 2]
                token = (await new.ask(jpeg))["token"]
        async with stream(first.port, resume=token) as again:
            assert again.welcome["resumed"] is True
            assert ids(await again.ask(jpeg)) == [1, 2]

    asyncio.run(story())
    assert metric(first, "posewire_store_writes_total") > metric(second, "posewire_store_writes_total") > 0


def test_at_sigterm_the_token_of_the_farewell_is_good_elsewhere_at_once(
    pair: tuple[ServerProcess, ServerProcess], jpeg: bytes
) -> None:
    first, second = pair

    async def story() -> None:
        async with stream(first.port) as old:
            await old.ask(jpeg)
            first.process.send_signal(signal.SIGTERM)
            farewell = await old.hear()
            assert farewell["type"] == "go_away"
            async with stream(second.port, resume=farewell["token"]) as new:
                assert new.welcome["resumed"] is True
                assert ids(await new.ask(jpeg)) == [1, 2]
                assert (await old.ending())[0] in (1001, 4409)

    asyncio.run(story())
    assert first.process.wait(20) == 0


def test_redis_may_go_and_come_back_under_a_stream(
    pair: tuple[ServerProcess, ServerProcess], redis: RedisProcess, jpeg: bytes
) -> None:
    first, second = pair

    async def story() -> None:
        async with stream(first.port) as opened:
            await opened.ask(jpeg)
            redis.kill()
            for _ in range(5):
                assert ids(await opened.ask(jpeg)) == [1, 2]
                await asyncio.sleep(CHECKPOINT_S)
            await asyncio.to_thread(wait_for, lambda: metric(first, "posewire_store_up") == 0)
            redis.start()
            await asyncio.to_thread(wait_for, lambda: metric(first, "posewire_store_up") == 1)
            token = (await opened.ask(jpeg))["token"]
            await until(lambda: metric(first, "posewire_store_waiting") == 0)
            await asyncio.sleep(2 * CHECKPOINT_S)
            first.process.kill()
            async with stream(second.port, resume=token) as resumed:
                assert resumed.welcome["resumed"] is True
                assert ids(await resumed.ask(jpeg)) == [1, 2]

    asyncio.run(story())
    assert sum("Redis is away" in line for line in first.log) == 1


def workers(server: ServerProcess) -> set[int]:
    """The process ids of all workers that were ever ready."""
    return {int(pid) for line in server.log for pid in re.findall(r"Started server process \[(\d+)\]", line)}


def test_any_worker_goes_on_with_a_stream_and_a_killed_one_is_replaced(
    redis: RedisProcess, catalogue: Path, jpeg: bytes
) -> None:
    environment = {"redis_url": redis.url, "checkpoint_ms": 100, "drain_seconds": 0.5}
    arguments = ("--model", "pair", "--workers", "2")
    with ServerProcess(*arguments, catalogue=catalogue, environment=environment) as server:
        wait_for(lambda: len(workers(server)) == 2)

        async def story() -> None:
            token, seen = "", []
            for _ in range(8):  # whichever of the two takes the connection
                async with stream(server.port, resume=token) as opened:
                    assert opened.welcome["resumed"] is bool(token)
                    seen.append(ids(await opened.ask(jpeg)))
                    token = (await opened.ask(jpeg))["token"]
            assert seen == [[1, 2]] * 8
            async with stream(server.port, resume=token) as opened:
                await opened.ask(jpeg)
                await asyncio.sleep(0.3)
                for pid in workers(server):
                    os.kill(pid, signal.SIGKILL)
                await opened.ending()
            await asyncio.to_thread(wait_for, lambda: len(workers(server)) == 4)
            async with stream(server.port, resume=token) as opened:
                assert ids(await opened.ask(jpeg)) == [1, 2]
                server.process.send_signal(signal.SIGTERM)
                assert (await opened.hear())["type"] == "go_away"
                assert (await opened.ending())[0] == 1001

        asyncio.run(story())
        assert server.process.wait(20) == 0
