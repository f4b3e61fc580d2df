"""The steps of `posewire bench URL`: stills at rising concurrency and at fixed rates, then streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

import orjson

from service.client import AsyncClient, ClientError, ProblemError
from service.load.connection import Server
from service.load.pictures import Picture
from service.load.samples import Kind, Samples, Step
from service.load.server_metrics import ServerMetrics
from service.load.stills import closed_loop, open_loop
from service.load.streams import first_error, stream_load

_GAIN = 1.07
"""Twice the requests at once must raise the rate by this factor, or the server is full."""
_SHARES = (0.5, 0.8, 1.1)
"""The rates of the open loop, as shares of the best rate of the closed loop."""
_GOOD_SHARE = 0.9
"""Streams are added until fewer of their frames than this get a result."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """seconds: of each step. most: requests at once. streams: at most, 0 for none. fps: of each stream."""

    seconds: float = 5.0
    most: int = 64
    streams: int = 16
    fps: float = 10.0
    model: str | None = None


class BenchError(Exception):
    """The server cannot be measured. The message is for the user."""


class Bench:
    """Measures one deployment. tell: called with each step when it is done.

    people: how many the server finds in a picture, on average.
    """

    def __init__(
        self,
        server: Server,
        client: AsyncClient,
        pictures: Sequence[Picture],
        options: BenchOptions,
        tell: Callable[[Step], None] = lambda _: None,
    ) -> None:
        query = "" if options.model is None else "?" + urlencode({"model": options.model})
        self.people = 0.0
        self._server = server
        self._client = client
        self._pictures = pictures
        self._requests = [server.post(f"/pose{query}", picture.data, picture.media_type) for picture in pictures]
        self._options = options
        self._tell = tell

    async def run(self) -> list[Step]:
        """Run all steps. Raises BenchError."""
        try:
            await self._check()
            return [*await self._stills(), *await self._streams()]
        except (ClientError, OSError) as error:
            raise BenchError(f"{self._server.url}: {error}") from error
        except BaseExceptionGroup as group:
            found = first_error(group)
            if found is None:
                raise
            raise BenchError(f"{self._server.url}: {found}") from group

    async def _check(self) -> None:
        """Send each picture once, which also warms up. Raises BenchError if one has no result."""
        connection = await self._server.connect()
        try:
            for number, request in enumerate(self._requests):
                status, body = await connection.ask(request)
                if status != 200:
                    raise BenchError(f"{self._server.url} answers image {number + 1} with {_problem(status, body)}")
                self.people += self._people(body) / len(self._requests)
        finally:
            connection.close()

    def _people(self, body: bytes) -> int:
        try:
            return len(orjson.loads(body)["people"])
        except (ValueError, KeyError, TypeError) as error:
            raise BenchError(f"{self._server.url} gives no results of Posewire's") from error

    async def _stills(self) -> list[Step]:
        steps: list[Step] = []
        best, concurrency = 0.0, 1
        while concurrency <= self._options.most:
            load = closed_loop(self._server, self._requests, concurrency, self._options.seconds)
            step = await self._step("closed", concurrency, load)
            steps.append(step)
            if step.rate < _GAIN * best:
                break
            best, concurrency = step.rate, 2 * concurrency
        best = max(step.rate for step in steps)
        if best:
            steps += [await self._open_step(share * best) for share in _SHARES]
        return steps

    async def _open_step(self, rate: float) -> Step:
        return await self._step("open", rate, open_loop(self._server, self._requests, rate, self._options.seconds))

    async def _streams(self) -> list[Step]:
        steps: list[Step] = []
        number = 1
        options, pictures = self._options, [picture.data for picture in self._pictures]
        while number <= options.streams:
            load = stream_load(self._client, pictures, number, options.fps, options.seconds, options.model)
            steps.append(await self._step("streams", number, load))
            if steps[-1].share < _GOOD_SHARE:
                break
            number *= 2
        return steps

    async def _step(self, kind: Kind, load: float, running: Awaitable[Samples]) -> Step:
        before, began = await ServerMetrics.read(self._server), asyncio.get_running_loop().time()
        samples = await running
        took = asyncio.get_running_loop().time() - began
        networks = (await ServerMetrics.read(self._server)).since(before, took)
        # Streams count their own seconds; the results of stills come until the last one.
        seconds = self._options.seconds if kind == "streams" else max(took, self._options.seconds)
        step = Step.of(kind, load, seconds, samples, networks)
        self._tell(step)
        return step


def _problem(status: int, body: bytes) -> str:
    try:
        document = orjson.loads(body)
        return str(ProblemError(status, str(document["type"]).rpartition("/")[2], str(document.get("detail", ""))))
    except (ValueError, KeyError, TypeError):
        return str(status)
