"""Streams are resumed after a broken connection and in place of an older one, and end when a server goes down."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed

from tests.servers import ServerProcess
from tests.streaming import Stream, connected, refusal, stream
from tests.waiting import until, wait_for

pytestmark = pytest.mark.slow

Message = Mapping[str, Any]
LEFT = [{"name": "left", "polygon": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}]


def ids(result: Message) -> list[int]:
    return [person["id"] for person in result["people"]]


async def begin(port: int, picture: bytes, **hello: Any) -> Message:
    """Return the second result of a stream that then ends."""
    async with stream(port, model="pair", **hello) as opened:
        await opened.ask(picture)
        return await opened.ask(picture)


def test_a_token_resumes_ids(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> tuple[Message, Message, Message]:
        before = await begin(live.port, jpeg, zones=LEFT)
        async with stream(live.port, model="pair", zones=LEFT, resume=before["token"], extras=True) as opened:
            return before, opened.welcome, await opened.ask(jpeg)

    before, welcome, after = asyncio.run(scenario())
    assert welcome["resumed"] is True
    assert ids(after) == ids(before) == [1, 2]
    assert after["people"][0]["age_s"] > 0
    assert after["frame"] == 0  # counted by connection
    assert after["events"] == []  # the people are still in the zone


def test_a_new_stream_has_its_own_ids_and_session(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> None:
        async with stream(live.port) as one, stream(live.port) as another:
            assert one.welcome["session"] != another.welcome["session"]
            assert not one.welcome["resumed"]
            assert ids(await one.ask(jpeg)) == ids(await another.ask(jpeg)) == [1, 2]

    asyncio.run(scenario())


def test_an_invalid_token_begins_a_new_stream_with_a_reason(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> list[Message]:
        good = (await begin(live.port, jpeg))["token"]
        welcomes: list[Message] = []
        for token in (good[:-5] + "xxxxx", "nonsense"):
            async with stream(live.port, model="pair", resume=token) as opened:
                welcomes.append(opened.welcome)
        return welcomes

    for welcome in asyncio.run(scenario()):
        assert (welcome["resumed"], welcome["detail"]) == (False, "the token is not one of this server's")


def test_a_session_expires(impatient: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> Message:
        token = (await begin(impatient.port, jpeg))["token"]
        await asyncio.sleep(1.1)
        async with stream(impatient.port, model="pair", resume=token) as opened:
            return opened.welcome

    assert asyncio.run(scenario())["detail"] == "the session is not kept any more"


def test_the_newest_connection_of_a_session_wins(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> tuple[Message, Message, tuple[int, str]]:
        token = (await begin(live.port, jpeg))["token"]
        async with stream(live.port, model="pair", resume=token) as first:
            await first.ask(jpeg)
            async with stream(live.port, model="pair", resume=token) as second:
                return await second.ask(jpeg), second.welcome, await first.ending()

    result, welcome, ending = asyncio.run(scenario())
    assert welcome["resumed"] is True
    assert ids(result) == [1, 2]
    assert ending == (4409, "another connection has taken this session over")


def test_a_connection_that_is_not_yet_known_to_be_dead_is_replaced(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> tuple[bool, list[int]]:
        async with stream(live.port, model="pair") as lost:
            token = (await lost.ask(jpeg))["token"]
            await lost.send(jpeg)  # its result is under way when the network changes
            async with stream(live.port, model="pair", resume=token) as found:
                return found.welcome["resumed"], ids(await found.ask(jpeg))

    assert asyncio.run(scenario()) == (True, [1, 2])


@pytest.fixture(scope="module")
def ending(catalogue: Path) -> ServerProcess:
    environment = {"drain_seconds": 0.5, "grace_seconds": 3}
    return ServerProcess("--model", "pair", catalogue=catalogue, environment=environment)


def test_at_sigterm_streams_get_go_away_and_are_served_until_closed(ending: ServerProcess, jpeg: bytes) -> None:
    async def end_of_stream(opened: Stream) -> tuple[Message, Message, tuple[int, str]]:
        ending.process.send_signal(signal.SIGTERM)
        go_away = await opened.receive()
        return go_away, await opened.ask(jpeg), await opened.ending()

    async def scenario() -> tuple[Message, Message, tuple[int, str]]:
        async with stream(ending.port) as opened, connected(ending.port) as late:
            await opened.ask(jpeg)
            ending_task = asyncio.create_task(end_of_stream(opened))
            await asyncio.to_thread(wait_for, lambda: httpx.get(f"{ending.url}/readyz").status_code == 503)
            await late.send("{}")  # a new stream
            assert await Stream(late, acknowledge=False).ending() == (1013, "this server is going down")
            return await ending_task

    with ending:
        go_away, result, end = asyncio.run(scenario())
        assert ending.process.wait(30) == 0
    assert (go_away["type"], go_away["closes_in_ms"]) == ("go_away", 500)
    assert go_away["token"]
    assert result["type"] == "result"
    assert end == (1001, "this server is going down; connect again with the last token")
    assert json.loads(next(line for line in ending.log if '"WS /stream 1001"' in line))["status"] == 1001


async def open_now(port: int, count: int) -> None:
    """Wait until the server has noticed that only `count` streams are open."""
    metrics = f"http://127.0.0.1:{port}/metrics"
    await asyncio.to_thread(wait_for, lambda: f"posewire_streams {count}.0" in httpx.get(metrics).text)


def test_the_number_of_streams_is_limited(catalogue: Path, jpeg: bytes) -> None:
    async def scenario(port: int) -> None:
        async with stream(port) as first, stream(port) as second:
            token = (await first.ask(jpeg))["token"]
            assert await refusal(port, "{}") == (1013, "2 streams are open, as many as this server takes")
            async with stream(port, resume=token) as again:  # takes the slot of the first
                assert again.welcome["resumed"] is True
                assert (await second.ask(jpeg))["type"] == "result"
        await open_now(port, 0)
        async with stream(port), stream(port, resume=token) as waiting:
            await waiting.ask(jpeg)
        await open_now(port, 0)
        async with stream(port):
            async with stream(port):
                assert (await refusal(port, json.dumps({"resume": token})))[0] == 1013
            await open_now(port, 1)
            async with stream(port, resume=token) as again:  # the refusal has cost nothing
                assert again.welcome["resumed"] is True

    environment = {"max_streams": 2, "client_share": 1}
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment) as server:
        asyncio.run(scenario(server.port))


async def attempt(port: int, token: str, done: asyncio.Event) -> int:
    """Resume a stream until `done` or its end. Returns the close code, 1000 if this client has closed it."""
    async with connected(port) as socket:
        with suppress(ConnectionClosed):  # it may be refused before
            await socket.send(json.dumps({"resume": token}))
        ending = asyncio.create_task(Stream(socket, acknowledge=False).ending())
        await asyncio.wait([ending, asyncio.create_task(done.wait())], return_when=asyncio.FIRST_COMPLETED)
        return (await ending)[0] if ending.done() else 1000


def test_many_resumes_at_once_never_exceed_the_limit(catalogue: Path, jpeg: bytes) -> None:
    async def scenario(port: int) -> None:
        tokens: list[str] = []
        for _ in range(12):
            async with stream(port) as opened:
                await opened.ask(jpeg)
                tokens.append((await opened.ask(jpeg))["token"])
        await open_now(port, 0)
        for _ in range(2):
            done = asyncio.Event()
            tasks = [asyncio.create_task(attempt(port, token, done)) for token in tokens * 3]
            await until(lambda: sum(task.done() for task in tasks) == len(tasks) - 3)  # noqa: B023
            await open_now(port, 3)
            assert (await refusal(port, "{}"))[0] == 1013
            done.set()
            codes = await asyncio.gather(*tasks)
            assert set(codes) <= {1000, 1013, 4409}
            assert codes.count(1000) == 3
            await open_now(port, 0)

    environment = {"max_streams": 3, "client_share": 1}
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment=environment) as server:
        asyncio.run(scenario(server.port))


def test_one_client_leaves_room_for_others(catalogue: Path, jpeg: bytes) -> None:
    async def scenario(port: int) -> None:
        others = {"X-Forwarded-For": "192.0.2.7"}  # trusted from localhost
        async with stream(port) as first, stream(port):
            token = (await first.ask(jpeg))["token"]
            reason = "2 streams of this client (address or API key) are open, as many as one client may have"
            assert await refusal(port, "{}") == (1013, reason)
            async with stream(port, headers=others) as theirs:
                assert (await theirs.ask(jpeg))["type"] == "result"
            async with stream(port, headers=others, resume=token) as moved:  # from another address
                assert moved.welcome["resumed"] is True
        await open_now(port, 0)
        async with connected(port), connected(port):
            await asyncio.sleep(0.1)
            assert await refusal(port, "{}") == (1013, "2 connections of this client have not said hello yet")
            async with stream(port, headers=others) as theirs:
                assert (await theirs.ask(jpeg))["type"] == "result"

    with ServerProcess("--model", "tiny", catalogue=catalogue, environment={"max_streams": 4}) as server:
        asyncio.run(scenario(server.port))
