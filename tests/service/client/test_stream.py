"""Streams of the client with servers that die, shut down, refuse and return."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from service.client import (
    AsyncClient,
    Client,
    ClientError,
    Event,
    ProblemError,
    Stream,
    StreamEndedError,
    StreamResult,
    UnavailableError,
)
from service.client.results import read_result
from tests.redis_servers import RedisProcess
from tests.servers import ServerProcess

CHECKPOINT_S = 0.2


def ids(result: StreamResult) -> list[int | None]:
    return [person.id for person in result.people]


@pytest.fixture
def pair(tmp_path: Path, catalogue: Path) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """Two replicas that share a Redis."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisProcess(tmp_path))
        shared = {"redis_url": redis.url, "checkpoint_ms": round(1e3 * CHECKPOINT_S), "drain_seconds": 1}
        replicas = [ServerProcess("--model", "pair", catalogue=catalogue, environment=shared) for _ in range(2)]
        first, second = (stack.enter_context(replica) for replica in replicas)
        yield first, second


def test_frames_get_typed_results_in_order(server: ServerProcess, jpeg: bytes) -> None:
    async def story() -> list[StreamResult]:
        zone = {"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}
        rules = {"occupancy": True, "repetitions": [{"name": "c", "angle": "left_elbow", "low": 9, "high": 99}]}
        async with AsyncClient(server.url).stream(detect_every=0, extras=True, zones=[zone], rules=rules) as stream:
            assert stream.welcome["model"] == "pair"
            results = [await stream.ask(jpeg, timestamp=100.0 * n) for n in range(3)]
            await stream.send(jpeg)
            stream.finish()
            return results + [result async for result in stream]

    results = asyncio.run(story())
    assert [result.frame for result in results] == [0, 1, 2, 3]
    assert [result.timestamp for result in results[:3]] == [0, 100, 200]
    assert ids(results[-1]) == [1, 2]
    assert {event.kind for event in results[0].events} == {"enter"}
    assert results[-1].people[0].velocity is not None
    assert results[-1].people[0].repetitions == {"c": 0}
    assert results[-1].occupancy == {"all": 2}
    assert all(result.gap is None and result.problem == "" for result in results)


def test_rules_and_events_with_further_members_are_read() -> None:
    person = {"score": 1, "box": [0, 0, 1, 1], "keypoints": [], "posture": {"name": "lying", "confidence": 0.9}}
    event = {"kind": "fall", "name": "fall", "id": 3, "speed": 4.5}
    document = {"type": "result", "timestamp": None, "age_ms": 1, "width": 1, "height": 1}
    result = read_result({**document, "people": [{**person, "speed": 1.5}], "events": [event]}, 0, 0, None)
    assert result.events == (Event("fall", "fall", 3, values={"speed": 4.5}),)
    [read] = result.people
    assert (read.posture, read.posture_confidence, read.speed, read.angles) == ("lying", 0.9, 1.5, {})


def test_the_newest_frame_wins_and_results_tell_how_many_were_dropped(server: ServerProcess, jpeg: bytes) -> None:
    async def story() -> list[StreamResult]:
        async with AsyncClient(server.url).stream() as stream:
            for _ in range(50):
                last = await stream.send(jpeg)
            stream.finish()
            results = [result async for result in stream]
            assert results[-1].frame == last
            return results

    results = asyncio.run(story())
    assert sum(1 + result.dropped for result in results) == 50


def test_a_frame_that_is_not_an_image_gives_a_result_with_a_problem(server: ServerProcess, jpeg: bytes) -> None:
    async def story() -> tuple[StreamResult, StreamResult]:
        async with AsyncClient(server.url).stream() as stream:
            return await stream.ask(b"no picture"), await stream.ask(jpeg)

    bad, good = asyncio.run(story())
    assert "JPEG" in bad.problem
    assert bad.people == ()
    assert len(good.people) == 2


def test_threads_iterate_over_pictures(server: ServerProcess, jpeg: bytes) -> None:
    with Client(server.url) as client:
        results = list(client.stream([jpeg] * 4, min_score=0.1))
        assert [result.frame for result in results] == [0, 1, 2, 3]
        for result in client.stream(iter(lambda: jpeg, None)):
            if result.frame == 2:
                break
    assert not [thread for thread in threading.enumerate() if thread.name == "posewire-client"]


def test_after_kill_9_a_stream_continues_on_another_server_with_the_same_ids(
    pair: tuple[ServerProcess, ServerProcess], jpeg: bytes
) -> None:
    first, second = pair

    async def story() -> tuple[StreamResult, StreamResult]:
        async with AsyncClient([first.url, second.url]).stream(detect_every=0) as stream:
            before = await stream.ask(jpeg)
            await asyncio.sleep(2 * CHECKPOINT_S)
            first.process.kill()
            return before, await stream.ask(jpeg)  # perhaps lost with the connection and sent again

    before, after = asyncio.run(story())
    assert ids(after) == ids(before) == [1, 2]
    assert after.gap is not None
    assert after.gap.kept
    assert after.frame == 1


def test_a_stream_leaves_a_server_that_shuts_down_without_losing_frames(
    pair: tuple[ServerProcess, ServerProcess], jpeg: bytes
) -> None:
    first, second = pair

    async def story() -> list[StreamResult]:
        async with AsyncClient([first.url, second.url]).stream(detect_every=0) as stream:
            results = [await stream.ask(jpeg)]
            session = stream.session
            first.process.send_signal(signal.SIGTERM)
            while first.process.poll() is None:
                results.append(await stream.ask(jpeg))
            assert stream.session == session
            return [*results, await stream.ask(jpeg)]

    results = asyncio.run(story())
    assert [result.frame for result in results] == list(range(len(results)))
    assert all(result.gap is None and ids(result) == [1, 2] for result in results)
    assert 'posewire_stream_resumes_total{resumed="true"} 1.0' in httpx.get(f"{second.url}/metrics").text


def test_a_stream_waits_for_a_single_server_to_restart(tmp_path: Path, catalogue: Path, jpeg: bytes) -> None:
    with RedisProcess(tmp_path) as redis:
        environment = {"redis_url": redis.url, "drain_seconds": 0.5}
        before = ServerProcess("--model", "pair", catalogue=catalogue, environment=environment)

        async def story() -> tuple[StreamResult, StreamResult]:
            async with AsyncClient(before.url, patience=60).stream(detect_every=0) as stream:
                first = await stream.ask(jpeg)
                before.process.send_signal(signal.SIGTERM)
                await asyncio.to_thread(before.process.wait, 20)
                asked = asyncio.create_task(stream.ask(jpeg))
                again = ServerProcess("--model", "pair", catalogue=catalogue, environment=environment, port=before.port)
                await asyncio.to_thread(again.__enter__)
                try:
                    return first, await asked
                finally:
                    await asyncio.to_thread(again.__exit__, None, None, None)

        with before:
            first, second = asyncio.run(story())
    assert ids(second) == ids(first) == [1, 2]
    assert second.gap is not None
    assert second.gap.kept
    assert "1001" in second.gap.reason


def test_lost_ids_are_reported_with_the_next_result(catalogue: Path, jpeg: bytes) -> None:
    with ExitStack() as stack:
        replicas = [ServerProcess("--model", "pair", catalogue=catalogue) for _ in range(2)]
        first, second = (stack.enter_context(replica) for replica in replicas)

        async def story() -> StreamResult:
            async with AsyncClient([first.url, second.url]).stream() as stream:
                await stream.ask(jpeg)
                first.process.kill()
                return await stream.ask(jpeg)

        result = asyncio.run(story())
        assert result.gap is not None
        assert (result.gap.kept, result.gap.reason) == (False, "the token is not one of this server's")


def test_an_idle_stream_reconnects_for_the_next_frame(server: ServerProcess, jpeg: bytes) -> None:
    async def story() -> StreamResult:
        async with AsyncClient(server.url).stream(detect_every=0) as stream:
            await stream.ask(jpeg)
            await asyncio.sleep(3.5)  # the server ends a stream after 3 s of silence
            return await stream.ask(jpeg)

    result = asyncio.run(story())
    assert ids(result) == [1, 2]
    assert result.gap is not None
    assert "4408" in result.gap.reason


def test_a_stream_whose_session_is_taken_over_ends(server: ServerProcess, jpeg: bytes) -> None:
    async def story() -> None:
        client = AsyncClient(server.url)
        async with client.stream() as stream:
            await stream.ask(jpeg)
            async with client.stream(resume=stream.welcome["token"]):
                with pytest.raises(StreamEndedError) as end:
                    await anext(stream)
                assert end.value.code == 4409
                with pytest.raises(StreamEndedError):
                    await stream.send(jpeg)

    asyncio.run(story())


async def refused(stream: Stream) -> Exception:
    """Return the exception of entering the stream."""
    with pytest.raises((StreamEndedError, UnavailableError, ProblemError)) as refusal:
        await stream.__aenter__()
    return refusal.value


def test_a_stream_that_cannot_start_says_why(server: ServerProcess) -> None:
    wrong = asyncio.run(refused(AsyncClient(server.url).stream(skeleton="squid")))
    assert isinstance(wrong, StreamEndedError)
    assert (wrong.code, wrong.reason[:9]) == (4422, "skeleton:")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound and not listening: refuses
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        nobody = asyncio.run(refused(AsyncClient(url, patience=0.3).stream()))
    assert isinstance(nobody, UnavailableError)


@pytest.mark.parametrize("said", ["hello", b"hello", b"\xff\xd8", '{"type": "hello"}', "[1]", "[" * 100_000])
def test_other_protocols_are_recognised(said: str | bytes) -> None:
    async def greet(stranger: ServerConnection) -> None:
        await stranger.send(said)
        await stranger.wait_closed()

    async def story() -> None:
        async with serve(greet, "127.0.0.1", 0, subprotocols=[Subprotocol("posewire.json.v1")]) as front:
            port = next(iter(front.sockets)).getsockname()[1]
            with pytest.raises(ClientError, match="cannot read"):
                await AsyncClient(f"http://127.0.0.1:{port}").stream().__aenter__()

    asyncio.run(story())


WELCOME = {"type": "welcome", "session": "s", "resumed": False, "token": "t"}
RESULT = {"type": "result", "timestamp": 0.0, "age_ms": 1.0, "dropped": 0, "people": [], "width": 1, "height": 1}


def met(code: int, *, welcomes: bool) -> tuple[list[float], Exception]:
    """Connect to a server that ends every stream with this code. Returns the times of connections, and the error."""
    times: list[float] = []

    async def greet(stranger: ServerConnection) -> None:
        times.append(time.monotonic())
        await stranger.recv()
        if welcomes:
            await stranger.send(json.dumps(WELCOME))
        await stranger.close(code, "no")

    async def story() -> Exception:
        async with serve(greet, "127.0.0.1", 0, subprotocols=[Subprotocol("posewire.json.v1")]) as front:
            port = next(iter(front.sockets)).getsockname()[1]
            with pytest.raises(ClientError) as end:
                await follow(AsyncClient(f"http://127.0.0.1:{port}", patience=2.0).stream(window=0))
            return end.value

    async def follow(opened: Stream) -> None:
        async with opened as stream:
            while len(times) < 100:
                await stream.ask(b"picture")

    return times, asyncio.run(story())


@pytest.mark.parametrize(
    ("code", "welcomes"), [(1001, True), (1011, True), (1011, False), (1013, False), (4429, False)]
)
def test_a_server_that_always_fails_is_tried_ever_less_often_and_then_given_up(code: int, welcomes: bool) -> None:
    times, end = met(code, welcomes=welcomes)
    assert isinstance(end, UnavailableError)
    assert "no" in str(end)
    assert 2 <= len(times) <= 10
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert pauses[-1] > 0.2


@pytest.mark.parametrize("code", [1008, 4401, 4404, 4409, 4422])
@pytest.mark.parametrize("welcomes", [False, True])
def test_permanent_errors_are_not_retried(code: int, welcomes: bool) -> None:
    times, end = met(code, welcomes=welcomes)
    assert isinstance(end, StreamEndedError)
    assert end.code == code
    assert len(times) == 1


def test_retries_of_a_server_that_fails_after_each_result_are_paced() -> None:
    async def ask(times: list[float]) -> None:
        async def greet(stranger: ServerConnection) -> None:
            times.append(time.monotonic())
            await stranger.recv()
            await stranger.send(json.dumps(WELCOME))
            await stranger.recv()
            await stranger.send(json.dumps(RESULT | {"frame": 0, "token": "t"}))
            await stranger.close(1011, "no")

        async with serve(greet, "127.0.0.1", 0, subprotocols=[Subprotocol("posewire.json.v1")]) as front:
            port = next(iter(front.sockets)).getsockname()[1]
            async with AsyncClient(f"http://127.0.0.1:{port}", patience=10).stream(window=0) as stream:
                for _ in range(5):
                    assert (await stream.ask(b"picture")).problem == ""

    times: list[float] = []
    asyncio.run(ask(times))
    pauses = [later - earlier for earlier, later in pairwise(times[:5])]
    assert pauses[0] > 0.1
    assert pauses[3] > 0.8


def test_a_slow_consumer_gets_the_newest_frame(server: ServerProcess, jpeg: bytes) -> None:
    async def story() -> int:
        async with AsyncClient(server.url).stream(window=2) as stream:
            for _ in range(30):
                await stream.send(jpeg)
                await asyncio.sleep(0.01)
            waiting = 0
            stream.finish()
            async for _ in stream:
                waiting += 1
            return waiting

    assert asyncio.run(story()) <= 4
