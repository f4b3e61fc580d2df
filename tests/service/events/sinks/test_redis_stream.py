"""A stream of a real Redis."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from service.events.entries import RedisEntry
from service.events.sinks.base import SinkAwayError
from service.events.sinks.redis_stream import RedisSink
from tests.redis_servers import RedisProcess
from tests.service.events.happenings import Counts, happening, on_loop, running, sinks
from tests.service.events.sinks.test_ndjson import Outcome
from tests.waiting import until


def stream(server: RedisProcess) -> list[dict[str, str]]:
    with Redis.from_url(server.url, decode_responses=True) as client:
        found: Any = client.xrange("posewire:events")
    return [fields for _, fields in found]


@on_loop
async def test_events_are_added_once_also_if_they_are_sent_again(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as server:
        sink, outcome = RedisSink(RedisEntry(type="redis", url=server.url)), Outcome()
        batch = [happening(n) for n in range(3)]
        await sink.send(batch[:2], outcome)
        await sink.send(batch, outcome)  # as after a connection that broke before the answer
        await sink.close()
        found = stream(server)
    assert [fields["id"] for fields in found] == [event.id for event in batch]
    assert found[0] == {
        "id": batch[0].id,
        "source": "cameras/door",
        "time": "2023-11-14T22:13:20.500Z",
        "kind": "enter",
        "data": found[0]["data"],
    }
    assert json.loads(found[0]["data"]) == batch[0].data


@on_loop
async def test_redis_that_hangs_and_dies_gets_everything_in_order(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = Counts()
    with RedisProcess(tmp_path) as server:
        url = server.url.replace("//", "//nobody:hunter2@")
        entry = {"type": "redis", "url": server.url, "timeout_seconds": 0.5}
        async with running(tmp_path, sinks(stream=entry | {"url": url}), counts) as events:
            await events.add([happening(0)])
            await until(lambda: counts.tries["stream"] >= 1)  # there is no such user
            assert "hunter2" not in caplog.text
            await events.reload(sinks(stream=entry))
            await until(lambda: counts.got["stream"] == 1)
            server.freeze()
            await events.add([happening(n) for n in range(1, 100)])
            before = counts.tries["stream"]
            await until(lambda: counts.tries["stream"] > before)
            server.thaw()
            await until(lambda: counts.got["stream"] == 100)
            assert [fields["id"] for fields in stream(server)] == [happening(n).id for n in range(100)]
            server.kill()
            await events.add([happening(n) for n in range(100, 200)])
            server.start()
            await until(lambda: counts.got["stream"] == 200)
            assert [fields["id"] for fields in stream(server)] == [happening(n).id for n in range(100, 200)]


@on_loop
async def test_the_stream_is_bounded(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as server:
        sink = RedisSink(RedisEntry(type="redis", url=server.url, most=100))
        for start in range(0, 1000, 50):
            await sink.send([happening(n) for n in range(start, start + 50)], Outcome())
        await sink.close()
        assert 100 <= len(stream(server)) < 400  # about: whole nodes of the stream are removed


@on_loop
async def test_what_does_not_answer_as_redis_does_is_away() -> None:
    replies = [b":abc\r\n", b"$-5\r\n", b"*\xff\r\n", b"_\r\n", b"+OK\r\n" * 10, b"-MOVED 1 a:b\r\n", b"*1\r\n" * 3000]
    waiting = list(replies)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reply = waiting.pop(0) if waiting else b"+"
        with suppress(ConnectionError):
            await reader.read(1000)
            writer.write(reply)
            await reader.read()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        url = f"redis://joe:hunter2@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for _ in replies:
            sink = RedisSink(RedisEntry(type="redis", url=url, timeout_seconds=0.3))
            with pytest.raises(SinkAwayError) as away:
                await sink.send([happening(1)], Outcome())
            await sink.close()
            assert "hunter2" not in str(away.value)
