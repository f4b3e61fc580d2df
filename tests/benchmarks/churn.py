"""Streams that start, end, and resume with their tokens. Each knows which ids it should get."""

from __future__ import annotations

import asyncio
import json
import random
import struct
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.deployment.crowd import ARRIVALS, Scene, identities

_FPS = 4.0
_FRAMES = (4, 24)
"""Least and most frames on one connection."""
_AWAY_S = (0.1, 2.0)
_LIVES = (2, 6)
"""Connections of one session, after which a new session starts."""
_PATIENCE_S = 30.0


@dataclass(slots=True)
class Visitor:
    """One client. sessions, resumed: numbers of sessions. results: number of checked results. lost: results with
    another id than before.

    refused: sessions that were not resumed in time. silent: connections without further results.
    """

    url: str
    seed: int
    sessions: int = 0
    resumed: int = 0
    results: int = 0
    lost: int = 0
    refused: list[str] = field(default_factory=list)
    silent: int = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Start and end connections until told to stop."""
        rng = random.Random(self.seed)  # noqa: S311 - it has to be reproducible
        while not stop.is_set():
            self.sessions += 1
            await self._session(rng, stop)

    async def _session(self, rng: random.Random, stop: asyncio.Event) -> None:
        scene, known, token = Scene(rng.randrange(2**31)), dict[int, int](), ""
        for life in range(rng.randint(*_LIVES)):
            if stop.is_set():
                return
            opened = await self._open(token, f"v{self.seed}-{self.sessions}", stop)
            if opened is None:
                return
            socket, welcome = opened
            if life and not welcome["resumed"]:
                self.refused.append(str(welcome.get("detail", "")))
                known = {}
            self.resumed += welcome["resumed"]
            token = await self._film(socket, scene, known, rng.randint(*_FRAMES), welcome["token"])
            if rng.random() < 0.5:
                socket.transport.abort()  # like a client that loses its network
            with suppress(WebSocketException, OSError, TimeoutError):
                await socket.close()
            await asyncio.sleep(rng.uniform(*_AWAY_S))

    async def _open(
        self, token: str, session: str, stop: asyncio.Event
    ) -> tuple[ClientConnection, dict[str, Any]] | None:
        """Open a stream, with retries, as replicas restart."""
        hello = {"timestamps": True, "window": 0, **({"resume": token} if token else {})}
        give_up = time.monotonic() + _PATIENCE_S
        while not stop.is_set():
            try:
                async with asyncio.timeout(10):
                    socket = await connect(f"{self.url}/stream?session={session}", compression=None, close_timeout=2)
                    await socket.send(json.dumps(hello))
                    welcome = json.loads(await socket.recv())
            except (OSError, TimeoutError, WebSocketException) as error:
                if time.monotonic() > give_up:
                    self.refused.append(f"no stream for {_PATIENCE_S:g} s: {type(error).__name__}")
                    return None
                await asyncio.sleep(0.2)
            else:
                return socket, welcome
        return None

    async def _film(
        self, socket: ClientConnection, scene: Scene, known: dict[int, int], frames: int, token: str
    ) -> str:
        """Send frames one by one and check the ids. Returns the newest token."""
        for _ in range(frames):
            now = time.time()
            shown = ARRIVALS[: len(known) + 1]
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await socket.send(struct.pack(">d", 1e3 * now) + scene.picture(now, shown))
                    message = json.loads(await socket.recv())
            except (WebSocketException, OSError):  # the replica restarts; another one continues
                return token
            except TimeoutError:
                self.silent += 1
                return token
            token = message.get("token", token)
            if message["type"] != "result":
                continue
            told = identities(scene, now, ((person["box"], person["id"]) for person in message["people"]))
            for person, identity in told.items():
                if identity > 0:
                    self.lost += known.setdefault(person, identity) != identity
            self.lost += sum(told.get(person, 0) < 1 for person in known)
            self.results += 1
            await asyncio.sleep(1 / _FPS)
        return token
