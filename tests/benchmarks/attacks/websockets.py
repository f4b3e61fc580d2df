"""Websocket floods: messages that cost the server more than the sender, and endless streams."""

from __future__ import annotations

import itertools
import json
import re
import secrets
import socket
import struct
import threading
from contextlib import suppress
from math import cos, sin

from tests.benchmarks.attacks.attacker import Attacker, Pace, close_code
from tests.pictures import encoded, photo


def upgrade(path: str) -> bytes:
    """The request that begins a websocket."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: posewire\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


UPGRADE = upgrade("/stream")
_CONTINUED, TEXT, _BINARY, _PING, _PONG = 0, 1, 2, 9, 10
_RATE = 2e6
"""Bytes per second of a flood, over all its connections."""
_HELLO = {"window": 0}
_HUGE_VP8 = b"\x10\x00\x00\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(1000)
"""The head of a key frame of VP8 with the largest width and height."""
_MOST_RULES = {
    "window": 0,
    "extras": True,
    "zones": [
        {"name": f"z{n}", "polygon": [[round(0.5 + 0.5 * f(0.0982 * k), 3) for f in (cos, sin)] for k in range(64)]}
        for n in range(32)
    ],
    "lines": [{"name": f"l{n}", "start": [n / 32, 0], "end": [n / 32, 1]} for n in range(32)],
    "rules": {"occupancy": True, "counts": True},
}
"""A hello with as many zones, corners and lines as there may be."""


def frame(opcode: int, data: bytes = b"", *, last: bool = True) -> bytes:
    """A frame with a mask of zeros, which changes nothing."""
    size, start = len(data), bytes([opcode | (0x80 if last else 0)])
    if size < 126:
        start += bytes([0x80 | size])
    elif size < 2**16:
        start += bytes([0x80 | 126]) + struct.pack(">H", size)
    else:
        start += bytes([0x80 | 127]) + struct.pack(">Q", size)
    return start + bytes(4) + data


def _open(attacker: Attacker, hello: object | None = None) -> tuple[socket.socket | None, str]:
    """Open a websocket. Returns it with the answer to the hello, if one was sent; None if it was refused."""
    connection = attacker.connect()
    if connection is None:
        return None, ""
    attacker.send(connection, UPGRADE)
    data = attacker.receive(connection)
    if b" 101 " in data[:20]:
        if hello is None:
            return connection, ""
        attacker.send(connection, frame(TEXT, json.dumps(hello).encode()))
        told = data.partition(b"\r\n\r\n")[2] + attacker.receive(connection)
        if told and told[0] & 0x0F == TEXT:
            return connection, told[told.find(b"{") :].decode("utf-8", "replace")
        data = told
    _count_end(attacker, data)
    connection.close()
    attacker.pause(0.1)
    return None, ""


def _count_end(attacker: Attacker, data: bytes) -> None:
    """Count the end of a connection: an HTTP status or the code of a close frame."""
    status = re.match(rb"HTTP/1\.1 (\d{3})", data)
    attacker.outcomes[status[1].decode() if status else close_code(data) or "closed without a code"] += 1


def _flood(
    attacker: Attacker, chunk: bytes, *, hello: object | None = _HELLO, first: bytes = b"", count: int = 2
) -> None:
    """Send a chunk of frames repeatedly, and read the answers. first: sent once on each connection."""
    attacker.begin()
    pace = [Pace(attacker, _RATE / count) for _ in range(count)]
    numbers = itertools.cycle(range(count))

    def run() -> None:
        connection, _ = _open(attacker, hello)
        if connection is None:
            return
        number = next(numbers)
        told = b""
        with connection:
            if first and not attacker.send(connection, first):
                return
            while attacker.running:
                pace[number].wait(len(chunk))
                if not attacker.send(connection, chunk):
                    break
                told = _drain(connection) or told
            if attacker.running:
                _count_end(attacker, _drain(connection) or told)

    attacker.together(count, run, pause=0.2)


def _drain(connection: socket.socket) -> bytes:
    """Read all available data without blocking. Returns its end."""
    data = b""
    connection.setblocking(False)
    with suppress(OSError):
        while more := connection.recv(1 << 20):
            data = more
    return data


def one_byte_messages(attacker: Attacker) -> None:
    """Binary messages of one byte."""
    _flood(attacker, frame(_BINARY, b"x") * 3000)


def empty_messages(attacker: Attacker) -> None:
    """Empty binary messages."""
    _flood(attacker, frame(_BINARY) * 3000)


def acknowledgements(attacker: Attacker) -> None:
    """Acknowledgements of the first frame again and again."""
    _flood(attacker, frame(TEXT, b'{"ack":0}') * 2000, first=frame(_BINARY, encoded(photo(64, 48))))


def pings(attacker: Attacker) -> None:
    """Empty pings, each of which requires a pong."""
    _flood(attacker, frame(_PING) * 3000)


def pongs(attacker: Attacker) -> None:
    """Unsolicited pongs."""
    _flood(attacker, frame(_PONG, b"x") * 3000)


def empty_fragments(attacker: Attacker) -> None:
    """Messages of very many empty fragments."""
    _flood(attacker, frame(_BINARY, last=False) + frame(_CONTINUED, last=False) * 900 + frame(_CONTINUED))


def small_fragments(attacker: Attacker) -> None:
    """Messages of many fragments of ten bytes."""
    part = frame(_CONTINUED, b"0123456789", last=False)
    _flood(attacker, frame(_BINARY, b"\xff\xd8", last=False) + part * 900 + frame(_CONTINUED))


def unhelloed_pings(attacker: Attacker) -> None:
    """Pings on connections without a hello."""
    _flood(attacker, frame(_PING) * 3000, hello=None)


def broken_frames(attacker: Attacker) -> None:
    """Pictures of 40 kB that begin like a JPEG, but are invalid."""
    _flood(attacker, frame(_BINARY, b"\xff\xd8\xff\xe0" + b"\xff" * 40_000) * 5)


def large_frames(attacker: Attacker) -> None:
    """Messages just below the size limit."""
    _flood(attacker, frame(_BINARY, b"\xff\xd8" + bytes(7_900_000)))


def unhelloed_streams(attacker: Attacker) -> None:
    """300 websockets that never send a hello."""
    attacker.begin()
    attacker.hold(itertools.repeat(UPGRADE, 300))


def many_streams(attacker: Attacker) -> None:
    """300 streams that send a hello and one small picture every 5 s."""
    picture = frame(_BINARY, encoded(photo(64, 48)))
    attacker.begin()
    attacker.hold(itertools.repeat(UPGRADE, 300), drip=picture, every=5.0, greeting=frame(TEXT, b'{"window":0}'))


def frames_at_full_speed(attacker: Attacker) -> None:
    """16 streams that send good pictures as fast as they can."""
    _flood(attacker, frame(_BINARY, encoded(photo(320, 240))), count=16)


def frames_with_most_rules(attacker: Attacker) -> None:
    """Streams with as many zones and lines as there may be, at full speed; each other picture is turned."""
    picture = photo(320, 240)
    chunk = b"".join(frame(_BINARY, encoded(each)) for each in (picture, picture.rotate(180)))
    _flood(attacker, chunk, hello=_MOST_RULES, count=8)


def garbage_video(attacker: Attacker) -> None:
    """Compressed video of noise, and of a picture of 16384 x 16384 pixels, each chunk a key frame."""
    noise = frame(_BINARY, b"\1" + secrets.token_bytes(20_000))
    _flood(attacker, (noise + frame(_BINARY, b"\1" + _HUGE_VP8)) * 20, hello={**_HELLO, "video": "vp8"}, count=8)


def garbage_tokens(attacker: Attacker) -> None:
    """Streams that try to resume unknown sessions, each with another token."""
    attacker.begin()
    lengths = itertools.cycle((1, 16, 64, 200, 1000, 4000))

    def come_back() -> None:
        connection, _ = _open(attacker, {"resume": secrets.token_urlsafe(next(lengths))})
        if connection is not None:
            connection.close()

    attacker.together(4, come_back, pause=0.02)


def resume_floods(attacker: Attacker) -> None:
    """One session that is resumed repeatedly, by 16 connections at once."""
    token, lock = "", threading.Lock()
    attacker.begin()

    def come_back() -> None:
        nonlocal token
        with lock:
            mine = token
        connection, told = _open(attacker, {"resume": mine} if mine else {})
        if connection is not None:
            with lock:
                token = (re.findall(r'"token":"([^"]+)"', told) or [token])[0]
            attacker.pause(0.2)
            connection.close()

    attacker.together(16, come_back, pause=0.1)
