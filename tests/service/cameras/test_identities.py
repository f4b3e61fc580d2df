"""Identities of the people before a server's camera survive its reboot, pauses, changes and restarts of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api.security import digest
from tests.camera_servers import HttpCamera
from tests.redis_servers import RedisProcess
from tests.servers import ServerProcess
from tests.service.api.test_cameras import Api
from tests.streaming import Message, watch

pytestmark = pytest.mark.slow

LINE = {"name": "exit", "start": [0.1, 0.1], "end": [0.1, 0.9]}


@pytest.fixture
def camera() -> Iterator[HttpCamera]:
    with HttpCamera() as running:
        yield running


def serve(catalogue: Path, data: Path, **environment: object) -> ServerProcess:
    settings = {"api_keys": f"admin:{digest('admin')}", "data": data, "camera_hosts": "127.0.0.1", **environment}
    return ServerProcess("--model", "pair", catalogue=catalogue, environment=settings)


def ages(server: ServerProcess, name: str = "door") -> dict[int, float]:
    """The seconds for which each person has been known, by id, in the next result with both people."""

    async def see() -> Message:
        async with watch(server.port, name, headers={"X-API-Key": "admin"}) as opened:
            while len(message := await opened.result()) and len(message["people"]) < 2:
                pass
            return message

    async def wait() -> Message:
        async with asyncio.timeout(60):
            return await see()

    return {person["id"]: person["age_s"] for person in asyncio.run(wait())["people"]}


def grown(server: ServerProcess, least: dict[int, float]) -> dict[int, float]:
    """Return the ages of the same people, who must be older by now."""
    now = ages(server)
    assert now.keys() == least.keys()
    assert all(now[person] > age for person, age in least.items())
    return now


def test_identities_go_on_for_as_long_as_they_mean_the_same(
    catalogue: Path, tmp_path: Path, camera: HttpCamera
) -> None:
    entry = {"source": camera.url, "detect_every": 0, "fps": 10}
    with serve(catalogue, tmp_path) as server:
        api = Api(server)
        assert api.put("door", entry).status_code == 201
        now = ages(server)
        assert now.keys() == {1, 2}

        camera.mode = "die"
        api.wait("door", "lost")
        camera.mode = "play"
        api.wait("door", "live")
        now = grown(server, now)

        assert api.ask("POST", "/cameras/door/pause").status_code == 200
        assert api.ask("POST", "/cameras/door/resume").status_code == 200
        now = grown(server, now)

        assert api.put("door", {**entry, "fps": 5, "min_score": 0.1}).status_code == 200
        now = grown(server, now)
    with serve(catalogue, tmp_path) as server:
        api = Api(server)
        now = grown(server, now)
        server.process.kill()
        server.process.wait()
    with serve(catalogue, tmp_path) as server:
        api = Api(server)
        now = grown(server, now)
        oldest = max(now.values())
        assert api.put("door", {**entry, "lines": [LINE]}).status_code == 200
        assert max(ages(server).values()) < oldest, "lines have changed, so everybody is new"


def test_identities_survive_a_restart_with_redis_and_no_folder_of_data(
    catalogue: Path, tmp_path: Path, camera: HttpCamera
) -> None:
    file = tmp_path / "cameras.toml"
    file.write_text(f'[cameras.door]\nsource = "{camera.url}"\ndetect_every = 0\n', "utf-8")
    with RedisProcess(tmp_path) as redis:
        with serve(catalogue, tmp_path / "one", cameras=file, redis_url=redis.url) as server:
            now = ages(server)
        with serve(catalogue, tmp_path / "two", cameras=file, redis_url=redis.url) as server:
            grown(server, now)
