"""Load of stills: `POST /pose`, in a closed loop (so many at once) or an open one (so many a second)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import orjson

from service.load.connection import HttpConnection, Server
from service.load.samples import Samples

_OK = 200
_MOST_CONNECTIONS = 256
"""Of an open loop. Requests beyond wait for one, and their wait counts."""
_DRAIN_S = 12.0
"""After the last request, how long answers may take: the server's own deadline and a little."""


async def closed_loop(server: Server, requests: Sequence[bytes], concurrency: int, seconds: float) -> Samples:
    """Keep `concurrency` requests under way for `seconds`. Raises OSError if the server cannot be reached."""
    samples = Samples()
    loop = asyncio.get_running_loop()
    stop = loop.time() + seconds

    async def client(number: int) -> None:
        connection = await server.connect()
        turn = number
        try:
            while loop.time() < stop:
                if connection.broken:
                    connection = await server.connect()
                began = loop.time()
                status, body = await connection.ask(requests[turn % len(requests)])
                _count(samples, status, body, loop.time() - began)
                turn += concurrency
        finally:
            connection.close()

    async with asyncio.TaskGroup() as group:
        for number in range(concurrency):
            group.create_task(client(number))
    return samples


async def open_loop(server: Server, requests: Sequence[bytes], rate: float, seconds: float) -> Samples:
    """Send `rate` requests a second for `seconds`, whether the server keeps up or not.

    Each latency counts from the time at which the request was due, so that a server that stands still is charged for
    the requests that could not be sent meanwhile.
    """
    samples = Samples()
    loop = asyncio.get_running_loop()
    idle: list[HttpConnection] = []
    room = asyncio.Semaphore(_MOST_CONNECTIONS)
    begin = loop.time()

    async def ask(request: bytes) -> tuple[int, bytes]:
        used = idle.pop() if idle else None
        connection = used or await server.connect()
        try:
            status, body = (0, b"") if connection.broken else await connection.ask(request)
        except BaseException:
            connection.close()
            raise
        if not connection.broken:
            idle.append(connection)
        elif used and not status:  # the server closes idle connections, so every client tries once more
            return await ask(request)
        return status, body

    async def one(number: int, due: float) -> None:
        samples.late.append(loop.time() - due)
        try:
            async with asyncio.timeout_at(begin + seconds + _DRAIN_S), room:
                status, body = await ask(requests[number % len(requests)])
        except (OSError, TimeoutError):
            status, body = 0, b""
        _count(samples, status, body, loop.time() - due)

    try:
        async with asyncio.TaskGroup() as group:
            for number in range(max(1, int(rate * seconds))):
                due = begin + number / rate
                if (pause := due - loop.time()) > 0:
                    await asyncio.sleep(pause)
                group.create_task(one(number, due))
    finally:
        for connection in idle:
            connection.close()
    return samples


def _count(samples: Samples, status: int, body: bytes, latency: float) -> None:
    if status == _OK:
        samples.add(latency, orjson.loads(body)["timing_ms"])
    else:
        samples.statuses[status] += 1
