"""The results of a camera that the server opens itself. Reconnects by itself, and reports gaps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self
from urllib.parse import quote

from .attempts import Attempts
from .connection import Connection, LostError
from .errors import ClientError, unreadable
from .results import UNREADABLE, Gap, StreamResult, read_result

_STEADY_S = 5.0
"""A connection that lasted this long is replaced at once. After shorter ones there are growing pauses."""


class Watch:
    """An asynchronous context manager, and an iterator over the results.

    Results are not queued: one that is taken late is followed by the newest, and `dropped` counts those in between.

    session: ids are those of the same people as long as this is the same. welcome: the server's, with `skeleton`,
    `keypoints`, `zones` and `lines`. state: of the camera, such as `live` or `lost`; there are no results meanwhile.
    reason: why, or "". urls: of the servers. hello: fps, window; see GET /docs/stream. patience: seconds of attempts
    to reconnect.
    """

    def __init__(
        self, urls: Sequence[str], headers: Mapping[str, str], camera: str, hello: Mapping[str, Any], patience: float
    ) -> None:
        self.session = ""
        self.welcome: Mapping[str, Any] = {}
        self.state = "connecting"
        self.reason = ""
        self._path = f"cameras/{quote(camera, safe='')}/results"
        self._headers = headers
        self._hello = hello
        self._attempts = Attempts(urls, patience)
        self._connection: Connection | None = None
        self._gap: Gap | None = None  # since the last result
        self._last = -1

    async def __aenter__(self) -> Self:
        """Connect. Raises ClientError if that fails."""
        self._attempts.restart(pauses=True)
        self._connection = await self._search()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._connection is not None:
            await self._connection.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamResult:
        return await self.next()

    async def next(self) -> StreamResult:
        """Wait for the next result, and acknowledge it. Raises ClientError if there can be none."""
        while True:
            if self._connection is None:
                raise ClientError("the watch is not open; use `async with`")
            try:
                message = await self._connection.receive()
                if message["type"] == "camera":
                    self.state, self.reason = message["state"], message["reason"]
                elif message["type"] == "result":
                    await self._connection.acknowledge(message["frame"])
                    return self._read(message)
            except LostError as error:
                await self._reconnect(self._connection, error)
            except UNREADABLE as error:
                raise unreadable(error) from error

    def _read(self, message: Mapping[str, Any]) -> StreamResult:
        dropped = message["dropped"]
        self._last += 1 + dropped
        gap, self._gap = self._gap, None
        return read_result(message, self._last, dropped, gap)

    async def _reconnect(self, old: Connection, lost: LostError) -> None:
        began, session = time.monotonic(), self.session
        await old.close()
        steady = old.age >= _STEADY_S
        if steady or old.useful:
            self._attempts.restart(pauses=steady)
        if lost.refused or not steady:
            await asyncio.sleep(self._attempts.failed(str(lost), lost.retry_after, refused=lost.refused))
        self._connection = await self._search()
        kept = session in ("", self.session) and (self._gap is None or self._gap.kept)
        self._gap = Gap(time.monotonic() - began, kept, str(lost))

    async def _search(self) -> Connection:
        """Connect, trying all servers in turn. Raises ClientError if none accepts."""
        while True:
            try:
                return await self._connect(self._attempts.url)
            except UNREADABLE as error:
                raise unreadable(error) from error
            except LostError as error:
                await asyncio.sleep(self._attempts.failed(str(error), error.retry_after, refused=error.refused))

    async def _connect(self, url: str) -> Connection:
        connection = await Connection.open(url, self._headers, self._path)
        try:
            welcome = await connection.greet(self._hello)
            self.session, self.welcome = welcome["session"], welcome
        except BaseException:
            await connection.close()
            raise
        return connection
