"""What goes over a stream's connection, as values and as bytes. docs: the page that `GET /docs/stream` shows."""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import orjson
import ormsgpack

from service.media.image_files import NotAnImageError
from service.streams.closing import CloseCode, StreamError
from service.tracking.zones import Line, Zone

Encoding = Literal["json", "msgpack"]
SUBPROTOCOLS: Mapping[str, Encoding] = MappingProxyType({"posewire.json.v1": "json", "posewire.msgpack.v1": "msgpack"})

_STAMP = struct.Struct(">d")
_ACKNOWLEDGEMENT = '{"ack": NUMBER OF A FRAME}'
_LONGEST_ACKNOWLEDGEMENT = 200
"""Characters: nothing longer is parsed."""


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client asks for, checked. skeleton: a name, or `native`. detect_every: seconds, 0 for every frame.

    window: the most unacknowledged results, 0 for no acknowledgements. timestamps: every frame begins with one.
    resume: a token, or empty. extras: velocities and ages are told too.
    """

    model: str | None = None
    skeleton: str = "native"
    min_score: float = 0.3
    max_people: int | None = None
    smoothing: bool = False
    detect_every: float = 0.0
    window: int = 8
    timestamps: bool = False
    extras: bool = False
    resume: str = ""
    zones: tuple[Zone, ...] = ()
    lines: tuple[Line, ...] = ()

    @property
    def places(self) -> str:
        """A name for the zones and lines; empty where there are none."""
        if not (self.zones or self.lines):
            return ""
        return hashlib.sha256(repr((self.zones, self.lines)).encode()).hexdigest()[:16]


def read_frame(message: bytes, timestamps: bool) -> tuple[float | None, bytes]:
    """A frame's timestamp in milliseconds, or None, and its encoded picture.

    Raises NotAnImageError for a message without room for the timestamp, or with one that is not finite.
    """
    if not timestamps:
        return None, message
    if len(message) < _STAMP.size:
        raise NotAnImageError(
            f"the message has {len(message)} bytes, but begins with a timestamp of {_STAMP.size}, as the hello said"
        )
    stamp: float = _STAMP.unpack_from(message)[0]
    if not math.isfinite(stamp):
        raise NotAnImageError(f"the timestamp is {stamp}; it is a big-endian float64 of milliseconds")
    return stamp, message[_STAMP.size :]


def read_acknowledgement(text: str) -> int:
    """The number in `{"ack": NUMBER}`. Raises StreamError for any other text."""
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
    """A message: text for JSON, binary for msgpack. numpy's arrays and numbers may be in it."""
    if encoding == "json":
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY).decode()
    return ormsgpack.packb(document, option=ormsgpack.OPT_SERIALIZE_NUMPY)


def embed(part: object, encoding: Encoding) -> Any:
    """A part of a document, encoded once and for all."""
    if encoding == "json":
        return orjson.Fragment(orjson.dumps(part, option=orjson.OPT_SERIALIZE_NUMPY))
    return ormsgpack.Fragment(ormsgpack.packb(part, option=ormsgpack.OPT_SERIALIZE_NUMPY))
