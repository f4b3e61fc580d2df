"""The messages between a server and the process that works on a video. Each is sent with its length in front.

The server sends one pickled ChildTask, then the records of `video_records.pack`. What it receives is msgpack, as the
process has read a hostile file.
"""

from __future__ import annotations

import asyncio
import pickle  # of what the server sends only
import struct
from dataclasses import dataclass
from typing import Any

import ormsgpack

from engines.skeletons import Skeleton
from service.offline.video_task import VideoTask

_LENGTH = struct.Struct("<I")
_MOST_BYTES = 1 << 20
"""Of a message from the process: the boxes of all people in a frame, and some numbers."""


class MessageError(Exception):
    """The process has sent something that is not a message."""


@dataclass(frozen=True, slots=True)
class ChildTask:
    """What the process is to do. model, skeleton, detects: of the server's model, see `FrameEstimator`.

    seconds: the longest video. pixels: the largest frame.
    """

    video: VideoTask
    model: str
    skeleton: Skeleton
    detects: bool
    seconds: float
    pixels: int

    def packed(self) -> bytes:
        return pickle.dumps(self)

    @staticmethod
    def unpacked(body: bytes) -> ChildTask:
        task: ChildTask = pickle.loads(body)  # noqa: S301 - the server has sent it
        return task


def send(writer: asyncio.StreamWriter, body: bytes) -> None:
    writer.write(_LENGTH.pack(len(body)) + body)


def send_message(writer: asyncio.StreamWriter, **members: object) -> None:
    send(writer, ormsgpack.packb(members))


async def receive(reader: asyncio.StreamReader) -> bytes:
    """Return a message's body. Raises asyncio.IncompleteReadError at the end of the connection."""
    return await reader.readexactly(*_LENGTH.unpack(await reader.readexactly(_LENGTH.size)))


async def receive_message(reader: asyncio.StreamReader) -> dict[str, Any]:
    """As `receive`, for `send_message`. Raises MessageError if it is not a message."""
    (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
    if length > _MOST_BYTES:
        raise MessageError(f"a message of {length} bytes")
    try:
        message = ormsgpack.unpackb(await reader.readexactly(length))
    except ValueError as error:
        raise MessageError(str(error)) from error
    if not isinstance(message, dict):
        raise MessageError(f"a {type(message).__name__} in place of a message")
    return message
