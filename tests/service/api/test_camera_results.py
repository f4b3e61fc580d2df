"""WS /cameras/NAME/results with a real server and a real camera on the loopback."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import httpx
import numpy as np

from service.api.security import digest
from tests.camera_servers import HttpCamera, camera_file
from tests.servers import ServerProcess
from tests.service.api.raw import RawSocket
from tests.streaming import Message, Stream, refusal, watch

KEY = "a-long-random-key"
PATH = "/cameras/door/results"


def test_results_are_those_of_streams(cameras: ServerProcess) -> None:
    async def story() -> tuple[Message, Message, Message]:
        async with watch(cameras.port, "door") as text, watch(cameras.port, "door", format="msgpack") as packed:
            found = {message["frame"]: message for message in [await text.result() for _ in range(20)]}
            while (same := await packed.result())["frame"] not in found:
                pass
            return text.welcome, found[same["frame"]], same

    welcome, result, same = asyncio.run(story())
    assert (welcome["camera"], welcome["model"], welcome["window"]) == ("door", "pair", 8)
    assert welcome["zones"] == [{"name": "all", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}]
    assert len(welcome["keypoints"]) == len(result["people"][0]["keypoints"])
    assert (result["width"], result["height"]) == (160, 120)
    assert len({person["id"] for person in result["people"] if person["id"] > 0}) == 2
    assert {"velocity", "age_s"} < result["people"][0].keys()
    assert result["timing_ms"].keys() > {"infer", "track", "serialise"}
    assert result["age_ms"] > 0
    for member in ("id", "box", "keypoints", "velocity", "age_s"):
        packed, text = ([person[member] for person in message["people"]] for message in (same, result))
        np.testing.assert_allclose(packed, text, atol=1e-3)
    assert same["timestamp"] == result["timestamp"]


def test_everybody_is_told_that_the_camera_is_lost_and_that_it_is_back(
    cameras: ServerProcess, filmed: HttpCamera
) -> None:
    async def story() -> tuple[Message, Message]:
        async with watch(cameras.port, "door") as opened:
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


def test_watchers_who_never_read_hold_up_nobody(cameras: ServerProcess) -> None:
    async def story() -> list[list[int]]:
        loop = asyncio.get_running_loop()
        idle = [await loop.run_in_executor(None, lambda: stubborn(cameras.port)) for _ in range(15)]
        try:
            return await asyncio.gather(*(frames(cameras.port) for _ in range(35)))
        finally:
            for one in idle:
                one.__exit__()

    async def frames(port: int) -> list[int]:
        async with watch(port, "door", window=0) as opened:
            return [(await opened.result())["frame"] for _ in range(40)]

    before = cameras.memory_mb()
    seen = asyncio.run(story())
    common = set.intersection(*map(set, seen))
    assert len(common) > 1  # they have watched at the same time
    assert all(frames == sorted(set(frames)) for frames in seen)
    assert cameras.memory_mb() - before < 60


def stubborn(port: int) -> RawSocket:
    """A watcher with a small buffer that reads nothing after its welcome and asks for all results."""
    socket = RawSocket(port, PATH, receive_buffer=2048)
    socket.send_text('{"window": 0}')
    return socket


def test_what_is_refused(cameras: ServerProcess) -> None:
    async def story() -> dict[str, tuple[int, str]]:
        port = cameras.port
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
        async with watch(cameras.port, "door", acknowledge=False) as opened:
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
    plain = httpx.get(f"{cameras.url}{PATH}")
    assert (plain.status_code, plain.json()["type"]) == (400, "/problems/bad-request")


def test_watchers_are_told_of_a_pause_and_end_with_a_change_or_removal(
    tmp_path: Path, catalogue: Path, filmed: HttpCamera
) -> None:
    async def story(server: ServerProcess) -> list[tuple[int, str]]:
        async with httpx.AsyncClient(base_url=server.url, headers={"x-api-key": KEY}, timeout=60) as client:

            async def put(**options: object) -> None:
                answer = await client.put("/cameras/hall", json={"source": filmed.url, **options})
                assert answer.is_success, answer.text

            async def state(opened: Stream, name: str) -> None:
                while (await opened.receive()).get("state") != name:
                    pass

            await put()
            async with watch(server.port, "hall", key=KEY) as opened:
                await opened.result()
                await client.post("/cameras/hall/pause")
                await state(opened, "paused")
                answer = await client.get("/cameras/hall/picture.jpg")
                assert (answer.status_code, answer.json()["detail"]) == (503, "the camera hall is paused")
                await client.post("/cameras/hall/resume")
                await state(opened, "live")
                await opened.result()
                await put(fps=5)
                changed = await opened.ending()
            async with watch(server.port, "hall", key=KEY) as opened:
                await opened.result()
                await client.delete("/cameras/hall")
                return [changed, await opened.ending()]

    environment = {"api_keys": f"admin:{digest(KEY)}", "camera_hosts": "127.0.0.1"}
    with ServerProcess("--model", "pair", catalogue=catalogue, environment=environment) as running:
        (changed, why), (removed, _) = asyncio.run(story(running))
    assert (changed, removed) == (1012, 4404)
    assert "entry has changed" in why


def test_watchers_end_with_their_key_and_are_told_before_the_server_goes_down(
    tmp_path: Path, catalogue: Path, filmed: HttpCamera
) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"{digest(KEY)}\n{digest('another')}\n", "utf-8")

    async def story(server: ServerProcess) -> tuple[tuple[int, str], Message, int]:
        port = server.port
        for hello in ("{}", json.dumps({"key": "a guess"})):
            assert (await refusal(port, hello, path=PATH))[0] == 4401
        by_header = watch(port, "door", headers={"X-API-Key": "another"})
        async with watch(port, "door", key=KEY) as opened, by_header as kept:
            await opened.result()
            keys.write_text(digest("another"), "utf-8")
            server.process.send_signal(signal.SIGHUP)
            revoked = await opened.ending()
            await kept.result()
            server.process.send_signal(signal.SIGTERM)
            while (notice := await kept.receive())["type"] != "go_away":
                pass
            await kept.result()
            return revoked, notice, (await kept.ending())[0]

    environment = {"cameras": camera_file(tmp_path, filmed.url), "api_keys_file": keys, "drain_seconds": 1}
    with ServerProcess("--model", "pair", catalogue=catalogue, environment=environment) as running:
        (code, reason), notice, last = asyncio.run(story(running))
        assert running.process.wait(60) == 0
    assert (code, "API key" in reason) == (4401, True)
    assert (notice["closes_in_ms"], last) == (1000, 1001)
