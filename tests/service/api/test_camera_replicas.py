"""Two servers that share cameras by Redis: whichever is asked answers for both, and changes of one reach the other."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from redis import Redis

from tests.camera_servers import HttpCamera
from tests.redis_servers import RedisProcess
from tests.servers import ServerProcess
from tests.service.api.test_cameras import PASSWORD, Api, serve, source, write
from tests.streaming import watch
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture(scope="module")
def camera() -> Iterator[HttpCamera]:
    with HttpCamera(password=PASSWORD) as running:
        yield running


@pytest.fixture(scope="module")
def servers(
    tmp_path_factory: pytest.TempPathFactory, catalogue: Path, redis: RedisProcess, camera: HttpCamera
) -> Iterator[tuple[ServerProcess, ServerProcess]]:
    """With the camera `fixed` in the file of both."""
    folder = tmp_path_factory.mktemp("replicas")
    file = write(folder / "cameras.toml", {"fixed": {"source": source(camera)}})
    settings = {"cameras": file, "redis_url": redis.url, "camera_hosts": "127.0.0.1", "log_level": "debug"}
    with (
        serve(catalogue, folder / "a", **settings) as a,
        serve(catalogue, folder / "b", **settings) as b,
    ):
        yield a, b


def test_a_camera_is_added_paused_and_removed_at_any_replica(
    servers: tuple[ServerProcess, ServerProcess], redis: RedisProcess, camera: HttpCamera
) -> None:
    a, b = map(Api, servers)
    assert a.put("door", {"source": source(camera), "fps": 5}).status_code == 201
    wait_for(lambda: b.ask("GET", "/cameras/door").status_code == 200)
    for api in (a, b):
        document = api.wait_served("door")
        assert (document["origin"], document["options"]) == ("api", {"fps": 5.0})
        assert api.wait_served("fixed")["origin"] == "file"
    owners = {(one["name"], one["replica"]) for api in (a, b) for one in api.ask("GET", "/cameras").json()["cameras"]}
    assert len(owners) == 2, "both say the same"
    assert len({replica for _, replica in owners}) == 2, "each has one of the two"
    for name in ("door", "fixed"):
        for pausing, resuming in ((a, b), (b, a)):
            assert pausing.ask("POST", f"/cameras/{name}/pause").status_code == 200
            for api in (a, b):
                api.wait(name, "paused")
            assert resuming.ask("POST", f"/cameras/{name}/resume").status_code == 200
            for api in (a, b):
                api.wait_served(name)
    assert b.put("door", {"source": source(camera), "fps": 4}).status_code == 200
    wait_for(lambda: a.get("door")["options"] == {"fps": 4.0})
    assert b.ask("DELETE", "/cameras/door").status_code == 204
    wait_for(lambda: a.ask("GET", "/cameras/door").status_code == 404)
    assert a.ask("DELETE", "/cameras/fixed").status_code == 409
    shown = "".join(api.ask("GET", path).text for api in (a, b) for path in ("/cameras", "/metrics"))
    assert PASSWORD not in shown + "".join(line for server in servers for line in server.log)
    with Redis.from_url(redis.url) as base:
        for key in base.scan_iter("posewire:camera:*"):
            assert PASSWORD.encode() not in (base.get(key) or b"")


def test_results_and_pictures_come_from_whichever_replica_is_asked(
    servers: tuple[ServerProcess, ServerProcess],
) -> None:
    async def first_results(port: int) -> list[int]:
        async with watch(port, "fixed", headers={"X-API-Key": "admin"}) as opened:
            results = [await opened.result() for _ in range(5)]
        assert all((one["width"], one["height"]) == (160, 120) for one in results)
        return [one["frame"] for one in results]

    for server in servers:
        api = Api(server)
        api.wait_served("fixed")
        frames = asyncio.run(first_results(server.port))
        assert frames == sorted(set(frames))
        wait_for(lambda api=api: api.ask("GET", "/cameras/fixed/picture.jpg").status_code == 200)  # type: ignore[misc]
        with Image.open(io.BytesIO(api.ask("GET", "/cameras/fixed/picture.jpg?draw=0").content)) as picture:
            assert picture.size == (160, 120)


def test_changes_are_refused_while_redis_is_away_and_known_again_after_it_has_lost_all(
    servers: tuple[ServerProcess, ServerProcess], redis: RedisProcess, camera: HttpCamera
) -> None:
    a, b = map(Api, servers)
    assert a.put("kept", {"source": source(camera)}).status_code == 201

    def b_knows(name: str) -> bool:
        return b.ask("GET", f"/cameras/{name}").status_code == 200

    wait_for(lambda: b_knows("kept"))
    redis.kill()
    refused = b.put("refused", {"source": source(camera)})
    assert refused.status_code == 503
    assert "nothing was changed" in refused.json()["detail"]
    assert b.ask("GET", "/cameras").status_code == 200
    redis.start()
    wait_for(lambda: b.put("late", {"source": source(camera)}).status_code == 201)
    for api in (a, b):
        wait_for(lambda api=api: api.ask("GET", "/cameras/late").status_code == 200)  # type: ignore[misc]
        api.wait_served("kept")
        api.wait_served("late")
        assert api.ask("GET", "/cameras/refused").status_code == 404
