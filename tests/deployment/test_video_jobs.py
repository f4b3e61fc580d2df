"""Video jobs of replicas behind HAProxy: each stays where it was posted, and requests for it find it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.deployment.fleet import Fleet
from tests.deployment.programs import needs_haproxy
from tests.redis_servers import RedisProcess
from tests.service.media.videos import make_video
from tests.waiting import PATIENCE_S
from tests.waiting import wait_for_process as wait_for

pytestmark = needs_haproxy

Job = dict[str, Any]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path) as running:
        yield running


@pytest.fixture
def fleet(catalogue: Path, redis: RedisProcess) -> Iterator[Fleet]:
    """Three replicas, each with a folder of its own."""
    with Fleet(3, "--model", "tiny", catalogue=catalogue, environment={"redis_url": redis.url}) as running:
        yield running


def post(client: httpx.Client, video: bytes) -> Job:
    answer = client.post("/videos", params={"name": "clip.mp4"}, content=video)
    assert answer.status_code == 202, answer.text
    job: Job = answer.json()
    assert answer.headers["x-posewire-replica"] == job["id"].split("-")[0]
    return job


def first_name(url: str) -> str:
    """The name of a replica."""
    return httpx.get(f"{url}/videos").headers["x-posewire-replica"]


def listed(client: httpx.Client) -> list[str]:
    """The ids of the jobs that a replica lists. HAProxy asks one after the other."""
    return [job["id"] for job in client.get("/videos").json()["videos"]]


def test_requests_for_a_job_reach_its_replica_and_every_replica_lists_all(
    fleet: Fleet, redis: RedisProcess, tmp_path: Path
) -> None:
    video = make_video(tmp_path / "clip.mp4", 3).read_bytes()
    with httpx.Client(base_url=fleet.url, timeout=PATIENCE_S) as client:
        jobs = [post(client, video) for _ in range(3)]
        replicas = {job["id"].split("-")[0] for job in jobs}
        assert len(replicas) > 1  # they are spread
        for job in jobs:
            assert {client.get(job["links"]["self"]).status_code for _ in range(6)} == {200}
            wait_for(lambda: client.get(job["links"]["self"]).json()["state"] == "done")  # noqa: B023 - called at once
            assert client.get(job["links"]["video"]).status_code == 200
        newest_first = [job["id"] for job in reversed(jobs)]
        wait_for(lambda: all(listed(client) == newest_first for _ in range(3)))
        redis.kill()
        assert all(set(listed(client)) < set(newest_first) for _ in range(3))  # its own jobs

        before = fleet.balancer.totals("videos")
        assert client.get(jobs[0]["links"]["self"]).status_code == 200
        after = fleet.balancer.totals("videos")
        assert sum(after[host] != before[host] for host in after) == 1  # one replica was asked

        fleet.balancer.command("clear table videos")
        assert {client.get(job["links"]["self"]).status_code for job in jobs} == {200}
        assert client.delete(jobs[1]["links"]["self"]).status_code == 204
        assert client.get(jobs[1]["links"]["self"]).status_code == 404
        assert client.get(f"/videos/{'0' * 8}-{'1' * 32}").status_code == 404
        first = fleet.replicas[0]
        elsewhere = next(job for job in jobs if job["id"].split("-")[0] != first_name(first.url))
        plain = httpx.get(f"{first.url}{elsewhere['links']['self']}")  # as through a load balancer that knows nothing
        assert (plain.status_code, "names another replica" in plain.json()["detail"]) == (404, True)
        assert client.post("/videos", params={"model": "nobody"}, content=video).status_code == 404
