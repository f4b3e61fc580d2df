"""Flow control of streams on real sockets: floods, clients that read late or not at all, silence and dead peers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.servers import ServerProcess
from tests.service.api.raw import RawSocket
from tests.streaming import Stream, refusal, stream

Message = Mapping[str, Any]


async def film(opened: Stream, picture: bytes, rate: float, seconds: float) -> int:
    """Send frames at a steady rate. Returns how many."""
    began = time.monotonic()
    sent = 0
    with contextlib.suppress(ConnectionClosed):
        while (due := began + sent / rate) < began + seconds:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            await opened.send(picture)
            sent += 1
    return sent


async def watch(opened: Stream, seconds: float) -> list[Message]:
    """Return the messages that arrive within `seconds`."""
    heard: list[Message] = []
    with contextlib.suppress(TimeoutError, ConnectionClosed):
        async with asyncio.timeout(seconds):
            while True:
                heard.append(await opened.receive())
    return heard


def test_in_a_flood_the_newest_frame_is_processed(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> list[Message]:
        heard: list[Message] = []
        async with stream(live.port) as opened:
            for _ in range(60):
                await opened.send(jpeg)
            while not heard or heard[-1]["frame"] < 59:
                heard.append(await opened.receive())
        return heard

    results = asyncio.run(scenario())
    assert len(results) < 60
    assert len(results) + sum(result["dropped"] for result in results) == 60
    frames = [result["frame"] for result in results]
    assert frames == sorted(set(frames))


def test_a_client_that_falls_behind_gets_no_more_results_than_its_window(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> tuple[list[Message], list[Message]]:
        async with stream(live.port, window=3, acknowledge=False) as opened:
            filming = asyncio.create_task(film(opened, jpeg, rate=50, seconds=30))
            first: list[Message] = [await opened.receive() for _ in range(3)]
            assert await watch(opened, 0.4) == []
            await opened.acknowledge(first[-1]["frame"])
            later: list[Message] = [await opened.receive() for _ in range(3)]
            assert await watch(opened, 0.2) == []
            filming.cancel()
            return first, later

    first, later = asyncio.run(scenario())
    assert later[0]["frame"] == first[-1]["frame"] + later[0]["dropped"] + 1
    assert later[0]["dropped"] >= 5
    assert later[0]["age_ms"] < 1000  # the newest frame was waiting


def test_a_frame_that_waited_long_for_an_acknowledgement_is_stale(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> tuple[Message, Message]:
        async with stream(live.port, window=1, acknowledge=False) as opened:
            await opened.ask(jpeg)
            await opened.send(jpeg)
            await asyncio.sleep(1.05)
            await opened.acknowledge(0)
            stale = await opened.receive()
            await opened.acknowledge(1)
            return stale, await opened.ask(jpeg)

    stale, fresh = asyncio.run(scenario())
    assert (stale["type"], stale["frame"]) == ("error", 1)
    assert stale["error"]["type"] == "/problems/deadline-passed"
    assert fresh["type"] == "result"


def test_a_client_that_never_acknowledges_is_disconnected(impatient: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> tuple[int, str]:
        async with stream(impatient.port, window=2, acknowledge=False) as opened:
            filming = asyncio.create_task(film(opened, jpeg, rate=10, seconds=5.0))
            ending = await opened.ending()
            filming.cancel()
            return ending

    code, reason = asyncio.run(scenario())
    assert code == 4410
    assert 'send {"ack": FRAME}, or window 0' in reason


def test_acknowledging_what_was_never_sent_is_an_error(live: ServerProcess) -> None:
    async def scenario() -> tuple[int, str]:
        async with stream(live.port) as opened:
            await opened.acknowledge(0)
            return await opened.ending()

    assert asyncio.run(scenario()) == (4400, "frame 0 was acknowledged, but nothing was sent")


def test_silence_ends_a_stream(impatient: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> tuple[int, str]:
        async with stream(impatient.port) as opened:
            await opened.ask(jpeg)
            return await opened.ending()

    assert asyncio.run(scenario()) == (4408, "nothing came for 1.2 s")


def test_acknowledgements_alone_keep_a_stream_open(impatient: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> Message:
        async with stream(impatient.port) as opened:
            await opened.ask(jpeg)
            for _ in range(4):
                await asyncio.sleep(0.6)
                await opened.acknowledge(0)
            return await opened.ask(jpeg)

    assert asyncio.run(scenario())["type"] == "result"


def test_a_client_that_does_not_answer_pings_is_disconnected(impatient: ServerProcess, jpeg: bytes) -> None:
    """As on a half-open connection: frames that were on their way still arrive, but no pongs."""
    with RawSocket(impatient.port) as socket:
        socket.send_text('{"window": 0}')
        socket.send(2, jpeg)
        assert socket.until(9).opcode == 9
        socket.send(2, jpeg)  # instead of a pong
        assert socket.until(8).code == 1011


def test_a_slow_client_is_not_starved_by_a_fast_one(live: ServerProcess, jpeg: bytes) -> None:
    """The network processes at most 50 frames a second, less than one client sends."""

    async def one(rate: float) -> tuple[int, list[Message]]:
        async with stream(live.port, model="tiny") as opened:
            filming = asyncio.create_task(film(opened, jpeg, rate, seconds=1.8))
            heard: list[Message] = []
            while not filming.done() or heard[-1]["frame"] < filming.result() - 1:  # the newest always gets a result
                heard.append(await opened.receive())
            return filming.result(), heard

    async def scenario() -> tuple[int, list[Message]]:
        *_, slow = await asyncio.gather(one(60), one(60), one(5))
        return slow

    sent, heard = asyncio.run(scenario())
    assert len(heard) >= 0.8 * sent
    assert sum(result["dropped"] for result in heard) <= 1


def test_a_client_without_a_hello_is_disconnected(impatient: ServerProcess) -> None:
    code, reason = asyncio.run(refusal(impatient.port))
    assert (code, reason) == (4408, "no hello came within 1.2 s")
