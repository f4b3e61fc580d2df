"""Misbehaving clients: they leave, stall, send wrong lengths, never end. Each returns its status."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from tests.benchmarks.broken_pictures import pictures

_ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER: closing the socket sends a reset."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def _open(port: int) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()


def _head(length: object, path: str = "/pose", *lines: str) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


def _picture() -> bytes:
    return next(iter(pictures()))


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the next answer; 0 if the connection ends without one."""
    try:
        line = await asyncio.wait_for(reader.readline(), 20)
    except OSError:
        return 0
    return int(line.split()[1]) if line else 0


async def leave_while_sending(port: int) -> int:
    """Half a body, then an orderly end."""
    async with _open(port) as (_, writer):
        writer.write(_head(100_000) + _picture())
        await asyncio.sleep(0.01)
    return 0


async def abort_while_sending(port: int) -> int:
    """Half a body, then a reset."""
    async with _open(port) as (_, writer):
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABORT)
        writer.write(_head(100_000) + _picture())
        await asyncio.sleep(0.01)
    return 0


async def leave_while_waiting(port: int) -> int:
    """A whole request whose client leaves before the answer."""
    async with _open(port) as (_, writer):
        writer.write(_head(len(_picture())) + _picture())
    return 0


async def send_slowly(port: int) -> int:
    """Single bytes, long past the deadline."""
    async with _open(port) as (reader, writer):
        writer.write(_head(100_000, "/pose?timeout_ms=300"))
        answer = asyncio.create_task(_status(reader))
        while not answer.done():
            writer.write(b"\xff")
            await asyncio.sleep(0.05)
        return await answer


async def lie_about_length(port: int) -> int:
    """A declared length of a petabyte."""
    async with _open(port) as (reader, writer):
        writer.write(_head(10**15) + _picture())
        return await _status(reader)


async def never_end(port: int) -> int:
    """Chunks of an endless body."""
    async with _open(port) as (reader, writer):
        writer.write(b"POST /pose HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        answer = asyncio.create_task(_status(reader))
        while not answer.done():
            writer.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
            await writer.drain()
        return await answer


async def say_nothing(port: int) -> int:
    """A connection without a request."""
    async with _open(port):
        await asyncio.sleep(0.5)
    return 0


async def half_a_header(port: int) -> int:
    """A request that ends in its first line."""
    async with _open(port) as (_, writer):
        writer.write(b"POST /pose HT")
        await asyncio.sleep(0.1)
    return 0


async def no_http(port: int) -> int:
    """Another protocol."""
    async with _open(port) as (reader, writer):
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n")
        return await _status(reader)


async def endless_header(port: int) -> int:
    """A header of half a megabyte."""
    async with _open(port) as (reader, writer):
        writer.write(_head(0, "/pose", *(f"X-{n}: {'y' * 5000}" for n in range(100))))
        return await _status(reader)


async def pipeline(port: int) -> int:
    """Two pipelined requests: unusual, but valid. Returns the second status."""
    async with _open(port) as (reader, writer):
        writer.write(2 * (_head(len(_picture())) + _picture()))
        for _ in range(2):
            status = await _status(reader)
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
        return status


RUDE: Mapping[Callable[[int], Awaitable[int]], frozenset[int]] = {
    leave_while_sending: frozenset({0}),
    abort_while_sending: frozenset({0}),
    leave_while_waiting: frozenset({0}),
    send_slowly: frozenset({408, 504}),
    lie_about_length: frozenset({413}),
    never_end: frozenset({413}),
    say_nothing: frozenset({0}),
    half_a_header: frozenset({0}),
    no_http: frozenset({400}),
    endless_header: frozenset({400, 413, 431}),
    pipeline: frozenset({200}),
}
"""The right statuses of each client."""
