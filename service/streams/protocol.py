"""The messages of a stream's connection as values and as bytes, and its close codes.

`GET /docs/stream` serves the description of the protocol.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import orjson
import ormsgpack

from service.media.image_files import NotAnImageError
from service.media.video_decoder import VideoCodec
from service.rules.definition import Rules
from service.tracking.detector_pace import DetectEvery
from service.tracking.smoothing import OneEuroConfig
from service.tracking.zones import Line, Zone
from service.tracking_workers.state import TrackingOptions

Encoding = Literal["json", "msgpack"]
SUBPROTOCOLS: Mapping[str, Encoding] = MappingProxyType({"posewire.json.v1": "json", "posewire.msgpack.v1": "msgpack"})

_TIMESTAMP = struct.Struct(">d")
_KEY = 1
"""The flag of a chunk that is a key frame."""
_ACKNOWLEDGEMENT = '{"ack": NUMBER OF A FRAME}'
_LONGEST_ACKNOWLEDGEMENT = 200
"""Characters. Longer text messages are not parsed."""
_LONGEST_REASON = 123
"""Bytes that a close frame can hold beside the code; RFC 6455, section 5.5."""


class CloseCode(IntEnum):
    """Close codes: those of RFC 6455 where one fits, otherwise 4000 plus the HTTP status with the same meaning.

    `GET /docs/stream` tells clients what to do on each.
    """

    GOING_AWAY = 1001
    NOT_TEXT = 1007
    TOO_LARGE = 1009
    FAILED = 1011
    RESTARTING = 1012
    TRY_LATER = 1013
    BAD_MESSAGE = 4400
    UNAUTHORIZED = 4401
    UNKNOWN_MODEL = 4404
    UNKNOWN_CAMERA = 4404
    SILENT = 4408
    REPLACED = 4409
    GONE = 4410
    BAD_FRAMES = 4415
    BAD_HELLO = 4422
    RATE_LIMITED = 4429


class StreamError(Exception):
    """Ends a stream. reason: shown to the client, cut to the length of a close frame."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        self.code = code
        self.reason = reason.encode(errors="replace")[:_LONGEST_REASON].decode(errors="ignore")
        super().__init__(f"{int(code)}: {self.reason}")


@dataclass(frozen=True, slots=True)
class Hello:
    """A client's hello, validated.

    skeleton: a name, or `native`. detect_every: see `DetectEvery`.
    window: the most unacknowledged results, 0 for no acknowledgements. timestamps: every frame begins with one.
    smoothing: of keypoints, None for none. extras: results have velocities and ages. resume: a token, or empty.
    video: frames are chunks of it, not pictures.
    forget_seconds: how long people who are out of sight are remembered. rules: about what people do. group: of streams
    that share ids and absent people; empty for none.
    """

    model: str | None = None
    skeleton: str = "native"
    min_score: float = 0.3
    max_people: int | None = None
    smoothing: OneEuroConfig | None = None
    detect_every: DetectEvery = None
    window: int = 8
    timestamps: bool = False
    extras: bool = False
    resume: str = ""
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()
    video: VideoCodec | None = None
    forget_seconds: float = TrackingOptions().forget_seconds
    rules: Rules = field(default_factory=Rules)
    group: str = ""

    @property
    def tracking(self) -> TrackingOptions:
        """What the hello says of tracking; the server adds the embedder."""
        return TrackingOptions(
            self.smoothing,
            self.extras,
            self.zones,
            self.lines,
            self.forget_seconds,
            rules=self.rules,
            grouped=bool(self.group),
        )

    @property
    def has_events(self) -> bool:
        """True if results have `events`."""
        return bool(self.zones or self.lines or self.rules.events)


def read_frame(message: bytes, timestamps: bool) -> tuple[float | None, bytes]:
    """Return a frame's timestamp in milliseconds, None if it has none, and its encoded picture.

    Raises NotAnImageError if the message is too short for its timestamp, or if the timestamp is not finite.
    """
    if not timestamps:
        return None, message
    if len(message) < _TIMESTAMP.size:
        raise NotAnImageError(
            f"the message has {len(message)} bytes, but begins with a timestamp of {_TIMESTAMP.size}, as the hello said"
        )
    timestamp: float = _TIMESTAMP.unpack_from(message)[0]
    if not math.isfinite(timestamp):
        raise NotAnImageError(f"the timestamp is {timestamp}; it is a big-endian float64 of milliseconds")
    return timestamp, message[_TIMESTAMP.size :]


class Chunk(NamedTuple):
    """A piece of compressed video, usually a frame. timestamp: milliseconds, None if it has none."""

    timestamp: float | None
    key: bool
    data: bytes


def read_chunk(message: bytes, timestamps: bool) -> Chunk:
    """Read a message of a stream of video. Raises StreamError if it is not a chunk, as all later ones depend on it."""
    try:
        timestamp, rest = read_frame(message, timestamps)
    except NotAnImageError as error:
        raise StreamError(CloseCode.BAD_MESSAGE, str(error)) from error
    if len(rest) < 2 or rest[0] & ~_KEY:
        raise StreamError(CloseCode.BAD_MESSAGE, "a chunk is a byte of flags, 0 or 1 (a key frame), and its data")
    return Chunk(timestamp, bool(rest[0] & _KEY), rest[1:])


def read_acknowledgement(text: str) -> int:
    """Return the number in `{"ack": NUMBER}`. Raises StreamError for any other text."""
    if len(text) > _LONGEST_ACKNOWLEDGEMENT:
        reason = f"a text message is {_ACKNOWLEDGEMENT}, not {len(text):,} characters"
        raise StreamError(CloseCode.BAD_MESSAGE, reason)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise StreamError(CloseCode.BAD_MESSAGE, f"a text message is {_ACKNOWLEDGEMENT}, not: {error}") from error
    if not isinstance(document, dict) or document.keys() != {"ack"} or type(document["ack"]) is not int:
        raise StreamError(
            CloseCode.BAD_MESSAGE, f"after the hello, a text message is {_ACKNOWLEDGEMENT}; frames are binary"
        )
    return document["ack"]


def encode(document: object, encoding: Encoding) -> str | bytes:
    """Return a message: text for JSON, bytes for msgpack. The document may contain numpy arrays and numbers."""
    if encoding == "json":
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return ormsgpack.packb(document, option=ormsgpack.OPT_SERIALIZE_NUMPY)


def embed(part: object, encoding: Encoding) -> Any:
    """Encode a part of a document, so that `encode` copies it as it is."""
    if encoding == "json":
        return orjson.Fragment(orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY))
    return ormsgpack.Fragment(ormsgpack.packb(part, option=ormsgpack.OPT_SERIALIZE_NUMPY))
