"""Images that take long or much memory to decode do not affect other clients."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.service.media.files import slow_tiff
from tests.waiting import until, wait_for

pytestmark = pytest.mark.slow

GOOD = [encoded(photo(320, 240)), encoded(photo(320, 240), "PNG"), encoded(photo(320, 240), "WEBP")]


@pytest.fixture(scope="module")
def server(catalogue: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", "tiny", catalogue=catalogue, environment={"memory_mb": 40}) as running:
        yield running


@pytest.fixture
def fragile(catalogue: Path) -> Iterator[ServerProcess]:
    with ServerProcess("--model", "tiny", catalogue=catalogue) as running:
        yield running


def from_address(server: ServerProcess, address: str) -> httpx.AsyncClient:
    transport = httpx.AsyncHTTPTransport(local_address=address)
    return httpx.AsyncClient(base_url=server.url, transport=transport, timeout=120)


def decoders(server: ServerProcess) -> list[int]:
    """Return the ids of a server's decoder processes."""
    children = Path(f"/proc/{server.process.pid}/task").glob("*/children")
    pids = [int(pid) for tasks in children for pid in tasks.read_text("utf-8").split()]
    return [pid for pid in pids if b"decoder_child" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def busy(pid: int) -> bool:
    """Return whether a process has used more processor time than its start takes."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK") > 0.5


def test_six_images_of_forty_seconds_are_refused_and_other_clients_are_answered(server: ServerProcess) -> None:
    async def scenario() -> tuple[list[int], list[int], list[int]]:
        good: list[int] = []
        probes: list[int] = []
        async with from_address(server, "127.0.0.2") as attacker, from_address(server, "127.0.0.1") as other:
            slow = [asyncio.create_task(attacker.post("/pose?timeout_ms=8000", content=slow_tiff())) for _ in range(6)]
            while not all(task.done() for task in slow):
                for data in GOOD:
                    good.append((await other.post("/pose?min_score=0&timeout_ms=60000", content=data)).status_code)
                    for probe in ("/livez", "/readyz"):
                        probes.append((await other.get(probe)).status_code)  # noqa: PERF401 - each before the next
            return [(await task).status_code for task in slow], good, probes

    slow, good, probes = asyncio.run(scenario())
    assert set(slow) <= {400, 429, 503, 504}
    assert set(good) == {200}
    assert set(probes) == {200}
    assert len(decoders(server)) <= 2


def test_a_killed_decoder_fails_one_request(fragile: ServerProcess) -> None:
    async def scenario() -> tuple[int, int]:
        async with from_address(fragile, "127.0.0.1") as client:
            request = asyncio.create_task(client.post("/pose?timeout_ms=60000", content=slow_tiff()))
            await until(lambda: any(busy(pid) for pid in decoders(fragile)))
            [pid] = [pid for pid in decoders(fragile) if busy(pid)]
            os.kill(pid, signal.SIGKILL)
            return (await request).status_code, (await client.post("/pose", content=GOOD[1])).status_code

    assert asyncio.run(scenario()) == (503, 200)


def test_decoders_end_when_the_server_is_killed(fragile: ServerProcess) -> None:
    async def scenario() -> list[int]:
        async with from_address(fragile, "127.0.0.1") as one, from_address(fragile, "127.0.0.2") as other:
            request = asyncio.create_task(one.post("/pose?timeout_ms=60000", content=slow_tiff()))
            await until(lambda: any(busy(pid) for pid in decoders(fragile)))
            assert (await other.post("/pose?timeout_ms=60000", content=GOOD[1])).status_code == 200
            pids = decoders(fragile)
            fragile.process.kill()
            await asyncio.gather(request, return_exceptions=True)
            return pids

    pids = asyncio.run(scenario())
    fragile.process.wait()
    assert len(pids) == 2
    for pid in pids:
        wait_for(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_drawn_picture_needs_memory_for_all_of_its_pixels(server: ServerProcess, kind: str) -> None:
    accept = {"Accept": "image/png"}
    large, small = encoded(photo(2500, 2000), kind), encoded(photo(640, 480), kind)
    for _ in range(3):
        refused = httpx.post(f"{server.url}/pose?timeout_ms=60000", content=large, headers=accept, timeout=90)
        assert refused.status_code in (429, 503)
        assert "retry-after" in refused.headers
        drawn = httpx.post(f"{server.url}/pose?timeout_ms=60000", content=small, headers=accept, timeout=90)
        assert Image.open(io.BytesIO(drawn.content)).size == (640, 480)
    assert httpx.post(f"{server.url}/pose?timeout_ms=60000", content=large, timeout=90).status_code == 200


def test_a_drawn_picture_has_a_deadline_like_any_other_response(server: ServerProcess) -> None:
    answer = httpx.post(
        f"{server.url}/pose?timeout_ms=1", content=encoded(photo(1200, 900)), headers={"Accept": "image/png"}
    )
    assert answer.status_code == 504
