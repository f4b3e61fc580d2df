"""Receiving the video of a job: streamed to disk, raw or as a part of multipart/form-data, never whole in memory."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from multipart import MultipartError, MultipartSegment, ParserLimitReached, PushMultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from service.api.problems import ApiError
from service.config import Settings
from service.offline.jobs.job import DISK_FULL, DiskFullError

FIELD = "file"
"""The name of the multipart part with the video."""
RAW_TYPES = ("video/mp4", "video/webm", "video/quicktime", "video/x-matroska", "application/octet-stream")

_UNSPECIFIED_TYPES = ("", "application/octet-stream", "application/x-www-form-urlencoded")
"""Content-Types that do not say what a body is; `curl --data-binary` sends the last."""
_PIECE = 1 << 20
"""Bytes that are written to disk at a time."""
_STEP = 16 << 20
"""Bytes of which the quota is taken at a time if the length of the body is not known."""
_PAUSE_S = 30.0
"""How long a client may send nothing."""
_MOST_PARTS = 64


def check_head(request: Request, settings: Settings) -> int:
    """Check what a request says about its body. Returns the length that it declares, or 0. Raises ApiError."""
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise ApiError("not-a-video", f"Content-Encoding {encoding[:50]} is not accepted; send the file as it is")
    kind = _media_type(request)
    if kind not in _UNSPECIFIED_TYPES and kind != "multipart/form-data" and not kind.startswith(("video/", "audio/")):
        raise ApiError("not-a-video", f"Content-Type {kind[:50]} is not accepted; send video/* or multipart/form-data")
    declared = request.headers.get("content-length", "")
    size = int(declared) if declared.isdigit() else 0
    if size > settings.max_video_mb * 1e6:
        raise _too_large(settings)
    return size


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


class VideoUpload:
    """Writes the body of a request to a file. size: bytes of the video so far. name: the file name of the part, if any.

    handle: the file's descriptor. reserved: bytes that the job's quota holds. grow: called with the bytes
    that it should hold.
    """

    def __init__(
        self, settings: Settings, handle: int, reserved: int, grow: Callable[[int], Awaitable[object]]
    ) -> None:
        self.size = 0
        self.name = ""
        self._settings = settings
        self._handle = handle
        self._reserved = reserved
        self._grow = grow
        self._waiting = bytearray()

    async def receive(self, request: Request) -> None:
        """Write the whole video. Raises ApiError, QuotaExceededError, DiskFullError and ClientDisconnect."""
        if _media_type(request) == "multipart/form-data":
            await self._receive_part(request)
        else:
            async for chunk in self._chunks(request):
                await self._write(chunk)
        await self._flush()
        if not self.size:
            raise ApiError("not-a-video", f"the body has no video; send the file itself, or a multipart part `{FIELD}`")

    async def _receive_part(self, request: Request) -> None:
        boundary = parse_options_header(request.headers["content-type"])[1].get("boundary", "")
        found = within = False
        try:
            with PushMultipartParser(boundary, max_segment_count=_MOST_PARTS, header_charset="latin-1") as parser:
                async for chunk in self._chunks(request):
                    for event in parser.parse(chunk):
                        if isinstance(event, MultipartSegment):
                            within = event.name == FIELD and not found
                            if within:
                                found, self.name = True, _file_name(event.filename or "")
                        elif event is not None and within:
                            await self._write(event)
        except ParserLimitReached as error:
            raise ApiError("bad-request", "the multipart body has too many parts, or too large headers") from error
        except (MultipartError, ValueError) as error:
            text = "the multipart body cannot be parsed; it must be RFC 7578, with its boundary in Content-Type"
            raise ApiError("bad-request", text) from error

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        """The pieces of the body. Raises ApiError if it becomes too large or comes too slowly."""
        rate, grace = self._settings.min_kb_per_second * 1e3, self._settings.stall_seconds
        started, size, more = time.monotonic(), 0, True
        while more:
            left = started + grace + size / rate - time.monotonic()
            try:
                async with asyncio.timeout(min(_PAUSE_S, left)):
                    message = await request.receive()
            except TimeoutError as error:
                slowest = f"{self._settings.min_kb_per_second:g} kB/s"
                text = f"the body pauses, or comes with less than {slowest}: {size:,} bytes so far"
                raise ApiError("too-slow", text) from error
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            chunk = message.get("body", b"")
            more = message.get("more_body", False)
            size += len(chunk)
            if size > self._settings.max_video_mb * 1e6:
                raise _too_large(self._settings)
            yield chunk

    async def _write(self, piece: bytes | bytearray) -> None:
        self._waiting += piece
        self.size += len(piece)
        if len(self._waiting) >= _PIECE:
            await self._flush()

    async def _flush(self) -> None:
        data, self._waiting = self._waiting, bytearray()
        if self.size > self._reserved:
            self._reserved = self.size + _STEP
            await self._grow(self._reserved)
        try:
            await asyncio.to_thread(self._flush_now, data)
        except OSError as error:
            if error.errno in DISK_FULL:
                raise DiskFullError("the server's disk is full; try again later") from error
            raise

    def _flush_now(self, data: bytearray) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._handle, rest) :]


def _file_name(latin: str) -> str:
    """The name of a file, read as Latin-1, whose bytes are UTF-8 or, from old programs, indeed Latin-1."""
    try:
        return latin.encode("latin-1").decode()
    except UnicodeDecodeError:
        return latin


def _too_large(settings: Settings) -> ApiError:
    return ApiError("too-large", f"the video is larger than the {settings.max_video_mb:g} MB allowed here")
