"""The packets of MQTT 5 that a client needs to publish with QoS 1, as bytes (OASIS, MQTT Version 5.0)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

CONNACK, PUBACK, PINGRESP, DISCONNECT = 0x20, 0x40, 0xD0, 0xE0
PINGREQ = b"\xc0\x00"
GOODBYE = b"\xe0\x00"
"""DISCONNECT: a broker that gets it does not publish the will."""
LEAST_ERROR = 0x80
"""Reason codes from here on are errors."""
QUOTA_EXCEEDED, BUSY = 0x97, 0x89
_LONGEST = 268_435_455
_U16 = struct.Struct(">H")
_JSON = b"\x01\x01\x03" + _U16.pack(16) + b"application/json"
"""Properties: the payload is UTF-8, of this content type."""

_PROPERTY_BYTES = {0x13: 2, 0x21: 2, 0x22: 2, 0x11: 4, 0x27: 4, 0x24: 1, 0x25: 1, 0x28: 1, 0x29: 1, 0x2A: 1}
_RECEIVE_MAXIMUM, _MAXIMUM_PACKET, _KEEP_ALIVE, _USER_PROPERTY = 0x21, 0x27, 0x13, 0x26

REASONS = {
    0x81: "the packet is malformed",
    0x84: "it does not speak MQTT 5",
    0x85: "the client id is not valid",
    0x86: "bad user name or password",
    0x87: "not authorized",
    0x88: "the server is unavailable",
    0x89: "the server is busy",
    0x8A: "banned",
    0x8B: "the server is shutting down",
    0x8D: "it heard nothing for too long",
    0x8E: "another client uses the same client id",
    0x90: "the topic is not valid",
    0x93: "too many packets at once",
    0x95: "the packet is too large",
    0x97: "quota exceeded",
    0x99: "the payload is not valid",
    0x9A: "it does not support retained messages",
    0x9B: "it does not support QoS 1",
    0x9F: "too many connections in a short time",
}


class MalformedPacketError(ValueError):
    """The broker does not speak MQTT 5."""


class Will(NamedTuple):
    """What the broker publishes, retained, when the connection is lost."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """CONNACK. reason: see REASONS; 0 for success. receive_maximum: publications under way at once. maximum_packet:
    bytes. keep_alive: seconds that the broker wants, None if it has no wish.
    """

    reason: int
    receive_maximum: int = 65_535
    maximum_packet: int = _LONGEST
    keep_alive: int | None = None


def connect(client: str, keep_alive: int, will: Will, username: str, password: str) -> bytes:
    """CONNECT with a clean start. keep_alive: seconds."""
    flags = 0x02 | 0x04 | 0x08 | 0x20 | 0x80 * bool(username) | 0x40 * bool(password)
    head = _text("MQTT") + bytes((5, flags)) + _U16.pack(keep_alive) + b"\x00"
    body = _text(client) + b"\x00" + _text(will.topic) + _binary(will.payload)
    body += (_text(username) if username else b"") + (_text(password) if password else b"")
    return _packet(0x10, head + body)


def publish(number: int, topic: str, payload: bytes, *, retain: bool) -> bytes:
    """PUBLISH with QoS 1. number: the packet's identifier, 1..65535. Raises ValueError if the topic is too long."""
    properties = _length(len(_JSON)) + _JSON if payload else b"\x00"
    return _packet(0x32 | retain, _text(topic) + _U16.pack(number) + properties + payload)


def read_connack(body: bytes) -> Acknowledged:
    """Raises MalformedPacketError."""
    try:
        reason, properties = body[1], _properties(body[2:])
    except (IndexError, struct.error) as error:
        raise MalformedPacketError("its first packet is damaged") from error
    keep_alive = properties.get(_KEEP_ALIVE)
    most, longest = properties.get(_RECEIVE_MAXIMUM, 65_535), properties.get(_MAXIMUM_PACKET, _LONGEST)
    return Acknowledged(reason, most, longest, keep_alive)


def read_puback(body: bytes) -> tuple[int, int]:
    """Return the identifier of the packet and the reason code. Raises MalformedPacketError."""
    if len(body) < 2:
        raise MalformedPacketError("an acknowledgement is damaged")
    return _U16.unpack_from(body)[0], body[2] if len(body) > 2 else 0


def reason(code: int) -> str:
    return REASONS.get(code, f"reason code 0x{code:02x}")


def _packet(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + _length(len(body)) + body


def _length(value: int) -> bytes:
    """A variable byte integer. Raises ValueError if it is too large."""
    if value > _LONGEST:
        raise ValueError("the packet is too large for MQTT")
    encoded = bytearray()
    while True:
        value, byte = divmod(value, 128)
        encoded.append(byte | 0x80 * (value > 0))
        if not value:
            return bytes(encoded)


def _text(text: str) -> bytes:
    return _binary(text.encode())


def _binary(data: bytes) -> bytes:
    if len(data) > 65_535:
        raise ValueError("a text of more than 65,535 bytes does not fit into an MQTT packet")
    return _U16.pack(len(data)) + data


def _properties(data: bytes) -> dict[int, int]:
    """The numbers among the properties. Texts are skipped. Raises IndexError, struct.error, MalformedPacketError."""
    found: dict[int, int] = {}
    length = shift = position = 0
    while True:
        byte, position = data[position], position + 1
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    end = position + length
    while position < end:
        kind, position = data[position], position + 1
        if size := _PROPERTY_BYTES.get(kind):
            found[kind], position = int.from_bytes(data[position : position + size]), position + size
        elif kind in (0x12, 0x1F, 0x1A, 0x1C, 0x15, 0x16, _USER_PROPERTY):
            for _ in range(1 + (kind == _USER_PROPERTY)):
                position += 2 + _U16.unpack_from(data, position)[0]
        else:
            raise MalformedPacketError(f"it sent an unknown property 0x{kind:02x}")
    return found
