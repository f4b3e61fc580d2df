"""GET /cameras/NAME/picture.jpg and live.mjpg: the newest picture of a camera, and one after the other.

Pictures stay in memory, here and in browsers: nothing writes them to a disk.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from email.utils import formatdate
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.cameras import find_camera
from service.api.problems import ApiError
from service.api.schemas import LiveQuery, PictureQuery, Problem
from service.api.state import ServerState
from service.batching import OverloadedError
from service.cameras.feed import ResultFeed
from service.cameras.pictures import CameraPicture, PictureVariant
from service.cameras.served_camera import ServedCamera
from service.process.racing import race
from service.quota import QuotaExceededError
from service.streams.protocol import CloseCode, StreamError

router = APIRouter()

_BOUNDARY = b"frame"
_REPEAT_S = 10.0
"""After so long without a new picture the last one is sent again. That tells whether the client is still there."""
_RETRY_S = 1.0
_WIDTH_STEP, _QUALITY_STEP = 160, 10
"""Pictures that differ less are the same one, so that watchers share them."""
_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_PROBLEMS: dict[int | str, dict[str, Any]] = {404: {"model": Problem}, 503: {"model": Problem}}


@router.get(
    "/cameras/{name}/picture.jpg",
    summary="The newest picture of a camera",
    response_class=Response,
    responses={
        200: {"content": {"image/jpeg": _BYTES}},
        304: {"description": "the picture of `If-None-Match`"},
        **_PROBLEMS,
    },
)
async def picture(request: Request, name: str, query: Annotated[PictureQuery, Query()]) -> Response:
    """A JPEG of the newest frame whose people are known. `X-Posewire-Timestamp` is that of its result."""
    server = ServerState.of(request)
    camera = find_camera(server, name)
    variant = _variant(camera, query)
    feed = camera.feed
    known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
    if feed.newest is not None and (tag := _tag(feed, feed.frame, variant)) in known:
        return Response(status_code=304, headers={**_HEADERS, "etag": tag})
    await camera.fetch_picture()
    made = await server.pictures.newest(feed, camera.entry.hello(), variant, request.scope["state"]["client"])
    if made is None:
        raise _no_picture(camera)
    state = request.scope["state"]
    state["resources"].enter_context(server.memory.take(state["client"], len(made.data)))
    headers = {
        **_HEADERS,
        "etag": _tag(feed, made.frame, variant),
        "last-modified": formatdate(made.time, usegmt=True),
        "x-posewire-timestamp": _milliseconds(made),
    }
    return Response(made.data, headers=headers, media_type="image/jpeg")


@router.get(
    "/cameras/{name}/live.mjpg",
    summary="The pictures of a camera, one after the other",
    response_class=Response,
    responses={200: {"content": {"multipart/x-mixed-replace": _BYTES}}, **_PROBLEMS},
)
async def live(request: Request, name: str, query: Annotated[LiveQuery, Query()]) -> Response:
    """Motion JPEG, as browsers show it in an `<img>`, until the client leaves or the camera is removed.

    Who reads slowly misses pictures. Each part has `X-Posewire-Timestamp`, as its result.
    """
    server = ServerState.of(request)
    camera = find_camera(server, name)
    await camera.fetch_picture()
    if camera.feed.newest is None:
        raise _no_picture(camera)
    return _LiveResponse(server, camera, _variant(camera, query), query.fps)


class _LiveResponse(Response):
    """Sends pictures until the client leaves, or the camera or the server ends. client: see `CameraWatcher`."""

    def __init__(self, server: ServerState, camera: ServedCamera, variant: PictureVariant, fps: float) -> None:
        super().__init__(media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY.decode()}", headers=_HEADERS)
        del self.headers["content-length"]
        self.client = ""
        self._server = server
        self._camera = camera
        self._variant = variant
        self._hello = camera.entry.hello()
        self._fps = fps
        self._news = asyncio.Event()
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.client = scope["state"]["client"]
        with self._server.watchers.hold(self), self._camera.feed.listening(self._hear):
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if not scope["state"]["head"]:
                with suppress(StreamError):
                    await race(_disconnected(receive), self._play(send), self._end)
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def end(self, code: CloseCode, reason: str) -> None:
        """See CameraWatcher."""
        if not self._end.done():
            self._end.set_exception(StreamError(code, reason))

    async def go_away(self, seconds: float) -> None:
        """See CameraWatcher. There is no way to tell."""

    def _hear(self) -> None:
        self._news.set()
        if self._camera.feed.ended is not None:
            self.end(*self._camera.feed.ended)

    async def _play(self, send: Send) -> None:
        """Send a picture whenever there is a new one, and the client has taken the last one."""
        self._hear()
        await send({"type": "http.response.body", "body": b"--%b\r\n" % _BOUNDARY, "more_body": True})
        made: CameraPicture | None = None
        with self._server.memory.take(self.client, 0) as memory:
            while True:
                made = await self._next(made)
                with suppress(QuotaExceededError):  # then this picture is left out
                    memory.grow(len(made.data) - memory.amount)
                    await send({"type": "http.response.body", "body": _part(made), "more_body": True})
                await asyncio.sleep(self._server.watchers.pause(self.client, len(made.data)))

    async def _next(self, last: CameraPicture | None) -> CameraPicture:
        """Wait for the next picture. Returns the last one again if none comes for a while."""
        feed = self._camera.feed
        while True:
            self._news.clear()
            # All who want as many pictures a second take the same ones, by the time of their frames
            if feed.newest is not None and (last is None or self._slot(feed.newest.time) != self._slot(last.time)):
                with suppress(OverloadedError):
                    made = await self._server.pictures.newest(feed, self._hello, self._variant, self.client)
                    if made is not None and (last is None or made.frame > last.frame):
                        return made
            try:
                async with asyncio.timeout(_REPEAT_S):
                    await self._news.wait()
            except TimeoutError:
                if last is not None:
                    return last

    def _slot(self, seconds: float) -> int:
        return int(seconds * self._fps)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _part(made: CameraPicture) -> bytes:
    """A picture as a part, up to the boundary after it: browsers show a part when they know its end."""
    head = (
        f"Content-Type: image/jpeg\r\nContent-Length: {len(made.data)}\r\n"
        f"X-Posewire-Timestamp: {_milliseconds(made)}\r\n\r\n"
    )
    return b"%b%b\r\n--%b\r\n" % (head.encode(), made.data, _BOUNDARY)


def _milliseconds(made: CameraPicture) -> str:
    return str(round(1e3 * made.time, 1))


def _variant(camera: ServedCamera, query: PictureQuery) -> PictureVariant:
    width = max(_WIDTH_STEP, query.width // _WIDTH_STEP * _WIDTH_STEP) if query.width else 0
    quality = -(-query.quality // _QUALITY_STEP) * _QUALITY_STEP
    return PictureVariant(query.draw, width, quality, blurred=camera.entry.blur is not None)


def _tag(feed: ResultFeed, frame: int, variant: PictureVariant) -> str:
    """The entity tag of a picture: the same for the same bytes alone."""
    return f'"{feed.tag}-{frame}-{variant.drawn:d}-{variant.width}-{variant.quality}"'


def _no_picture(camera: ServedCamera) -> ApiError:
    state = camera.feed.state
    why = f"{state.name}: {state.reason}" if state.reason else state.name
    return ApiError("no-picture", f"the camera {camera.name} is {why}", retry_after_s=_RETRY_S)
