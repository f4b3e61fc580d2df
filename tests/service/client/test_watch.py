"""Watching a camera of a server with the client: results, states, servers that die and return, and refusals."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from service.client import AsyncClient, Client, ClientError, StreamEndedError, StreamResult, UnavailableError, Watch
from tests.camera_servers import HttpCamera, camera_file
from tests.servers import ServerProcess
from tests.waiting import until


@pytest.fixture(scope="module")
def camera() -> Iterator[HttpCamera]:
    with HttpCamera() as running:
        yield running


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, catalogue: Path, camera: HttpCamera) -> Iterator[ServerProcess]:
    environment = {"cameras": camera_file(tmp_path_factory.mktemp("cameras"), camera.url)}
    with ServerProcess("--model", "pair", catalogue=catalogue, environment=environment) as running:
        yield running


def test_results_are_those_of_streams_and_the_state_is_known(watched: ServerProcess, camera: HttpCamera) -> None:
    async def exhaust(watch: Watch) -> None:
        async for _ in watch:
            pass

    async def story() -> list[StreamResult]:
        async with AsyncClient(watched.url).watch("door") as watch:
            assert (watch.welcome["camera"], watch.welcome["zones"][0]["name"]) == ("door", "all")
            results = [await watch.next() for _ in range(3)]
            assert watch.state == "live"
            pump = asyncio.create_task(exhaust(watch))
            camera.mode = "die"
            try:
                await until(lambda: watch.state == "lost" and bool(watch.reason))
            finally:
                camera.mode = "play"
            await until(lambda: watch.state == "live")
            pump.cancel()
            return results

    results = asyncio.run(story())
    assert [result.frame for result in results] == [
        sum(1 + earlier.dropped for earlier in results[:n]) + results[n].dropped for n in range(3)
    ]
    assert len(results[0].people) == 2
    assert results[0].people[0].velocity is not None
    assert (results[0].width, results[0].height) == (160, 120)
    assert all(result.gap is None and result.problem == "" for result in results)


def test_one_who_is_slow_gets_the_newest_result(watched: ServerProcess) -> None:
    async def story() -> tuple[list[StreamResult], StreamResult]:
        client = AsyncClient(watched.url)
        async with client.watch("door", window=1) as slow, client.watch("door") as quick:
            first = await slow.next()
            seen = [await quick.next() for _ in range(30)]
            return [first, await slow.next(), await slow.next()], seen[-1]

    (first, kept, newest), seen = asyncio.run(story())
    assert first.timestamp is not None
    assert kept.timestamp is not None
    assert newest.timestamp is not None
    assert seen.timestamp is not None
    assert first.timestamp < kept.timestamp < newest.timestamp
    assert newest.timestamp >= seen.timestamp
    assert newest.dropped > 10


def test_threads_iterate_over_results(watched: ServerProcess) -> None:
    with Client(watched.url) as client:
        results = list(islice(client.watch("door", fps=10), 3))
    assert [len(result.people) for result in results] == [2, 2, 2]
    assert not [thread for thread in threading.enumerate() if thread.name == "posewire-client"]


def test_a_server_that_is_killed_is_replaced_by_another_one(
    tmp_path: Path, catalogue: Path, camera: HttpCamera, watched: ServerProcess
) -> None:
    environment = {"cameras": camera_file(tmp_path, camera.url)}

    async def story(dying: ServerProcess) -> StreamResult:
        async with AsyncClient([dying.url, watched.url], patience=60).watch("door") as watch:
            before = await watch.next()
            dying.process.kill()
            async for result in watch:
                if result.gap is not None:
                    assert result.frame > before.frame
                    return result
        raise AssertionError

    with ServerProcess("--model", "pair", catalogue=catalogue, environment=environment) as dying:
        result = asyncio.run(story(dying))
    assert result.gap is not None
    assert not result.gap.kept  # these two servers do not know of each other


def test_what_cannot_be_watched_is_said(watched: ServerProcess) -> None:
    async def story() -> None:
        with pytest.raises(StreamEndedError, match=r"4404.*garden"):
            async with AsyncClient(watched.url).watch("garden"):
                pass
        with pytest.raises(StreamEndedError, match=r"4422.*fps"):
            async with AsyncClient(watched.url).watch("door", fps=0):
                pass
        with pytest.raises(ClientError, match="async with"):
            await AsyncClient(watched.url).watch("door").next()
        with pytest.raises(UnavailableError):
            async with AsyncClient("http://127.0.0.1:9", patience=0.1).watch("door"):
                pass

    asyncio.run(story())
