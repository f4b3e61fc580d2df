"""Events of real server processes: of streams and cameras, through kill -9, to sinks that are away."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
from contextlib import closing, suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

import httpx
from click.testing import CliRunner
from websockets.exceptions import WebSocketException

from service.cli.main import main
from service.events.journal_file import FILE, FOLDER
from tests.camera_servers import HttpCamera
from tests.mosquitto import Mosquitto, Subscriber
from tests.servers import ServerProcess
from tests.service.events.happenings import on_loop
from tests.service.events.receiver import Receiver
from tests.service.events.sinks.test_ndjson import lines
from tests.streaming import stream
from tests.waiting import until, wait_for

ZONE = {"name": "everywhere", "polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}


def served(folder: Path, catalogue: Path, text: str) -> ServerProcess:
    """A server with this text as its file of cameras and sinks."""
    path = folder / "cameras.toml"
    path.write_text(text, "utf-8")
    settings = {"data": folder / "data", "cameras": path, "service_ms": 1}
    return ServerProcess("--model", "pair", catalogue=catalogue, environment=settings, module="tests.slow_server")


def journaled(folder: Path) -> list[tuple[str, str]]:
    """The source and id of each event in the journal, whose server was killed."""
    with closing(sqlite3.connect(folder / "data" / FOLDER / FILE)) as base:
        return base.execute("SELECT source, id FROM events ORDER BY seq").fetchall()


def metrics_of(server: ServerProcess) -> str:
    return httpx.get(f"{server.url}/metrics", timeout=30).text


def tail(folder: Path, *options: str) -> list[dict[str, Any]]:
    """What `posewire events tail` prints."""
    done = CliRunner().invoke(
        main, ["events", "tail", "--data", str(folder / "data"), *options], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


async def film(port: int, jpeg: bytes, told: list[dict[str, Any]]) -> None:
    """Open one stream after the other until the server is gone. told: gets the events of their results."""
    with suppress(OSError, EOFError, WebSocketException):
        while True:
            async with stream(port, zones=[ZONE]) as opened:
                told += (await opened.ask(jpeg))["events"]


@on_loop
async def test_what_results_told_of_survives_kill_9_and_arrives_in_order(
    tmp_path: Path, catalogue: Path, jpeg: bytes
) -> None:
    told: list[dict[str, Any]] = []
    async with Receiver() as receiver:
        await receiver.refuse()
        text = f"[sinks.hook]\ntype = 'webhook'\nurl = '{receiver.url}'\n"
        with served(tmp_path, catalogue, text) as server:
            filming = [asyncio.create_task(film(server.port, jpeg, told)) for _ in range(2)]
            await until(lambda: len(told) >= 12)
            server.process.send_signal(signal.SIGKILL)
            await asyncio.gather(*filming)
            server.process.wait()
        kept = journaled(tmp_path)
        assert len(kept) >= len(told) >= 12  # a result leaves after its events were acknowledged
        await receiver.listen()
        with served(tmp_path, catalogue, text) as server:
            await until(lambda: len(receiver.accepted) >= len(kept))
            await until(lambda: 'posewire_events_waiting{sink="hook"} 0.0' in metrics_of(server))
            metrics = metrics_of(server)
    arrived = [(request.event["source"], request.event["id"]) for request in receiver.accepted]
    assert sorted(arrived) == sorted(kept)
    assert sorted(arrived, key=itemgetter(0)) == sorted(kept, key=itemgetter(0))  # those of each source in order
    assert f'posewire_events_delivered_total{{sink="hook"}} {len(kept)}.0' in metrics
    assert "posewire_events_journal_up" in metrics
    first = receiver.accepted[0].event
    assert first["type"] == "posewire.enter"
    assert first["source"].startswith("streams/")
    assert set(first["data"]) == {"name", "id", "width", "height", "box"}
    assert [(event["source"], event["id"]) for event in tail(tmp_path)] == kept
    assert [event["id"] for event in tail(tmp_path, "-n", "3", "--kind", "enter")] == [id_ for _, id_ in kept[-3:]]
    assert tail(tmp_path, "--source", "cameras/*") == []


def test_a_camera_tells_by_mqtt_and_by_default_no_picture_leaves_memory(tmp_path: Path, catalogue: Path) -> None:
    files = {name: tmp_path / f"{name}.ndjson" for name in ("plain", "pictures")}
    with HttpCamera() as camera, Mosquitto(tmp_path) as broker, Subscriber(broker.port) as heard:
        zone = f"zones = [{{ name = 'everywhere', polygon = {ZONE['polygon']} }}]"
        text = f"""
[cameras.plain]
source = "{camera.url}"
{zone}

[cameras.pictures]
source = "{camera.url}"
pictures = true
{zone}

[sinks.home]
type = "mqtt"
url = "{broker.url}"
keypoints = true
"""
        for name, path in files.items():
            text += f"\n[sinks.{name}]\ntype = 'file'\npath = '{path}'\nsources = ['cameras/{name}']\n"
        with served(tmp_path, catalogue, text) as server:
            wait_for(lambda: all(path.exists() and len(lines(path)) >= 2 for path in files.values()))
            wait_for(lambda: heard.last("posewire/cameras/plain/availability") == "online")
            wait_for(lambda: len(heard.on("posewire/cameras/plain/events")) >= 2)
            wait_for(lambda: heard.on("posewire/cameras/plain/state")[-1]["people"] == 2)
            stored = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
            bytes_of = {path.name: path.read_bytes() for path in (*stored, *files.values())}
            assert server.process.poll() is None
        assert heard.last("posewire/cameras/plain/availability") is not None
    assert FILE in bytes_of
    for name, content in bytes_of.items():
        assert b"\xff\xd8\xff" not in content, f"{name} has a JPEG"
        assert b"base64" not in content
    for event in lines(files["plain"]):
        assert event["source"] == "cameras/plain"
        assert set(event["data"]) == {"name", "id", "width", "height", "box"}
    for event in lines(files["pictures"]):
        assert event["data"]["picture"] == "/cameras/pictures/picture.jpg"
    for event in heard.on("posewire/cameras/plain/events"):
        assert set(event["data"]) == {"name", "id", "width", "height", "box", "skeleton", "keypoints"}
        assert len(event["data"]["keypoints"]) == 17
    assert len(json.dumps(heard.on("posewire/cameras/plain/events"))) < 10_000 * len(heard.messages)


def test_sinks_are_changed_at_sighup_and_a_broken_file_changes_nothing(tmp_path: Path, catalogue: Path) -> None:
    def sink(name: str) -> str:
        return f"[sinks.{name}]\ntype = 'file'\npath = '{tmp_path / name}.ndjson'\n"

    def reload(text: str, said: str) -> None:
        (tmp_path / "cameras.toml").write_text(text, "utf-8")
        before = len(server.log)
        server.process.send_signal(signal.SIGHUP)
        wait_for(lambda: any(said in line for line in server.log[before:]))

    with HttpCamera() as camera:
        door = f"[cameras.door]\nsource = '{camera.url}'\nzones = [{{ name = 'z', polygon = {ZONE['polygon']} }}]\n"
        with served(tmp_path, catalogue, door) as server:
            reload(door + sink("a"), "served now")
            reload(door + sink("a") + "[sinks.b]\ntype = 'webhook'\n", "sinks.b.webhook.url: Field required")
            reload(
                door.replace("'z'", "'y'") + sink("a"), "served now"
            )  # other zones: a new session, whose people enter
            wait_for(lambda: (tmp_path / "a.ndjson").exists())
    assert {event["data"]["name"] for event in lines(tmp_path / "a.ndjson")} == {"y"}
