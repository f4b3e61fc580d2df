"""Requests without limits: headers, URLs, chunks, and abandoned requests."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable

from tests.benchmarks.attacks.attacker import Attacker, get, post
from tests.pictures import encoded, photo

_ENDLESS = 99_000_000
_BLOCK = 1 << 16
_PIPELINED = 29_000_000


def _endless(attacker: Attacker, opening: bytes, block: bytes, end: bytes, *, also: bytes = b"") -> None:
    """Requests with 99 MB of one element. The server may answer or disconnect at any time. also: another opening."""
    attacker.begin()
    turns = itertools.cycle((opening, also or opening))

    def run() -> None:
        connection = attacker.connect()
        if connection is None:
            return
        with connection:
            sent, going = 0, attacker.send(connection, next(turns))
            while going and sent < _ENDLESS:
                going = attacker.send(connection, block)
                sent += len(block)
            if going:
                attacker.send(connection, end)
            attacker.answer(connection)

    attacker.together(2, run, pause=0.5)


def endless_header(attacker: Attacker) -> None:
    """A header of 99 MB: its value, or its name."""
    opening = b"GET /livez HTTP/1.1\r\nHost: x\r\n"
    _endless(attacker, opening + b"X-A: ", b"a" * _BLOCK, b"\r\n\r\n", also=opening)


def endless_headers(attacker: Attacker) -> None:
    """16 million small headers."""
    _endless(attacker, b"GET /livez HTTP/1.1\r\nHost: x\r\n", b"x: y\r\n" * (_BLOCK // 6), b"\r\n")


def endless_url(attacker: Attacker) -> None:
    """A URL of 99 MB."""
    _endless(attacker, b"GET /livez?", b"a" * _BLOCK, b" HTTP/1.1\r\nHost: x\r\n\r\n")


def endless_method(attacker: Attacker) -> None:
    """A request line with an endless first word."""
    _endless(attacker, b"", b"A" * _BLOCK, b" / HTTP/1.1\r\n\r\n")


def endless_trailers(attacker: Attacker) -> None:
    """An empty body with 99 MB of trailers."""
    opening = b"POST /pose HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    _endless(attacker, opening, b"x: y\r\n" * (_BLOCK // 6), b"\r\n")


def endless_chunk_extension(attacker: Attacker) -> None:
    """A chunk with 99 MB of extensions."""
    opening = b"POST /pose HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a="
    _endless(attacker, opening, b"a" * _BLOCK, b"\r\n\r\n0\r\n\r\n")


def one_byte_chunks(attacker: Attacker) -> None:
    """Bodies of many chunks of one byte."""
    opening = b"POST /pose HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    _endless(attacker, opening, b"1\r\nx\r\n" * (_BLOCK // 6), b"0\r\n\r\n")


def million_names(attacker: Attacker) -> None:
    """Queries with a million unknown names, and with as many as fit into 64 kB."""
    million = "&".join(f"x{number:x}=" for number in range(1_000_000))
    letters = string.ascii_letters + string.digits
    fitting = "&".join(map("".join, itertools.islice(itertools.product(letters, repeat=3), 16_000)))
    picture = b"\xff\xd8\xff"
    requests = [post(picture, f"/pose?{million}"), post(picture, f"/pose?{fitting}"), get(f"/models?{fitting}")]
    attacker.begin()
    turns = itertools.cycle(requests)
    attacker.together(4, lambda: attacker.ask(next(turns)), pause=0.1)


def pipelined_unread(attacker: Attacker) -> None:
    """29 MB of requests at once, whose answers are not read."""
    _pipeline(attacker, lambda: None)


def pipelined_read(attacker: Attacker) -> None:
    """29 MB of requests at once, whose answers are all read."""
    _pipeline(attacker, None)


def _pipeline(attacker: Attacker, unread: Callable[[], None] | None) -> None:
    block = get() * 2000
    attacker.begin()

    def run() -> None:
        connection = attacker.connect(receive_buffer=4096 if unread else 0)
        if connection is None:
            return
        with connection:
            for _ in range(_PIPELINED // len(block)):
                if not attacker.send(connection, block):
                    break
                if unread is None:
                    connection.setblocking(False)
                    try:
                        while connection.recv(1 << 20):
                            pass
                    except OSError:
                        pass
            if unread is None:
                attacker.answer(connection, timeout=2)
            else:
                attacker.pause(5)

    attacker.together(2, run, pause=0.5)


def abandoned_requests(attacker: Attacker) -> None:
    """100 good pictures per second, whose clients leave before the answer."""
    request = post(encoded(photo(640, 480)))
    attacker.begin()

    def leave() -> None:
        if connection := attacker.connect():
            with connection:
                attacker.send(connection, request)

    attacker.together(2, leave, pause=0.02)


def h2c_upgrades(attacker: Attacker) -> None:
    """Good pictures of clients that offer HTTP/2, such as Java's and curl's, which must get normal answers."""
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
    request = post(encoded(photo(64, 48)), "/pose", *offer)
    attacker.begin()
    attacker.together(1, lambda: attacker.ask(request), pause=0.3)


def more_requests_than_can_be_done(attacker: Attacker) -> None:
    """64 clients that send a picture after each answer."""
    request = post(encoded(photo(640, 480)))
    attacker.begin()
    attacker.together(64, lambda: attacker.ask(request), pause=0.05)
