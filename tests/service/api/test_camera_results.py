"""WS /cameras/NAME/results with a real server and a real camera on the loopback."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.api.security import digest
from tests.camera_servers import HttpCamera
from tests.servers import ServerProcess
from tests.service.api.raw import RawSocket
from tests.streaming import Message, refusal, watch

KEY = "a-long-random-key"
PATH = "/cameras/door/results"
ENTRY = """
[cameras.door]
source = "{url}"
detect_every = 0

[[cameras.door.zones]]
name = "all"
polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]
"""


@pytest.fixture(scope="module")
def filmed() -> Iterator[HttpCamera]:
    with HttpCamera() as camera:
        yield camera


def serving(folder: Path, catalogue: Path, camera: HttpCamera, **environment: object) -> ServerProcess:
    file = folder / "cameras.toml"
    file.write_text(ENTRY.format(url=camera.url), "utf-8")
    return ServerProcess("--model", "pair", catalogue=catalogue, environment={"cameras": file, **environment})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, catalogue: Path, filmed: HttpCamera) -> Iterator[ServerProcess]:
    with serving(tmp_path_factory.mktemp("cameras"), catalogue, filmed) as running:
        yield running


def test_results_are_those_of_streams(server: ServerProcess) -> None:
    async def story() -> tuple[Message, Message, Message]:
        async with watch(server.port, "door") as text, watch(server.port, "door", format="msgpack") as packed:
            found = {message["frame"]: message for message in [await text.result() for _ in range(20)]}
            while (same := await packed.result())["frame"] not in found:
                pass
            return text.welcome, found[same["frame"]], same

    welcome, result, same = asyncio.run(story())
    assert (welcome["camera"], welcome["model"], welcome["window"]) == ("door", "pair", 8)
    assert welcome["zones"] == [{"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]
    assert len(welcome["keypoints"]) == len(result["people"][0]["keypoints"])
    assert (result["width"], result["height"]) == (160, 120)
    assert {person["id"] for person in result["people"]} == {1, 2}
    assert {"velocity", "age_s"} < result["people"][0].keys()
    assert result["timing_ms"].keys() > {"infer", "track", "serialise"}
    assert result["age_ms"] > 0
    for member in ("id", "box", "keypoints", "velocity", "age_s"):
        packed, text = ([person[member] for person in message["people"]] for message in (same, result))
        np.testing.assert_allclose(packed, text, atol=1e-3)
    assert same["timestamp"] == result["timestamp"]


def test_everybody_is_told_that_the_camera_is_lost_and_that_it_is_back(
    server: ServerProcess, filmed: HttpCamera
) -> None:
    async def story() -> tuple[Message, Message]:
        async with watch(server.port, "door") as opened:
            await opened.result()
            filmed.mode = "die"
            try:
                while (lost := await opened.receive()).get("state") != "lost":
                    pass
            finally:
                filmed.mode = "play"
            while (back := await opened.receive()).get("state") != "live":
                pass
            await opened.result()
            return lost, back

    lost, back = asyncio.run(story())
    assert lost == {"type": "camera", "state": "lost", "reason": lost["reason"]}
    assert lost["reason"]
    assert back == {"type": "camera", "state": "live", "reason": ""}


def test_watchers_who_never_read_hold_up_nobody(server: ServerProcess) -> None:
    async def story() -> list[list[int]]:
        loop = asyncio.get_running_loop()
        idle = [await loop.run_in_executor(None, lambda: stubborn(server.port)) for _ in range(15)]
        try:
            return await asyncio.gather(*(frames(server.port) for _ in range(35)))
        finally:
            for one in idle:
                one.__exit__()

    async def frames(port: int) -> list[int]:
        async with watch(port, "door", window=0) as opened:
            return [(await opened.result())["frame"] for _ in range(40)]

    before = server.memory_mb()
    seen = asyncio.run(story())
    common = set.intersection(*map(set, seen))
    assert len(common) > 1  # they have watched at the same time
    assert all(frames == sorted(set(frames)) for frames in seen)
    assert server.memory_mb() - before < 60


def stubborn(port: int) -> RawSocket:
    """A watcher with a small buffer that reads nothing after its welcome and asks for all results."""
    socket = RawSocket(port, PATH, receive_buffer=2048)
    socket.send_text('{"window": 0}')
    return socket


def test_what_is_refused(server: ServerProcess) -> None:
    async def story() -> dict[str, tuple[int, str]]:
        port = server.port
        return {
            "name": await refusal(port, "{}", path="/cameras/garden/results"),
            "member": await refusal(port, '{"smoothing": true}', path=PATH),
            "window": await refusal(port, '{"window": 65}', path=PATH),
            "binary": await refusal(port, b"{}", path=PATH),
            "query": await refusal(port, "{}", path=f"{PATH}?key=secret"),
            "frame": await after_welcome(b"a picture"),
            "acknowledgement": await after_welcome('{"ack": 100000000}'),
        }

    async def after_welcome(message: str | bytes) -> tuple[int, str]:
        async with watch(server.port, "door", acknowledge=False) as opened:
            await opened.socket.send(message)
            return await opened.ending()

    expected = {
        "name": (4404, "'garden'"),
        "member": (4422, "smoothing"),
        "window": (4422, "window"),
        "binary": (4400, "JSON"),
        "query": (4422, "parameter key"),
        "frame": (4400, "frames of its own"),
        "acknowledgement": (4400, "acknowledged"),
    }
    found = asyncio.run(story())
    assert {case: code for case, (code, _) in found.items()} == {case: code for case, (code, _) in expected.items()}
    assert {case: words in found[case][1] for case, (_, words) in expected.items()} == dict.fromkeys(expected, True)
    plain = httpx.get(f"{server.url}{PATH}")
    assert (plain.status_code, plain.json()["type"]) == (400, "/problems/bad-request")


def test_a_key_is_needed_and_one_that_is_revoked_ends_the_watching(
    tmp_path: Path, catalogue: Path, filmed: HttpCamera
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{digest(KEY)}\n{digest('another')}\n", "utf-8")

    async def story(port: int) -> tuple[int, str]:
        for hello in ("{}", json.dumps({"key": "a guess"})):
            assert (await refusal(port, hello, path=PATH))[0] == 4401
        async with (
            watch(port, "door", key=KEY) as opened,
            watch(port, "door", headers={"X-API-Key": "another"}) as kept,
        ):
            await opened.result()
            keys.write_text(digest("another"), "utf-8")
            running.process.send_signal(signal.SIGHUP)
            ended = await opened.ending()
            await kept.result()
            return ended

    with serving(tmp_path, catalogue, filmed, api_keys_file=keys) as running:
        code, reason = asyncio.run(story(running.port))
    assert (code, "API key" in reason) == (4401, True)


def test_watchers_are_told_before_the_server_goes_down(tmp_path: Path, catalogue: Path, filmed: HttpCamera) -> None:
    async def story(server: ServerProcess) -> tuple[Message, int]:
        async with watch(server.port, "door") as opened:
            await opened.result()
            server.process.send_signal(signal.SIGTERM)
            while (notice := await opened.receive())["type"] != "go_away":
                pass
            await opened.result()
            return notice, (await opened.ending())[0]

    with serving(tmp_path, catalogue, filmed, drain_seconds=1) as running:
        notice, code = asyncio.run(story(running))
        assert running.process.wait(20) == 0
    assert (notice["closes_in_ms"], code) == (1000, 1001)
