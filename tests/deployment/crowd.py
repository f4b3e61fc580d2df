"""Simulated cameras and clients of stills, which know the correct results and count wrong and lost ones."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np

from service.client import AsyncClient, ClientError, Stream, StreamResult
from tests.deployment.marked import SIZE, picture
from tests.people import standing
from tests.waiting import until

_HOMES = ((50, 128), (128, 120), (206, 136))
_REACH = 6.0  # pixels
HEIGHT = 90.0  # pixels
SCORES = (0.9, 0.85, 0.8)
ARRIVALS = (2, 0, 1)
"""The order in which people appear. A new tracker would number them by score, which is another order."""
_TIMEOUT_S = 30.0
"""Timeout of all clients: with forty cameras and starting replicas, two cores may be busy for seconds."""


class Scene:
    """Three people who sway about fixed positions, with different periods in each scene."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._periods, self._phases = rng.uniform(6, 12, (3, 2)), rng.uniform(0, 2 * np.pi, (3, 2))

    def places(self, at: float) -> list[tuple[float, float]]:
        """Return the centre of each person at a time in seconds."""
        sway = _REACH * np.sin(2 * np.pi * at / self._periods + self._phases)
        return [(x + dx, y + dy) for (x, y), (dx, dy) in zip(_HOMES, sway.tolist(), strict=True)]

    def picture(self, at: float, who: Sequence[int]) -> bytes:
        """Return the picture at a time, with only the people `who`."""
        places = self.places(at)
        return picture([(standing(*places[n], HEIGHT), SCORES[n]) for n in who])


@dataclass(slots=True)
class Camera:
    """A stream of a scene.

    known: ids by person. lost: how many results gave a person another id or none. heard, newest: how many results
    there were, and the timestamp of the last. gaps: seconds of each gap. silences: seconds between two results.
    resumed: the silences in which the connection was lost. problem: why the stream ended too early.
    """

    scene: Scene
    known: dict[int, int] = field(default_factory=dict)
    lost: int = 0
    heard: int = 0
    newest: float = 0.0
    gaps: list[float] = field(default_factory=list)
    silences: list[float] = field(default_factory=list)
    resumed: list[float] = field(default_factory=list)
    problem: str = ""

    async def run(self, client: AsyncClient, fps: float, phase: float, stop: asyncio.Event) -> None:
        """Send frames and check the results until `stop` is set."""
        try:
            async with client.stream() as stream:
                filming = asyncio.create_task(self._film(stream, fps, phase, stop))
                await self._listen(stream)
                await filming
        except ClientError as error:
            self.problem = str(error)

    async def _film(self, stream: Stream, fps: float, phase: float, stop: asyncio.Event) -> None:
        due, frames = time.monotonic() + phase / fps, 0
        try:
            while not stop.is_set():
                await asyncio.sleep(due - time.monotonic())
                now = time.time()
                # The next person appears when the one before has an id.
                await stream.send(self.scene.picture(now, ARRIVALS[: len(self.known) + 1]), 1e3 * now)
                frames += 1
                due = max(due + 1 / fps, time.monotonic())
        except ClientError:
            pass  # `_listen` gets the same error
        finally:
            stream.finish()

    async def _listen(self, stream: Stream) -> None:
        before = time.monotonic()
        async for result in stream:
            now = time.monotonic()
            self.silences.append(now - before)
            before = now
            if result.gap is not None:
                self.gaps.append(result.gap.seconds)
                self.resumed.append(self.silences[-1])
            if not result.problem:
                self._check(result)

    def _check(self, result: StreamResult) -> None:
        assert result.timestamp is not None
        told = identities(self.scene, result.timestamp / 1e3, ((p.box, p.id or 0) for p in result.people))
        for person, identity in told.items():
            if identity > 0:
                self.lost += self.known.setdefault(person, identity) != identity
        self.lost += sum(person not in told or told[person] < 1 for person in self.known)
        self.heard += 1
        self.newest = result.timestamp / 1e3


def identities(scene: Scene, at: float, found: Iterable[tuple[Sequence[float], int]]) -> dict[int, int]:
    """Return the id of each person of a scene by position at that time. found: boxes and ids."""
    places = np.array(scene.places(at))
    told: dict[int, int] = {}
    for (left, top, right, bottom), identity in found:
        away = np.hypot(*(places - ((left + right) / 2, (top + bottom) / 2)).T)
        told[int(away.argmin())] = identity
    return told


@dataclass(slots=True)
class Asker:
    """A client of stills. wrong: how many results have other people than the picture."""

    scene: Scene
    answered: int = 0
    wrong: int = 0
    failures: list[str] = field(default_factory=list)
    slowest: float = 0.0

    async def run(self, client: AsyncClient, rate: float, phase: float, stop: asyncio.Event) -> None:
        """Send pictures until `stop` is set."""
        await asyncio.sleep(phase / rate)
        while not stop.is_set():
            started = time.monotonic()
            try:
                result = await client.pose(self.scene.picture(started, (0, 1, 2)))
            except ClientError as error:
                self.failures.append(str(error))
            else:
                self.answered += 1
                self.wrong += (result.width, len(result.people)) != (SIZE, 3)
            took = time.monotonic() - started
            self.slowest = max(self.slowest, took)
            await asyncio.sleep(max(0.0, 1 / rate - took))


class Crowd:
    """Many cameras and clients of stills at once. An asynchronous context manager.

    fps: frames a second of each camera. rate: stills a second of each client.
    """

    def __init__(self, url: str, *, cameras: int = 40, askers: int = 20, fps: float = 2.0, rate: float = 0.5) -> None:
        self.cameras = [Camera(Scene(n)) for n in range(cameras)]
        self.askers = [Asker(Scene(1000 + n)) for n in range(askers)]
        self._url = url
        self._fps = fps
        self._rate = rate
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(AsyncClient(self._url, deadline=_TIMEOUT_S, patience=_TIMEOUT_S))
            rng = np.random.default_rng(5)
            for camera, phase in zip(self.cameras, rng.uniform(size=len(self.cameras)).tolist(), strict=True):
                self._tasks.append(asyncio.create_task(camera.run(client, self._fps, phase, self._stop)))
            for asker, phase in zip(self.askers, rng.uniform(size=len(self.askers)).tolist(), strict=True):
                self._tasks.append(asyncio.create_task(asker.run(client, self._rate, phase, self._stop)))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if kind is not None:
            for task in self._tasks:
                task.cancel()
        ended = await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()
        if kind is None:
            for outcome in ended:
                if isinstance(outcome, BaseException):
                    raise outcome

    async def settle(self) -> None:
        """Wait until every camera has an id for each person."""
        await until(lambda: all(len(camera.known) == 3 or camera.problem for camera in self.cameras))

    async def go_on(self) -> None:
        """Wait until every camera has results of two new frames, and every client has another response."""
        now = time.time()
        heard = [camera.heard for camera in self.cameras]
        answered = [asker.answered for asker in self.askers]
        await until(
            lambda: all(
                (camera.newest > now and camera.heard >= before + 2) or camera.problem
                for camera, before in zip(self.cameras, heard, strict=True)
            )
        )
        await until(
            lambda: all(
                asker.answered > before or asker.failures for asker, before in zip(self.askers, answered, strict=True)
            )
        )
