"""The two clients: for threads, and for asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypedDict, Unpack

import httpx

from service.client.attempts import Attempts
from service.client.results import PoseResult, StreamResult
from service.client.stills import Parameters, Still, read_answer
from service.client.stream import Stream

_DEADLINE_S = 10.0
_PATIENCE_S = 30.0
_AT_ONCE = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=30)


class ClientOptions(TypedDict, total=False):
    """Of a client. deadline: seconds for a still, with all its tries (10). patience: seconds for which a stream looks
    for another connection (30).
    """

    api_key: str
    deadline: float
    patience: float


@dataclass(frozen=True, slots=True)
class _Access:
    """Where servers are, as whom they are asked, and how long it may take."""

    urls: Sequence[str]
    headers: Mapping[str, str]
    deadline: float
    patience: float

    @staticmethod
    def of(urls: str | Sequence[str], options: ClientOptions) -> _Access:
        bases = [url.rstrip("/") for url in ([urls] if isinstance(urls, str) else urls)]
        for url in bases:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is no URL of a server; it is like http://localhost:8000")
        if not bases:
            raise ValueError("name the URL of a server, like http://localhost:8000")
        key = options.get("api_key", "")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return _Access(bases, headers, options.get("deadline", _DEADLINE_S), options.get("patience", _PATIENCE_S))

    def attempts(self, deadline: float | None) -> Attempts:
        return Attempts(self.urls, self.deadline if deadline is None else deadline)

    def stream(self, hello: Mapping[str, Any]) -> Stream:
        return Stream(self.urls, self.headers, hello, self.patience)


class AsyncClient:
    """A client for asyncio; may be used as a context manager.

    urls: of a server or load balancer, or of several servers that are tried in turn. Raises ValueError for others.
    """

    def __init__(self, urls: str | Sequence[str], **options: Unpack[ClientOptions]) -> None:
        self._access = _Access.of(urls, options)
        self._http = httpx.AsyncClient(headers=self._access.headers, limits=_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def pose(
        self, image: bytes | Path, *, deadline: float | None = None, **parameters: Unpack[Parameters]
    ) -> PoseResult:
        """Everybody in an image. Tries again where the server was lost or busy, until the deadline.

        Raises ProblemError for what no server will answer, UnavailableError where none did in time.
        """
        still = Still.of(image, parameters)
        attempts = self._access.attempts(deadline)
        while True:
            try:
                async with asyncio.timeout(attempts.left):  # httpx bounds each part of a request, not the whole
                    response = await self._http.post(**still.request(attempts))
                answer = read_answer(response, attempts)
            except (httpx.TransportError, TimeoutError) as error:
                answer = attempts.failed(f"{attempts.url}: {str(error) or type(error).__name__}")
            if isinstance(answer, PoseResult):
                return answer
            await asyncio.sleep(answer)

    def stream(self, **hello: Any) -> Stream:
        """A stream, to be entered with `async with`. The keywords are the members of a hello: model, skeleton, ..."""
        return self._access.stream(hello)


class Client:
    """A client for threads; may be used as a context manager. The parameters are those of AsyncClient."""

    def __init__(self, urls: str | Sequence[str], **options: Unpack[ClientOptions]) -> None:
        self._access = _Access.of(urls, options)
        self._http = httpx.Client(headers=self._access.headers, limits=_AT_ONCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def pose(
        self, image: bytes | Path, *, deadline: float | None = None, **parameters: Unpack[Parameters]
    ) -> PoseResult:
        """See `AsyncClient.pose`."""
        still = Still.of(image, parameters)
        attempts = self._access.attempts(deadline)
        while True:
            try:
                answer = read_answer(self._http.post(**still.request(attempts)), attempts)
            except httpx.TransportError as error:
                answer = attempts.failed(f"{attempts.url}: {str(error) or type(error).__name__}")
            if isinstance(answer, PoseResult):
                return answer
            time.sleep(answer)

    def stream(self, pictures: Iterable[bytes], **hello: Any) -> Iterator[StreamResult]:
        """What comes of each of `pictures`, which may be a camera's: the next is taken once the last has its result.

        The keywords are the members of a hello. The connection is looked after by a thread, however long the caller
        takes for a result.
        """
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="posewire-client", daemon=True)
        thread.start()
        stream = self._access.stream(hello)
        try:
            asyncio.run_coroutine_threadsafe(stream.__aenter__(), loop).result()
            for picture in pictures:
                yield asyncio.run_coroutine_threadsafe(stream.ask(picture), loop).result()
        finally:
            asyncio.run_coroutine_threadsafe(stream.__aexit__(None, None, None), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
