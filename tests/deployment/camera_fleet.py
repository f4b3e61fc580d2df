"""Replicas that share cameras by a Redis, and somebody who watches all cameras at one of them and knows the people."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx
from redis import Redis

from service.cameras.saved_session import SavedSession
from service.events.event import event_id
from tests.deployment.crowd import ARRIVALS, Scene, identities
from tests.deployment.marked import BLOCK, marked_catalogue
from tests.deployment.scene_cameras import SceneCameras
from tests.redis_servers import RedisProcess
from tests.servers import ServerProcess
from tests.streaming import Message, watch

_PATIENCE_S = 300.0
EVENT_OPTIONS = """detect_every = 0
zones = [{name = "room", polygon = [[0, 0], [1, 0], [1, 1], [0, 1]]}]
lines = [
    {name = "left", start = [0.195, 0], end = [0.195, 1]}, {name = "middle", start = [0.5, 0], end = [0.5, 1]},
    {name = "right", start = [0.805, 0], end = [0.805, 1]},
]
"""
"""Everybody enters the room once, and sways over a line again and again."""
_SINK = """
[sinks.all]
type = "file"
path = "{path}"
"""


class CameraFleet:
    """Real server processes with one file of cameras. A context manager. fps: of the cameras."""

    def __init__(self, folder: Path, replicas: int = 3, cameras: int = 12, *, fps: float = 3.0) -> None:
        self.redis = RedisProcess(folder)
        self.scenes = SceneCameras(cameras, fps=fps)
        self.replicas: list[ServerProcess] = []
        self._folder = folder
        self._number = replicas

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.redis)
            stack.enter_context(self.scenes)
            stack.callback(self._stop_all)
            self._catalogue = marked_catalogue(self._folder, BLOCK)
            with ThreadPoolExecutor() as pool:
                self.replicas += pool.map(self._start, range(self._number))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def live(self) -> list[ServerProcess]:
        """The replicas whose process has not ended."""
        return [replica for replica in self.replicas if replica.process.poll() is None]

    def documents(self) -> list[dict[str, Any]]:
        """What GET /cameras answers at the first live replica."""
        response = httpx.get(f"{self.live[0].url}/cameras", timeout=60)
        cameras: list[dict[str, Any]] = response.raise_for_status().json()["cameras"]
        return cameras

    def owner_of_each(self) -> dict[str, str]:
        """The replica that serves each camera."""
        return {camera["name"]: camera["replica"] for camera in self.documents()}

    def owners(self) -> Counter[str]:
        """How many cameras each replica serves, of those that are live."""
        return Counter(camera["replica"] for camera in self.documents() if camera["state"] == "live")

    def spread(self) -> bool:
        """All cameras are live, and each replica has as many as the others, or one more or less."""
        owners = self.owners()
        even = max(owners.values(), default=0) - min(owners.values(), default=0) <= 1
        return even and len(owners) == len(self.live) and owners.total() == len(self.scenes.scenes)

    def wrong_events(self) -> list[str]:
        """What is wrong with the events that sinks have got: some are missing, or two have one id.

        Every camera's events of a kind, place and person are numbered from 1. Nothing is missing if their ids are those
        of the first numbers.
        """
        ids: dict[tuple[str, ...], set[str]] = defaultdict(set)
        known: dict[str, tuple[str, ...]] = {}
        wrong = []
        for path in self._folder.glob("events-*.ndjson"):
            for line in path.read_text("utf-8").splitlines(keepends=True):
                if not line.endswith("\n"):  # it is being written
                    continue
                event = json.loads(line)
                data = event["data"]
                what = (event["source"], event["kind"], data["name"], str(data["id"]))
                ids[what].add(event["id"])
                if known.setdefault(event["id"], what) != what:
                    wrong.append(f"{event['id']} is of {what} and of {known[event['id']]}")
        with Redis.from_url(self.redis.url) as base:
            for (source, kind, name, person), found in ids.items():
                stored = base.hget(f"posewire:session:camera:{source.removeprefix('cameras/')}", "state")
                assert isinstance(stored, bytes)
                session = SavedSession.unpack(stored).id
                if found != {event_id(session, kind, name, person, number) for number in range(1, len(found) + 1)}:
                    wrong.append(
                        f"{source}: {kind} {name} {person} has {len(found)} ids, and not those of the first numbers"
                    )
        entered = sum(len(found) for (_, kind, *_), found in ids.items() if kind == "enter")
        if entered != len(self.scenes.scenes) * self.scenes.present:
            wrong.append(f"{entered} have entered")
        return wrong

    def restart(self, number: int) -> None:
        """Start a replica again after its process has ended."""
        self.replicas[number].__exit__(None, None, None)
        self.replicas[number] = self._start(number)

    def _start(self, number: int) -> ServerProcess:
        file = self._folder / f"cameras-{number}.toml"
        sink = _SINK.format(path=self._folder / f"events-{number}.ndjson")
        file.write_text(self.scenes.toml(EVENT_OPTIONS) + sink, "utf-8")
        environment = {
            "redis_url": self.redis.url,
            "cameras": file,
            "data": self._folder / f"data-{number}",
            "trackers": 1,
            "drain_seconds": 1,
        }
        return ServerProcess("--model", "marked", catalogue=self._catalogue, environment=environment).__enter__()

    def _stop_all(self) -> None:
        for replica in self.replicas:
            replica.process.kill()
        for replica in self.replicas:
            replica.__exit__(None, None, None)


@dataclass(slots=True)
class Seen:
    """What somebody sees of one camera.

    known: ids by person. lost: results that gave a person another id, or none. heard, newest: how many results there
    were, and the time of the last one's frame, seconds since 1970. silences: seconds between two results.
    """

    scene: Scene
    known: dict[int, int] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    heard: int = 0
    newest: float = 0.0
    silences: list[float] = field(default_factory=list)
    _before: float = 0.0

    def take(self, result: Message) -> None:
        """Compare a result with the scene."""
        self.newest = result["timestamp"] / 1e3
        told = identities(self.scene, self.newest, ((person["box"], person["id"]) for person in result["people"]))
        for person, identity in told.items():
            if identity > 0 and self.known.setdefault(person, identity) != identity:
                self.lost.append(f"{person} was {self.known[person]} and is {identity}")
        self.lost += [f"{person} is not there" for person in self.known if told.get(person, 0) < 1]
        self.heard += 1
        now = time.monotonic()
        if self._before:
            self.silences.append(now - self._before)
        self._before = now


class Onlooker:
    """Watches all cameras at one replica, which must not end. An asynchronous context manager."""

    def __init__(self, fleet: CameraFleet, replica: int = 0) -> None:
        self.seen = {name: Seen(scene) for name, scene in fleet.scenes.scenes.items()}
        self._fleet = fleet
        self._port = fleet.replicas[replica].port
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._watch(name, seen)) for name, seen in self.seen.items()]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                raise outcome

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition, and fail at once if a watcher was cut off."""
        stop = time.monotonic() + _PATIENCE_S
        while not await asyncio.to_thread(condition):
            assert time.monotonic() < stop, "it did not come to pass"
            assert not any(task.done() for task in self._tasks), "somebody who watches was cut off"
            await asyncio.sleep(0.3)

    async def let_in(self, people: int) -> None:
        """Let people come before all cameras, one after the other, until each has an id."""
        for number in range(self._fleet.scenes.present, people + 1):
            self._fleet.scenes.present = number
            await self.until(partial(self._all_know, number))

    def _all_know(self, people: int) -> bool:
        return all(len(seen.known) == people for seen in self.seen.values())

    async def go_on(self) -> None:
        """Wait until every camera has results of new frames."""
        now, before = time.time(), {name: seen.heard for name, seen in self.seen.items()}
        await self.until(
            lambda: all(seen.newest > now and seen.heard >= before[name] + 2 for name, seen in self.seen.items())
        )

    def lost(self) -> dict[str, Sequence[str]]:
        """The identities that were lost, by camera."""
        return {name: seen.lost for name, seen in self.seen.items() if seen.lost}

    def ids(self) -> set[tuple[int, ...]]:
        """The ids of the people in the order of their arrival, of all cameras."""
        return {tuple(seen.known[person] for person in ARRIVALS) for seen in self.seen.values()}

    async def _watch(self, name: str, seen: Seen) -> None:
        async with watch(self._port, name) as opened:
            while True:
                seen.take(await opened.result())
