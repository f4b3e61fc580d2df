"""Good clients during an attack: some send images, some have a stream. Each has its own address."""

from __future__ import annotations

import asyncio
import json
import math
import multiprocessing
import random
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import count
from multiprocessing.connection import Connection as Pipe
from multiprocessing.synchronize import Event
from typing import Any, Literal

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidHandshake, WebSocketException

from service.load.connection import HttpConnection
from tests.benchmarks.load import Shot

STILLS, STREAMS = 4, 2
STILLS_A_SECOND, FRAMES_A_SECOND = 0.75, 1.0
"""Of each client."""
_PATIENCE_S = 20.0
_RETRY_S = 0.5
_FIRST_ADDRESS = 3
"""127.0.0.3 and on: 127.0.0.2 is the attacker's."""

Kind = Literal["still", "frame"]


@dataclass(frozen=True, slots=True)
class Sample:
    """A request or a frame. began, ended: monotonic seconds. A frame ends with the first result of it or a newer one.

    problem: what went wrong, in words; empty where nothing did.
    """

    kind: Kind
    began: float
    ended: float | None = None
    problem: str = ""

    @property
    def seconds(self) -> float:
        """Its duration; infinite if it has not ended."""
        return math.inf if self.ended is None else self.ended - self.began


class GoodClients:
    """All good clients, in their own process. people: number of people in the picture."""

    def __init__(self, host: str, port: int, picture: bytes, people: int) -> None:
        self._samples: dict[int, Sample] = {}
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe(duplex=False)
        self._stop = context.Event()
        arguments = (host, port, picture, people, theirs, self._stop)
        self._process = context.Process(target=_run, args=arguments, daemon=True)
        self._theirs = theirs
        self._reader = threading.Thread(target=self._read, name="good-clients", daemon=True)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the clients for as long as this context lasts."""
        self._process.start()
        self._theirs.close()
        self._reader.start()
        try:
            yield
        finally:
            self._stop.set()
            self._process.join(2 * _PATIENCE_S)
            self._process.kill()
            self._reader.join()

    def under_way(self, start: float, end: float) -> bool:
        """True if a sample that began in a period has not ended yet."""
        return any(start <= sample.began < end and sample.ended is None for sample in list(self._samples.values()))

    def between(self, start: float, end: float) -> list[Sample]:
        """The samples that began in a period or lasted throughout it. Those without an end end now."""
        now = time.monotonic()
        ended = [s if s.ended is not None else replace(s, ended=now) for s in list(self._samples.values())]
        return [s for s in ended if start <= s.began < end or s.began < start < end < s.began + s.seconds]

    def _read(self) -> None:
        with suppress(EOFError):
            while True:
                number, sample = self._pipe.recv()
                self._samples[number] = sample


def _run(host: str, port: int, picture: bytes, people: int, pipe: Pipe, stop: Event) -> None:
    asyncio.run(_all(host, port, picture, people, pipe, stop))


async def _all(host: str, port: int, picture: bytes, people: int, pipe: Pipe, stop: Event) -> None:
    numbers = count()
    kinds = (_Still,) * STILLS + (_Stream,) * STREAMS
    clients = [
        kind(host, port, f"127.0.0.{address}", picture, people, pipe, stop, numbers)
        for address, kind in enumerate(kinds, _FIRST_ADDRESS)
    ]
    async with asyncio.TaskGroup() as group:
        for number, client in enumerate(clients):
            group.create_task(client.run(number / len(clients)))


@dataclass(slots=True)
class _Client:
    host: str
    port: int
    address: str
    picture: bytes
    people: int
    pipe: Pipe
    stop: Event
    numbers: Iterator[int]

    def begin(self, kind: Kind) -> tuple[int, Sample]:
        """Start a sample."""
        begun = next(self.numbers), Sample(kind, time.monotonic())
        self.pipe.send(begun)
        return begun

    def gap(self, rate: float) -> float:
        """Random seconds until the next sample, so that clients that a stall has synchronised drift apart."""
        return random.uniform(0.5, 1.5) / rate  # noqa: S311 - no secret

    def end(self, begun: tuple[int, Sample], problem: str = "") -> None:
        """End a sample."""
        number, sample = begun
        self.pipe.send((number, replace(sample, ended=time.monotonic(), problem=problem)))


class _Still(_Client):
    """Keeps one connection, and replaces it if it is closed."""

    async def run(self, phase: float) -> None:
        request, connection = Shot(self.picture).encode(), None
        await asyncio.sleep(phase / STILLS_A_SECOND)
        while not self.stop.is_set():
            begun = self.begin("still")
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    if connection is None or connection.broken:
                        connection = await self._connect()
                    status, body = await connection.ask(request)
                problem = self._judge(status, body)
            except (OSError, TimeoutError) as error:
                problem = f"{type(error).__name__}"
                if connection is not None:
                    connection.close()
                connection = None
            self.end(begun, problem)
            await asyncio.sleep(max(0.0, begun[1].began + self.gap(STILLS_A_SECOND) - time.monotonic()))

    async def _connect(self) -> HttpConnection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            HttpConnection, self.host, self.port, local_addr=(self.address, 0)
        )  # fmt: skip
        return connection

    def _judge(self, status: int, body: bytes) -> str:
        if status != 200:
            return f"{status}"
        seen = len(json.loads(body)["people"])
        return "" if seen == self.people else f"{seen} people"


class _Stream(_Client):
    """Sends frames at a fixed rate, and resumes with its token if the connection is lost."""

    async def run(self, phase: float) -> None:
        token = ""
        await asyncio.sleep(phase / FRAMES_A_SECOND)
        while not self.stop.is_set():
            begun = self.begin("frame")
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    socket = await connect(
                        f"ws://{self.host}:{self.port}/stream",
                        compression=None,
                        local_addr=(self.address, 0),
                        close_timeout=1,
                        ping_interval=None,
                    )
                    await socket.send(json.dumps({"timestamps": True, **({"resume": token} if token else {})}))
                    token = json.loads(await socket.recv())["token"]
            except (OSError, TimeoutError, WebSocketException, InvalidHandshake, KeyError) as error:
                self.end(begun, f"no stream: {type(error).__name__}")
                await asyncio.sleep(_RETRY_S)
                continue
            token = await self._film(socket, token, begun)

    async def _film(self, socket: ClientConnection, token: str, begun: tuple[int, Sample]) -> str:
        """Run until told to stop or until the connection is lost. Returns the newest token. begun: the first frame."""
        waiting: dict[int, tuple[int, Sample]] = {}
        last = {"token": token}

        async def listen() -> None:
            async for data in socket:
                message: dict[str, Any] = json.loads(data)
                if message.get("type") != "result":
                    problem = f"{message.get('error', {}).get('title', message.get('type'))}"
                else:
                    seen = len(message["people"])
                    problem = "" if seen == self.people else f"{seen} people"
                last["token"] = message.get("token", last["token"])
                number = message.get("frame", -1)
                for earlier in [n for n in waiting if n <= number]:
                    self.end(waiting.pop(earlier), problem)
                if number >= 0:
                    await socket.send(json.dumps({"ack": number}))

        listening, number = asyncio.create_task(listen()), 0
        with suppress(WebSocketException, OSError):
            while not self.stop.is_set() and not listening.done():
                waiting[number] = begun = self.begin("frame") if number else begun
                await socket.send(struct.pack(">d", 1e3 * time.time()) + self.picture)
                number += 1
                await asyncio.wait([listening], timeout=begun[1].began + self.gap(FRAMES_A_SECOND) - time.monotonic())
                if waiting and time.monotonic() - next(iter(waiting.values()))[1].began > _PATIENCE_S:
                    break
        if self.stop.is_set():
            await asyncio.sleep(1 / FRAMES_A_SECOND)  # for the last results
        listening.cancel()
        with suppress(asyncio.CancelledError, WebSocketException, OSError):
            await listening
        if not self.stop.is_set():
            for each in waiting.values():
                self.end(each, f"cut: {socket.close_code}")
        with suppress(WebSocketException, OSError, TimeoutError):
            await socket.close()
        return last["token"]
