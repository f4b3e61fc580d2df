"""WS /stream between a client and a real server: hellos, frames and their answers."""

from __future__ import annotations

import asyncio
import json
import re
import struct
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from tests.pictures import encoded, photo
from tests.servers import ServerProcess
from tests.streaming import refusal, stream
from tests.waiting import wait_for


def counted(server: ServerProcess, metric: str, **labels: str) -> float:
    """Return the sum of a metric over the labels that are not given."""
    text = httpx.get(f"{server.url}/metrics").text
    lines = re.findall(rf"^posewire_{metric}(\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return sum(float(value) for names, value in lines if all(f'{k}="{v}"' in names for k, v in labels.items()))


def test_a_stream_gets_a_welcome_and_every_frame_a_result(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
        async with stream(live.port, model="pair") as opened:
            return opened.welcome, [await opened.ask(jpeg) for _ in range(3)]

    welcome, results = asyncio.run(scenario())
    assert (welcome["model"], welcome["skeleton"], welcome["resumed"], welcome["window"]) == (
        "pair",
        "coco-17",
        False,
        8,
    )
    assert welcome["keypoints"][:2] == ["nose", "left_eye"]
    assert [result["frame"] for result in results] == [0, 1, 2]
    for result in results:
        assert (result["type"], result["width"], result["height"], result["dropped"]) == ("result", 640, 480, 0)
        assert [person["id"] for person in result["people"]] == [1, 2]
        assert len(result["people"][0]["keypoints"]) == 17
        assert 20 < result["age_ms"] < 5000
        assert set(result["timing_ms"]) == {"queue", "prepare", "infer", "decode", "track", "serialise"}
    assert all(result["token"] for result in results)


def test_a_frame_has_the_same_people_as_a_still_image(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> Mapping[str, Any]:
        async with stream(live.port, model="pair") as opened:
            return await opened.ask(jpeg)

    still = httpx.post(f"{live.url}/pose?model=pair", content=jpeg).json()["people"]
    frame_people = [{k: v for k, v in person.items() if k != "id"} for person in asyncio.run(scenario())["people"]]
    assert frame_people == still


@pytest.mark.parametrize("chosen", [{"subprotocols": ["posewire.msgpack.v1"]}, {"format": "msgpack"}])
def test_msgpack_has_the_same_content_as_json(live: ServerProcess, jpeg: bytes, chosen: dict[str, Any]) -> None:
    async def scenario(**options: Any) -> tuple[Mapping[str, Any], str | None]:
        async with stream(live.port, **options) as opened:
            return await opened.ask(jpeg), opened.socket.subprotocol

    (as_json, _), (as_msgpack, subprotocol) = asyncio.run(scenario()), asyncio.run(scenario(**chosen))
    assert subprotocol == chosen.get("subprotocols", [None])[0]
    assert as_msgpack.keys() == as_json.keys()
    for a, b in zip(as_msgpack["people"], as_json["people"], strict=True):
        assert a["id"] == b["id"]
        assert a["box"] == pytest.approx(b["box"])


def test_results_repeat_the_timestamps(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> list[Mapping[str, Any]]:
        async with stream(live.port, timestamps=True) as opened:
            return [await opened.ask(jpeg, stamp) for stamp in (1e12 + 0.25, 5.0, 5.0)]

    assert [result["timestamp"] for result in asyncio.run(scenario())] == [1e12 + 0.25, 5.0, 5.0]


def test_the_url_may_name_the_model(live: ServerProcess) -> None:
    async def scenario() -> str:
        async with stream(live.port, path="/stream?model=tiny") as opened:
            return str(opened.welcome["model"])

    assert asyncio.run(scenario()) == "tiny"


def test_a_hello_chooses_skeleton_score_and_number_of_people(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario(**hello: Any) -> list[dict[str, Any]]:
        async with stream(live.port, model="pair", **hello) as opened:
            return list((await opened.ask(jpeg))["people"])

    assert len(asyncio.run(scenario(max_people=1))) == 1
    assert asyncio.run(scenario(min_score=1)) == []
    assert len(asyncio.run(scenario(skeleton="coco-17"))[0]["keypoints"]) == 17


def test_extras_and_zones_add_velocities_ages_and_events(live: ServerProcess, jpeg: bytes) -> None:
    square = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
    line = {"name": "door", "start": [0.5, 0], "end": [0.5, 1]}

    async def scenario() -> list[Mapping[str, Any]]:
        zones = [{"name": "left", "polygon": square}]
        async with stream(live.port, model="pair", extras=True, zones=zones, lines=[line], smoothing=True) as opened:
            return [await opened.ask(jpeg) for _ in range(3)]

    first, *_, last = asyncio.run(scenario())
    assert first["events"] == [{"kind": "enter", "name": "left", "id": 1}]
    assert last["events"] == []
    for person in last["people"]:
        assert person["age_s"] > 0
        assert len(person["velocity"]) == 2


def test_rules_add_what_people_do(live: ServerProcess, jpeg: bytes) -> None:
    square = [[0, 0], [1, 0], [1, 1], [0, 1]]
    rules = {
        "angles": [{"name": "tilt", "keypoints": ["nose", "neck", "left_hip"]}],
        "repetitions": [{"name": "curls", "angle": "left_elbow", "low": 60, "high": 150}],
        "posture": True,
        "occupancy": True,
        "counts": True,
        "speed": {"ground": [[0, 0, 0, 0], [1, 0, 4, 0], [1, 1, 4, 3], [0, 1, 0, 3]]},
    }

    async def scenario() -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
        hello: dict[str, Any] = {"zones": [{"name": "all", "polygon": square}], "rules": rules, "timestamps": True}
        async with stream(live.port, model="pair", **hello) as opened:
            frames = [struct.pack(">d", 1e3 + 100 * n) + jpeg for n in range(3)]
            seen: list[Mapping[str, Any]] = [await opened.ask(frame) for frame in frames]
        async with stream(live.port, model="pair", **hello, resume=seen[-1]["token"]) as opened:
            return seen, await opened.ask(struct.pack(">d", 1400.0) + jpeg)

    (first, *_, last), resumed = asyncio.run(scenario())
    assert first["counts"] == resumed["counts"] == {"all": {"entered": 2, "left": 0}}
    assert first["occupancy"] == resumed["occupancy"] == {"all": 2}
    for person in (*last["people"], *resumed["people"]):
        assert person["speed"] == 0
        assert person["repetitions"] == {"curls": 0}
        assert person["angles"].keys() <= {"tilt"}


def test_a_bad_frame_gets_an_error_and_the_stream_continues(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> list[Mapping[str, Any]]:
        async with stream(live.port) as opened:
            return [await opened.ask(frame) for frame in (jpeg, b"no picture", jpeg[:2000], jpeg)]

    first, stranger, cut, last = asyncio.run(scenario())
    assert [m["type"] for m in (first, stranger, cut, last)] == ["result", "error", "error", "result"]
    assert stranger["error"]["type"] == "/problems/not-an-image"
    assert cut["error"]["type"] == "/problems/undecodable-image"
    assert [person["id"] for person in last["people"]] == [person["id"] for person in first["people"]]


def test_five_bad_frames_in_a_row_end_a_stream_and_four_do_not(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> tuple[int, str]:
        async with stream(live.port, window=0, acknowledge=False) as opened:
            for frames in (4, 5):
                assert (await opened.ask(jpeg))["type"] == "result"
                for number in range(frames):
                    answer = await opened.ask(b"no picture %d" % number)
                    assert answer["type"] == "error"
            return await opened.ending()

    code, reason = asyncio.run(scenario())
    assert (code, reason) == (4415, "5 frames in a row failed; each had its error message")


def test_frames_may_change_their_size_shape_and_format(live: ServerProcess) -> None:
    frames = [encoded(photo(*size), kind) for size, kind in (
        ((640, 480), "JPEG"), ((1280, 960), "JPEG"), ((480, 640), "WEBP"), ((320, 240), "PNG")
    )]  # fmt: skip

    async def scenario() -> list[Mapping[str, Any]]:
        async with stream(live.port) as opened:
            return [await opened.ask(frame) for frame in frames]

    results = asyncio.run(scenario())
    assert [(r["width"], r["height"]) for r in results] == [(640, 480), (1280, 960), (480, 640), (320, 240)]
    assert [[person["id"] for person in r["people"]] for r in results[:2]] == [[1, 2], [1, 2]]  # the same, larger


@pytest.mark.parametrize(
    ("hello", "code", "reason"),
    [
        ("not json", 4422, "hello: Invalid JSON"),
        ("[]", 4422, "hello: "),
        ('{"colour": "red"}', 4422, "colour: there is no such name here"),
        ('{"window": 1000}', 4422, "window: "),
        ('{"min_score": "high"}', 4422, "min_score: "),
        ('{"zones": [{"name": "a", "polygon": [[0, 0], [1, 1], [0.5, 0.5]]}]}', 4422, "zone 'a' has no area"),
        ('{"rules": {"angles": [{"name": "x", "keypoints": ["a", "b", "c"]}]}}', 4422, "rules: the model's skeleton"),
        ('{"zones": [{"name": "a", "polygon": [[0, 0], [2, 1], [0.5, 0]]}]}', 4422, "zones.0.polygon.1.0: "),
        ('{"lines": [{"name": "a", "start": [0, 0], "end": [0, 0]}]}', 4422, "line 'a' starts and ends"),
        ('{"model": "nope"}', 4404, "'nope' is not served here; served are: pair, tiny"),
        ("{" + " " * 70_000 + "}", 4422, "the hello has more than 64,000 characters"),
        (b"{}", 4400, "the first message is the hello"),
    ],
)
def test_an_invalid_hello_is_refused(live: ServerProcess, hello: str | bytes, code: int, reason: str) -> None:
    assert_refused(asyncio.run(refusal(live.port, hello)), code, reason)


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        ({"path": "/stream?key=secret"}, 4422, "parameter key: only model and session may be in the URL"),
        (
            {"path": "/stream?model=tiny", "hello": '{"model": "pair"}'},
            4422, "model: the hello says pair, the URL tiny",
        ),
        ({"subprotocols": ["chat"]}, 4422, "subprotocol: this server speaks posewire.json.v1 and posewire.msgpack.v1"),
        (
            {"subprotocols": ["posewire.json.v1"], "hello": '{"format": "msgpack"}'},
            4422, "format: msgpack contradicts the subprotocol posewire.json.v1",
        ),
    ],
)  # fmt: skip
def test_a_contradictory_handshake_is_refused_with_a_reason(
    live: ServerProcess, options: dict[str, Any], code: int, reason: str
) -> None:
    assert_refused(asyncio.run(refusal(live.port, **options)), code, reason)


def assert_refused(ending: tuple[int, str], code: int, reason: str) -> None:
    assert ending[0] == code
    assert ending[1].startswith(reason[:123])


def test_plain_http_gets_an_explanation(live: ServerProcess) -> None:
    answer = httpx.get(f"{live.url}/stream")
    assert answer.status_code == 400
    assert "this is a websocket" in answer.json()["detail"]


def test_metrics_and_the_log_count_streams(live: ServerProcess, jpeg: bytes) -> None:
    async def scenario() -> None:
        async with stream(live.port) as opened:
            assert counted(live, "streams") >= 1
            for frame in (jpeg, b"broken", jpeg):
                await opened.ask(frame)

    names = ("received", "served", "failed")
    before = [counted(live, "stream_frames_total", outcome=name) for name in names]
    asyncio.run(scenario())
    after = [counted(live, "stream_frames_total", outcome=name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 2, 1]
    assert counted(live, "stream_age_seconds_count") >= 2
    wait_for(lambda: counted(live, "stream_closes_total", code="1000") >= 1)
    wait_for(lambda: any('"WS /stream 1000"' in line for line in live.log))
    line = json.loads(next(line for line in live.log if '"WS /stream 1000"' in line))
    assert line["status"] == 1000
    assert line["request_id"]


def test_a_websocket_at_another_path_is_referred_to_the_documentation(live: ServerProcess) -> None:
    async def scenario() -> Response:
        with pytest.raises(InvalidStatus) as raised:
            await connect(f"ws://127.0.0.1:{live.port}/streams")
        return raised.value.response

    answer = asyncio.run(scenario())
    assert answer.status_code == 404
    assert "there is no websocket at /streams" in json.loads(answer.body)["detail"]
