"""The two clients: `Client` for threads and `AsyncClient` for asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar, Unpack

import httpx

from .attempts import Attempts
from .results import PoseResult, StreamResult
from .stills import Parameters, PoseRequest
from .stream import Stream
from .video import VideoFrame
from .watch import Watch

Result = TypeVar("Result")

_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=30)


class _BaseClient:
    """The constructor of both clients, see `AsyncClient`."""

    _http_class: type[httpx.AsyncClient | httpx.Client]

    def __init__(
        self, urls: str | Sequence[str], *, api_key: str = "", deadline: float = 10.0, patience: float = 30.0
    ) -> None:
        self._urls = [url.rstrip("/") for url in ([urls] if isinstance(urls, str) else urls)]
        for url in self._urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"{url!r} is no URL of a server; it is like http://localhost:8000")
        if not self._urls:
            raise ValueError("name the URL of a server, like http://localhost:8000")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._deadline = deadline
        self._patience = patience
        self._http: Any = self._http_class(headers=self._headers, limits=_LIMITS)

    def _request(self, image: bytes | Path, parameters: Parameters, deadline: float | None) -> PoseRequest:
        return PoseRequest(image, parameters, Attempts(self._urls, self._deadline if deadline is None else deadline))

    def _stream(self, hello: dict[str, Any]) -> Stream:
        return Stream(self._urls, self._headers, hello, self._patience)

    def _watch(self, camera: str, hello: dict[str, Any]) -> Watch:
        return Watch(self._urls, self._headers, camera, hello, self._patience)


class AsyncClient(_BaseClient):
    """A client for asyncio. Can be used as a context manager.

    urls: the URL of a server or load balancer, or several URLs, which are tried in turn. deadline: seconds for an image
    with all its attempts. patience: seconds for which a stream or a watch tries to reconnect. Raises ValueError
    for invalid URLs.
    """

    _http_class = httpx.AsyncClient
    _http: httpx.AsyncClient

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
        request = self._request(image, parameters, deadline)
        while True:
            try:
                async with asyncio.timeout(request.attempts.left):  # httpx limits each phase, not the total
                    response = await self._http.post(**request.arguments())
                answer = request.read(response)
            except (httpx.TransportError, TimeoutError) as error:
                answer = request.lost(error)
            if isinstance(answer, PoseResult):
                return answer
            await asyncio.sleep(answer)

    def stream(self, **hello: Any) -> Stream:
        """Return a stream, to be opened with `async with`. hello: the members of the hello: model, skeleton, ..."""
        return self._stream(hello)

    def watch(self, camera: str, **hello: Any) -> Watch:
        """Return the results of one of the server's cameras, to be opened with `async with`. hello: fps, window."""
        return self._watch(camera, hello)


class Client(_BaseClient):
    """A client for threads. Can be used as a context manager. Takes the arguments of AsyncClient."""

    _http_class = httpx.Client
    _http: httpx.Client

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
        request = self._request(image, parameters, deadline)
        while True:
            try:
                answer = request.read(self._http.post(**request.arguments()))
            except httpx.TransportError as error:
                answer = request.lost(error)
            if isinstance(answer, PoseResult):
                return answer
            time.sleep(answer)

    def stream(self, pictures: Iterable[bytes | VideoFrame], **hello: Any) -> Iterator[StreamResult]:
        """Yield the result of each picture. Takes the next picture when the last has its result, so `pictures` can come
        from a camera.

        hello: the members of the hello; with `video`, pictures are frames, for example those of `read_frames`.
        A thread serves the connection, so the caller may take its time with a result.
        """
        stream = self._stream(hello)
        with _event_loop() as run:
            try:
                run(stream.__aenter__())
                for picture in pictures:
                    yield run(stream.ask(picture))
            finally:
                run(stream.__aexit__(None, None, None))

    def watch(self, camera: str, **hello: Any) -> Iterator[StreamResult]:
        """Yield the results of one of the server's cameras, for ever. hello: fps, window.

        A thread serves the connection. If the caller takes its time with a result, the next one is the newest.
        """
        watch = self._watch(camera, hello)
        with _event_loop() as run:
            try:
                run(watch.__aenter__())
                while True:
                    yield run(watch.next())
            finally:
                run(watch.__aexit__(None, None, None))


@contextmanager
def _event_loop() -> Iterator[Callable[[Coroutine[Any, Any, Result]], Result]]:
    """Run an event loop on a thread. Yields what runs a coroutine there and waits for its result."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="posewire-client", daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
