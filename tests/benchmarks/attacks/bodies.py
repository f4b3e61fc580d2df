"""Bodies that are never completed, or take long to parse: JSON and multipart with very many parts."""

from __future__ import annotations

import itertools

from tests.benchmarks.attacks.attacker import Attacker, head, post

_MEGABYTE = 1_000_000
_LARGEST = 32 * _MEGABYTE
"""The largest allowed body."""


def held_bodies(attacker: Attacker) -> None:
    """127 bodies of 32 MB whose last bytes are never sent."""
    block = b"\xff\xd8\xff" + bytes(_MEGABYTE - 3)
    opening = head(_LARGEST, "/pose?timeout_ms=600000", "Content-Type: image/jpeg")
    attacker.begin()

    def hold() -> None:
        connection = attacker.connect()
        if connection is None:
            return
        with connection:
            going, sent = attacker.send(connection, opening), 0
            while going and sent < _LARGEST - _MEGABYTE:
                going = attacker.send(connection, block)
                sent += len(block)
            attacker.answer(connection)

    attacker.together(127, hold, pause=2.0)


def json_of_many_entries(attacker: Attacker) -> None:
    """A list of ten million numbers instead of pictures."""
    _repeat(attacker, b'{"images":[' + b"0," * 9_999_999 + b"0]}", "application/json")


def json_of_many_members(attacker: Attacker) -> None:
    """An object with a million unknown members, and a list of five million empty strings."""
    members = ",".join(f'"x{number:x}":0' for number in range(1_000_000))
    empty = b'{"images":[' + b'"",' * 4_999_999 + b'""]}'
    _repeat(attacker, f"{{{members}}}".encode(), "application/json", also=empty)


def json_without_end(attacker: Attacker) -> None:
    """Thirty million opening brackets."""
    _repeat(attacker, b"[" * 30_000_000, "application/json")


def multipart_of_many_parts(attacker: Attacker) -> None:
    """400,000 empty parts."""
    part = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n\r\n'
    _repeat(attacker, part * 400_000 + b"--x--\r\n", "multipart/form-data; boundary=x")


def multipart_of_long_parts(attacker: Attacker) -> None:
    """A part with four million headers, and one that resembles the boundary at every third byte."""
    start = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n'
    headers = start + b"A: b\r\n" * 4_000_000 + b"\r\n\r\n--x--\r\n"
    ends = start + b"\r\n" + b"\r\n-" * 10_000_000 + b"\r\n--x--\r\n"
    _repeat(attacker, headers, "multipart/form-data; boundary=x", also=ends)


def _repeat(attacker: Attacker, body: bytes, kind: str, *, also: bytes = b"") -> None:
    """Send one body repeatedly, two at a time. also: another body, which alternates with it."""
    turns = itertools.cycle(post(each, "/pose", f"Content-Type: {kind}") for each in (body, also or body))
    attacker.begin()
    attacker.together(2, lambda: attacker.ask(next(turns)), pause=0.5)
