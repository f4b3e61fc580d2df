"""The two clients: for threads, and for asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from service.client.attempts import Attempts
from service.client.results import PoseResult, StreamResult
from service.client.stills import Parameters, Still, read_answer
from service.client.stream import Stream

_DEADLINE_S = 10.0
_PATIENCE_S = 30.0
_AT_ONCE = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=30)


class AsyncClient:
    """A client for asyncio; may be used as a context manager.

    urls: of a server or load balancer, or of several servers that are tried in turn. deadline: seconds for a still,
    with all its tries. patience: seconds for which a stream looks for another connection.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        api_key: str = "",
        deadline: float = _DEADLINE_S,
        patience: float = _PATIENCE_S,
    ) -> None:
        self._urls = _bases(urls)
        self._headers = _headers(api_key)
        self._deadline = deadline
        self._patience = patience
        self._http = httpx.AsyncClient(headers=self._headers, limits=_AT_ONCE)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        attempts = Attempts(self._urls, deadline or self._deadline)
        while True:
            try:
                async with asyncio.timeout(attempts.left):  # httpx bounds each part of a request, not the whole
                    response = await self._http.post(**still.request(attempts))
                answer = read_answer(response, attempts)
            except (httpx.TransportError, TimeoutError) as error:
                answer = attempts.failed(f"{attempts.url}: {error or type(error).__name__}")
            if isinstance(answer, PoseResult):
                return answer
            await asyncio.sleep(answer)

    def stream(self, **hello: Any) -> Stream:
        """A stream, to be entered with `async with`. The keywords are the members of a hello: model, skeleton, ..."""
        return Stream(self._urls, self._headers, hello, self._patience)


class Client:
    """A client for threads; may be used as a context manager. The parameters are those of AsyncClient."""

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        api_key: str = "",
        deadline: float = _DEADLINE_S,
        patience: float = _PATIENCE_S,
    ) -> None:
        self._urls = _bases(urls)
        self._headers = _headers(api_key)
        self._deadline = deadline
        self._patience = patience
        self._http = httpx.Client(headers=self._headers, limits=_AT_ONCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def pose(
        self, image: bytes | Path, *, deadline: float | None = None, **parameters: Unpack[Parameters]
    ) -> PoseResult:
        """See `AsyncClient.pose`."""
        still = Still.of(image, parameters)
        attempts = Attempts(self._urls, deadline or self._deadline)
        while True:
            try:
                answer = read_answer(self._http.post(**still.request(attempts)), attempts)
            except httpx.TransportError as error:
                answer = attempts.failed(f"{attempts.url}: {error or type(error).__name__}")
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
        stream = Stream(self._urls, self._headers, hello, self._patience)
        try:
            asyncio.run_coroutine_threadsafe(stream.__aenter__(), loop).result()
            for picture in pictures:
                yield asyncio.run_coroutine_threadsafe(stream.ask(picture), loop).result()
        finally:
            asyncio.run_coroutine_threadsafe(stream.__aexit__(None, None, None), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def _bases(urls: str | Sequence[str]) -> list[str]:
    bases = [url.rstrip("/") for url in ([urls] if isinstance(urls, str) else urls)]
    for url in bases:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url!r} is no URL of a server; it is like http://localhost:8000")
    if not bases:
        raise ValueError("name the URL of a server, like http://localhost:8000")
    return bases


def _headers(api_key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}
