"""Many connections with little activity: silent, slow, unfinished, or closed at once."""

from __future__ import annotations

import itertools

from tests.benchmarks.attacks.attacker import Attacker, get, head
from tests.benchmarks.attacks.websockets import UPGRADE

_LARGE = 30_000_000
_UNFINISHED = (
    b"",
    b"POST /po",
    b"GET /livez HTTP/1.1\r\nHost: x\r\n",
    head(1000),
    head(1000) + b"\xff\xd8",
    b"POST /pose HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"GET /models HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
    get(),
    UPGRADE,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
)


def nothing(attacker: Attacker) -> None:
    """No attack, as a baseline and for the noise of the measurement."""
    attacker.begin()
    attacker.pause(attacker.left)


def idle_connections(attacker: Attacker) -> None:
    """6,000 silent connections: more than the server's limit of open files."""
    attacker.begin()
    attacker.hold(itertools.repeat(b"", 6000), every=5.0)


def idle_after_a_request(attacker: Attacker) -> None:
    """2,000 connections that stay open after their one request."""
    attacker.begin()
    attacker.hold(itertools.repeat(get(), 2000), every=5.0)


def slow_headers(attacker: Attacker) -> None:
    """300 requests whose headers are sent byte by byte."""
    attacker.begin()
    attacker.hold(itertools.repeat(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-A: ", 300), drip=b"a")


def never_finished(attacker: Attacker) -> None:
    """220 requests that stop at eleven different positions."""
    attacker.begin()
    attacker.hold(_UNFINISHED * 20)


def slow_bodies(attacker: Attacker) -> None:
    """140 bodies that are sent byte by byte, with a deadline of ten minutes."""
    attacker.begin()
    opening = head(_LARGE, "/pose?timeout_ms=600000", "Content-Type: image/jpeg") + b"\xff\xd8\xff"
    attacker.hold(itertools.repeat(opening, 140), drip=b"a")


def slow_chunks(attacker: Attacker) -> None:
    """140 bodies without a length, a chunk of one byte at a time, with a deadline of ten minutes."""
    attacker.begin()
    opening = b"POST /pose?timeout_ms=600000 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    attacker.hold(itertools.repeat(opening, 140), drip=b"1\r\na\r\n")


def churn(attacker: Attacker) -> None:
    """200 connections per second that close at once: silent, broken, or of another protocol."""
    attacker.begin()
    turns = itertools.cycle((b"", b"GET /", b"\0\0\0\0\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", *_UNFINISHED[-2:]))

    def come_and_go() -> None:
        if connection := attacker.connect():
            with connection:
                attacker.send(connection, next(turns))

    attacker.together(2, come_and_go, pause=0.01)
