"""Streams are resumed on another server after a kill, a freeze or a graceful shutdown, and by other workers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import math
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from redis import Redis

from tests.redis_servers import RedisProcess
from tests.servers import ServerProcess
from tests.stream_states import join_state, split_state
from tests.streaming import refusal, stream
from tests.waiting import until, wait_for

pytestmark = pytest.mark.slow

Message = Mapping[str, Any]
CHECKPOINT_S = 0.2


def ids(result: Message) -> list[int]:
    return [person["id"] for person in result["people"]]


def metric(server: ServerProcess, name: str) -> float:
    """Return the sum of a metric over its labels."""
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


def test_after_kill_9_another_replica_resumes(pair: tuple[ServerProcess, ServerProcess], jpeg: bytes) -> None:
    first, second = pair

    async def scenario() -> tuple[Message, Message, Message]:
        async with stream(first.port) as opened:
            before = await opened.ask(jpeg)
            await asyncio.sleep(2 * CHECKPOINT_S)
            first.process.kill()
            async with stream(second.port, resume=before["token"]) as resumed:
                return before, resumed.welcome, await resumed.ask(jpeg)

    before, welcome, after = asyncio.run(scenario())
    assert welcome["resumed"] is True
    assert ids(after) == ids(before) == [1, 2]


def test_a_replica_that_was_frozen_loses_its_streams_and_changes_nothing(
    pair: tuple[ServerProcess, ServerProcess], jpeg: bytes
) -> None:
    first, second = pair

    async def scenario() -> None:
        async with stream(first.port) as old:
            token = (await old.ask(jpeg))["token"]
            await asyncio.sleep(2 * CHECKPOINT_S)
            await old.send(jpeg)  # a new state, to be stored when it is thawed
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

    asyncio.run(scenario())
    assert metric(first, "posewire_store_writes_total") > metric(second, "posewire_store_writes_total") > 0


def test_the_token_of_go_away_is_valid_on_another_server_at_once(
    pair: tuple[ServerProcess, ServerProcess], jpeg: bytes
) -> None:
    first, second = pair

    async def scenario() -> None:
        async with stream(first.port) as old:
            await old.ask(jpeg)
            first.process.send_signal(signal.SIGTERM)
            go_away = await old.receive()
            assert go_away["type"] == "go_away"
            async with stream(second.port, resume=go_away["token"]) as new:
                assert new.welcome["resumed"] is True
                assert ids(await new.ask(jpeg)) == [1, 2]
                assert (await old.ending())[0] in (1001, 4409)

    asyncio.run(scenario())
    assert first.process.wait(20) == 0


def test_redis_may_go_away_and_come_back_during_a_stream(
    pair: tuple[ServerProcess, ServerProcess], redis: RedisProcess, jpeg: bytes
) -> None:
    first, second = pair

    async def scenario() -> None:
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

    asyncio.run(scenario())
    assert sum("Redis is away" in line for line in first.log) == 1


def workers(server: ServerProcess) -> set[int]:
    """Return the process ids of all workers that have ever been ready."""
    return {int(pid) for line in server.log for pid in re.findall(r"Started server process \[(\d+)\]", line)}


def test_any_worker_resumes_a_stream_and_a_killed_one_is_replaced(
    redis: RedisProcess, catalogue: Path, jpeg: bytes
) -> None:
    environment = {"redis_url": redis.url, "checkpoint_ms": 100, "drain_seconds": 0.5}
    arguments = ("--model", "pair", "--workers", "2")
    with ServerProcess(*arguments, catalogue=catalogue, environment=environment) as server:
        wait_for(lambda: len(workers(server)) == 2)

        async def scenario() -> None:
            token, seen = "", []
            for _ in range(8):  # either worker may accept the connection
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
                assert (await opened.receive())["type"] == "go_away"
                assert (await opened.ending())[0] == 1001

        asyncio.run(scenario())
        assert server.process.wait(20) == 0


@pytest.fixture
def skewed(redis: RedisProcess, catalogue: Path) -> Iterator[dict[int, ServerProcess]]:
    """Replicas by the number of seconds that their clocks are ahead."""
    shared = {"redis_url": redis.url, "checkpoint_ms": round(1e3 * CHECKPOINT_S), "drain_seconds": 0.5}
    with ExitStack() as stack:
        yield {
            seconds: stack.enter_context(
                ServerProcess(
                    *("--model", "pair"),
                    catalogue=catalogue,
                    environment=shared | {"skew_s": seconds},
                    module="tests.skewed_server",
                )
            )
            for seconds in (0, 20)
        }


def test_servers_whose_clocks_differ_resume_each_others_streams(skewed: dict[int, ServerProcess], jpeg: bytes) -> None:
    """A stream moves between servers, and the ages of people grow by the time that has passed."""
    zone: dict[str, Any] = {"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]], "dwell_seconds": 10}
    hello: dict[str, Any] = {"extras": True, "smoothing": True, "zones": [zone]}

    async def scenario() -> None:
        token, began, ages = "", time.monotonic(), [0.0]
        for seconds in (0, 20, 0, 20):
            async with stream(skewed[seconds].port, resume=token, **hello) as opened:
                assert opened.welcome["resumed"] is bool(token)
                assert "detail" not in opened.welcome
                for n in range(3):
                    result = await opened.ask(jpeg)
                    assert ids(result) == [1, 2]
                    kinds = [event["kind"] for event in result["events"]]
                    if time.monotonic() - began >= zone["dwell_seconds"]:
                        kinds = [kind for kind in kinds if kind != "dwell"]
                    assert kinds == ([] if token or n else ["enter", "enter"])
                    ages.append(result["people"][0]["age_s"])
                    assert ages[-1] <= time.monotonic() - began
                    await asyncio.sleep(0.1)
                token = result["token"]
            await asyncio.sleep(2 * CHECKPOINT_S)
        assert ages == sorted(ages)
        assert ages[-1] >= 3 * 2 * CHECKPOINT_S  # the gaps are included
        steps = [later - earlier for earlier, later in pairwise(ages[2:])]
        assert min(steps) > 0

    asyncio.run(scenario())


def test_a_token_from_too_far_in_the_future_is_refused_with_that_reason(
    redis: RedisProcess, catalogue: Path, skewed: dict[int, ServerProcess], jpeg: bytes
) -> None:
    environment = {"redis_url": redis.url, "skew_s": 7200}
    far = ServerProcess("--model", "pair", catalogue=catalogue, environment=environment, module="tests.skewed_server")
    with far:

        async def scenario() -> tuple[Message, Message]:
            async with stream(far.port) as opened:
                theirs = (await opened.ask(jpeg))["token"]
            async with stream(skewed[0].port) as opened:
                ours = (await opened.ask(jpeg))["token"]
            async with stream(skewed[0].port, resume=theirs) as early, stream(far.port, resume=ours) as late:
                return early.welcome, late.welcome

        early, late = asyncio.run(scenario())
    assert re.fullmatch(r"the token is from 7\d\d\d s in the future by this server's clock", early["detail"])
    assert late["detail"] == "the token is older than 120 s by this server's clock"


SECRET = "hunter2-of-the-test"  # noqa: S105 - it is what the logs are searched for


def test_garbage_in_redis_costs_only_its_session(
    pair: tuple[ServerProcess, ServerProcess], redis: RedisProcess, jpeg: bytes
) -> None:
    first, second = pair
    client = Redis(port=redis.port)

    def edit(change: Callable[[list[Any], bytes], tuple[object, bytes]]) -> Callable[[str], object]:
        def act(key: str) -> object:
            version, about, arrays = split_state(cast(bytes, client.hget(key, "state")))
            return client.hset(key, "state", join_state(version, *change(about, arrays)))

        return act

    def number(at: int, value: object) -> Callable[[str], object]:
        return edit(lambda about, arrays: ([put(about[0], at, value), *about[1:]], arrays))

    def put(values: list[object], at: int, value: object) -> list[object]:
        return [*values[:at], value, *values[at + 1 :]]

    damages: list[Callable[[str], object]] = [
        lambda key: client.hset(key, "generation", "abc"),
        lambda key: client.hset(key, "generation", 2**63 - 1),
        lambda key: client.hset(key, "sequence", str(2**70)),
        lambda key: client.hdel(key, "state"),
        lambda key: client.hset(key, "state", bytes(50_000_000)),
        lambda key: (client.delete(key), client.rpush(key, "x")),
        number(1, 2**40),
        number(2, math.nan),
        number(2, 1e300),
        number(3, 2**62),
        edit(lambda about, arrays: ([*about[:3], [[1, 0.0, [[1]], []]]], arrays)),
        edit(lambda about, arrays: (about, b"\xff" * len(arrays))),
    ]

    async def scenario() -> None:
        async with stream(first.port) as bystander:
            for damage in damages:
                async with stream(first.port) as opened:
                    token = (await opened.ask(jpeg))["token"]
                    key = f"posewire:session:{opened.welcome['session']}"
                await asyncio.sleep(CHECKPOINT_S)  # the state stored at its end would replace the damage
                await until(lambda: metric(first, "posewire_store_waiting") == 0)
                await asyncio.to_thread(damage, key)
                async with stream(second.port, resume=token) as again:
                    assert again.welcome["resumed"] is False
                    assert again.welcome["detail"] == "the session cannot be read any more"
                    assert ids(await again.ask(jpeg)) == [1, 2]
                assert ids(await bystander.ask(jpeg)) == [1, 2]

    asyncio.run(scenario())
    client.close()
    for server in pair:
        assert metric(server, "posewire_store_up") == 1
        assert not any("Redis is away" in line or "Traceback" in line for line in server.log)


def test_no_secret_is_logged_or_sent(tmp_path: Path, catalogue: Path, jpeg: bytes) -> None:
    """Neither at log level debug nor after any failure of Redis."""
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    answers: list[str] = []
    with RedisProcess(tmp_path) as redis, Redis(port=redis.port) as client:
        client.config_set("requirepass", SECRET)
        client.auth(SECRET)
        url = f"redis://:{SECRET}@127.0.0.1:{redis.port}/0"
        environment = {"redis_url": url, "checkpoint_ms": 100, "log_level": "debug", "api_keys": digest}
        with ServerProcess("--model", "pair", catalogue=catalogue, environment=environment) as server:
            key = cast(bytes, client.get("posewire:resume-key"))

            async def resume(token: str) -> None:
                async with stream(server.port, headers={"X-API-Key": SECRET}, resume=token) as opened:
                    answers.append(json.dumps(opened.welcome))
                    await opened.ask(jpeg)
                    await asyncio.sleep(0.3)

            async def scenario() -> None:
                token = ""
                for harm in (
                    lambda: None,
                    lambda: client.config_set("maxmemory", "1"),
                    lambda: client.config_set("maxmemory", "0"),
                    lambda: client.replicaof("127.0.0.1", "1"),
                    lambda: client.replicaof("NO", "ONE"),
                    lambda: (client.delete("posewire:resume-key"), client.rpush("posewire:resume-key", "x")),
                    lambda: client.config_set("requirepass", "another"),
                    redis.kill,
                ):
                    harm()
                    async with stream(server.port, key=SECRET, resume=token) as opened:
                        answers.append(json.dumps(opened.welcome))
                        token = (await opened.ask(jpeg))["token"]
                        await asyncio.sleep(0.3)
                answers.append((await refusal(server.port, json.dumps({"key": SECRET, "colour": 1})))[1])
                answers.append((await refusal(server.port, path=f"/stream?key={SECRET}"))[1])
                answers.append((await refusal(server.port, json.dumps({"key": f"{SECRET}-wrong"})))[1])

            asyncio.run(scenario())
            url = f"{server.url}/pose?key={SECRET}"
            answers.append(httpx.post(url, headers={"Authorization": f"Bearer {SECRET}"}, content=b"x").text)
        texts = [*server.log, *answers]
    assert any("it is out of memory" in text for text in texts)
    assert any("it is a replica" in text for text in texts)
    for form in (SECRET, key.hex(), repr(key)[2:-1], repr(key)[2:12], base64.b64encode(key).decode()):
        assert not [text for text in texts if form in text]
