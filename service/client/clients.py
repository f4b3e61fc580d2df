"""The two clients: `Client` for threads and `AsyncClient` for asyncio."""

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
    """Options of a client. deadline: seconds for an image with all its attempts (10). patience: seconds for which a
    stream tries to reconnect (30).
    """

    api_key: str
    deadline: float
    patience: float


@dataclass(frozen=True, slots=True)
class _Access:
    """The servers' URLs, the headers and the time limits."""

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
    """A client for asyncio. Can be used as a context manager.

    urls: the URL of a server or load balancer, or several URLs, which are tried in turn. Raises ValueError for invalid
    URLs.
    """

    def __init__(self, urls: str | Sequence[str], **options: Unpack[ClientOptions]) -> None:
        self._access = _Access.of(urls, options)
        self._http = httpx.AsyncClient(headers=self._access.headers, limits=_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def pose(
        self, image: bytes | Path, *, deadline: float | None = None, **parameters: Unpack[Parameters]
    ) -> PoseResult:
        """Estimate the people in an image. Retries until the deadline if the server is unreachable or busy.

        Raises ProblemError if the server rejects the request, UnavailableError if no server answers in time.
        """
        still = Still.of(image, parameters)
        attempts = self._access.attempts(deadline)
        while True:
            try:
                async with asyncio.timeout(attempts.left):  # httpx limits each phase of a request, not the total
                    response = await self._http.post(**still.request(attempts))
                answer = read_answer(response, attempts)
            except (httpx.TransportError, TimeoutError) as error:
                answer = attempts.failed(f"{attempts.url}: {str(error) or type(error).__name__}")
            if isinstance(answer, PoseResult):
                return answer
            await asyncio.sleep(answer)

    def stream(self, **hello: Any) -> Stream:
        """Return a stream, to be opened with `async with`. hello: the members of the hello: model, skeleton, ..."""
        return self._access.stream(hello)


class Client:
    """A client for threads. Can be used as a context manager. Takes the arguments of AsyncClient."""

    def __init__(self, urls: str | Sequence[str], **options: Unpack[ClientOptions]) -> None:
        self._access = _Access.of(urls, options)
        self._http = httpx.Client(headers=self._access.headers, limits=_AT_ONCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
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
        """Yield the result of each picture. Takes the next picture when the last has its result, so `pictures` can come
        from a camera.

        hello: the members of the hello. A thread serves the connection, so the caller may take its time with a result.
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
