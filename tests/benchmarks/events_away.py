"""Sinks that are away for long, while cameras go on and their server is killed in the middle (issue 17, goal 3)."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import orjson
from redis import Redis
from websockets.exceptions import WebSocketException

from service.events.journal_file import FILE, FOLDER
from tests.benchmarks.goals import goal
from tests.benchmarks.report import Row
from tests.deployment.camera_fleet import EVENT_OPTIONS
from tests.deployment.marked import BLOCK, marked_catalogue
from tests.deployment.scene_cameras import SceneCameras
from tests.mosquitto import Mosquitto, Subscriber
from tests.redis_servers import RedisProcess
from tests.servers import ServerProcess
from tests.service.events.receiver import Receiver
from tests.streaming import watch

_CAMERAS, _FPS, _PEOPLE = 2, 2.0, 3
_CATCH_UP_S = 300.0

Told = tuple[str, str]
"""The source and the id of an event."""


async def measure(seconds: float) -> list[Row]:
    """Keep a webhook, an MQTT broker and a Redis away for so long. Then compare what they get with the journal."""
    watched: Counter[tuple[object, ...]] = Counter()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        receiver = await Receiver().__aenter__()
        await receiver.refuse()
        broker, base = Mosquitto(folder), RedisProcess(folder)
        cameras = stack.enter_context(SceneCameras(_CAMERAS, fps=_FPS))
        cameras.present = _PEOPLE
        (folder / "cameras.toml").write_text(cameras.toml(EVENT_OPTIONS) + _sinks(receiver, broker, base), "utf-8")
        before = await asyncio.to_thread(_serve, folder)
        watching = [asyncio.create_task(_watch(before, camera, watched)) for camera in cameras.scenes]
        await asyncio.sleep(seconds / 2)
        before.process.kill()
        await asyncio.gather(*watching)
        known = Counter(_told(folder))
        before.__exit__(None, None, None)
        server = await asyncio.to_thread(_serve, folder)
        stack.callback(server.__exit__, None, None, None)
        await asyncio.sleep(seconds / 2)
        server.process.send_signal(signal.SIGSTOP)  # so that nothing is published before somebody has subscribed
        stack.enter_context(broker)
        stack.enter_context(base)
        heard = stack.enter_context(Subscriber(broker.port, "posewire/cameras/+/events"))
        await receiver.listen()
        await asyncio.sleep(1)
        waited = len(_journaled(folder))
        server.process.send_signal(signal.SIGCONT)
        began = asyncio.get_running_loop().time()

        def got() -> dict[str, list[Told]]:
            told = [orjson.loads(payload) for _, payload in list(heard.messages)]
            return {
                "webhook": [(request.event["source"], request.event["id"]) for request in receiver.accepted],
                "MQTT": [(event["source"], event["id"]) for event in told],
                "Redis": _in_stream(base),
            }

        done: dict[str, float] = {}
        while len(done) < len(got()) and asyncio.get_running_loop().time() < began + _CATCH_UP_S:
            await asyncio.sleep(0.5)
            for sink, told in got().items():
                if sink not in done and len(set(told)) >= waited:
                    done[sink] = asyncio.get_running_loop().time() - began
        for _ in range(20):  # cameras go on until the end of the server, which hands over what it has
            await asyncio.sleep(0.5)
            if all(set(told) >= set(_journaled(folder)) for told in got().values()):
                break
        kept, results = _journaled(folder)[:waited], got()
        await receiver.refuse()
    rows: list[Row] = [goal("told to a watcher before kill -9, not in the journal", (watched - known).total(), "=", 0)]
    for sink, told in results.items():
        wrong = {"missing": len(set(kept) - set(told)), "out of order": _disordered(kept, told)}
        row: Row = {"sink": sink, "away s": seconds, "events": waited, "twice": len(told) - len(set(told))}
        rows.append(row | {"all there after s": round(done.get(sink, float("nan")), 1)})
        rows += [goal(f"{sink}: {what}", number, "=", 0) for what, number in wrong.items()]
    return rows


def _sinks(receiver: Receiver, broker: Mosquitto, base: RedisProcess) -> str:
    urls = {"webhook": receiver.url, "mqtt": broker.url, "redis": base.url}
    return "".join(f'\n[sinks.{kind}]\ntype = "{kind}"\nurl = "{url}"\n' for kind, url in urls.items())


def _serve(folder: Path) -> ServerProcess:
    settings = {"data": folder / "data", "cameras": folder / "cameras.toml", "trackers": 1}
    catalogue = marked_catalogue(folder, BLOCK)
    return ServerProcess("--model", "marked", catalogue=catalogue, environment=settings).__enter__()


async def _watch(server: ServerProcess, camera: str, told: Counter[tuple[object, ...]]) -> None:
    """Count the events that a watcher is told of, until the server is gone."""
    with suppress(OSError, EOFError, WebSocketException):
        async with watch(server.port, camera) as opened:
            while True:
                for event in (await opened.result()).get("events", ()):
                    told[f"cameras/{camera}", event["kind"], event["name"], event["id"]] += 1


def _rows(folder: Path) -> list[tuple[str, str, str, bytes]]:
    with closing(sqlite3.connect(folder / "data" / FOLDER / FILE)) as base:
        return base.execute("SELECT source, id, kind, data FROM events ORDER BY seq").fetchall()


def _journaled(folder: Path) -> list[Told]:
    return [(source, number) for source, number, _, _ in _rows(folder)]


def _told(folder: Path) -> Iterable[tuple[object, ...]]:
    for source, _, kind, text in _rows(folder):
        data = orjson.loads(text)
        yield source, kind, data["name"], data["id"]


def _in_stream(base: RedisProcess) -> list[Told]:
    with Redis.from_url(base.url, decode_responses=True) as redis:
        return [(fields["source"], fields["id"]) for _, fields in redis.xrange("posewire:events")]


def _disordered(kept: Sequence[Told], told: Sequence[Told]) -> int:
    """The number of cameras whose events came in another order than they have in the journal, repetitions aside."""
    expected, found = defaultdict(list), defaultdict(list)
    for source, number in kept:
        expected[source].append(number)
    for source, number in dict.fromkeys(told):
        found[source].append(number)
    return sum(found[source][: len(numbers)] != numbers for source, numbers in expected.items())
