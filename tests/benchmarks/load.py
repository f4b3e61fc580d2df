"""A load generator with low overhead: raw HTTP/1.1 on kept-alive connections, in its own process."""

from __future__ import annotations

import asyncio
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from service.load.connection import HttpConnection


@dataclass(frozen=True, slots=True)
class Shot:
    """One request. headers: lines without Host and Content-Length."""

    body: bytes
    path: str = "/pose"
    headers: tuple[str, ...] = ("Content-Type: image/jpeg",)

    def encode(self) -> bytes:
        """The request as bytes on the wire."""
        lines = [f"POST {self.path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(self.body)}", *self.headers]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


@dataclass(slots=True)
class Report:
    """The responses. latencies: seconds, by HTTP status (0: the connection broke). wall: seconds of the whole run.

    cpu: processor time that sending and receiving took, seconds. late: seconds by which requests of an open loop were
    sent after their time; where they are many, the generator was the limit.
    """

    wall: float = 0.0
    cpu: float = 0.0
    late: list[float] = field(default_factory=list)
    latencies: dict[int, list[float]] = field(default_factory=dict)
    finished: dict[int, list[float]] = field(default_factory=dict)

    def add(self, status: int, started: float, ended: float) -> None:
        """Count one answer."""
        self.latencies.setdefault(status, []).append(ended - started)
        self.finished.setdefault(status, []).append(ended)

    @property
    def good(self) -> int:
        """The number of 200s."""
        return len(self.latencies.get(200, ()))

    @property
    def rate(self) -> float:
        """200s per second."""
        return self.good / self.wall

    def percentile(self, percent: float, status: int = 200) -> float:
        """Latency in milliseconds."""
        values = self.latencies.get(status, ())
        return float(np.percentile(values, percent)) * 1e3 if values else float("nan")


async def connect(port: int, host: str = "127.0.0.1") -> HttpConnection:
    """Open a connection to a server on the loopback."""
    _, connection = await asyncio.get_running_loop().create_connection(HttpConnection, host, port)
    return connection


async def _closed_loop(port: int, shots: Sequence[Shot], concurrency: int, seconds: float, host: str) -> Report:
    requests = [shot.encode() for shot in shots]
    report = Report()
    stop = time.perf_counter() + seconds

    async def client(number: int) -> None:
        connection = await connect(port, host)
        turn = number
        while time.perf_counter() < stop:
            if connection.broken:
                connection = await connect(port, host)
            started = time.perf_counter()
            status, _ = await connection.ask(requests[turn % len(requests)])
            report.add(status, started, time.perf_counter())
            turn += concurrency
        connection.close()

    cpu, started = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client(n) for n in range(concurrency)))
    report.wall, report.cpu = time.perf_counter() - started, time.process_time() - cpu
    return report


async def _open_loop(port: int, shots: Sequence[Shot], rate: float, seconds: float, max_wait: float) -> Report:
    """Send requests at fixed times, whether the server keeps up or not, each on a free or new connection.

    Latencies count from the time at which a request was due: a client does not care why it had to wait.
    """
    requests = [shot.encode() for shot in shots]
    report = Report()
    idle: list[HttpConnection] = []
    cpu, begin = time.process_time(), time.perf_counter()

    async def ask(request: bytes) -> int:
        used = idle.pop() if idle else None
        connection = used or await connect(port)
        try:
            status = 0 if connection.broken else (await connection.ask(request))[0]
        except BaseException:
            connection.close()
            raise
        if not connection.broken:
            idle.append(connection)
        elif used and not status:  # the server closes idle connections, so every client retries once
            return await ask(request)
        return status

    async def one(number: int, due: float) -> None:
        report.late.append(time.perf_counter() - due)
        try:
            async with asyncio.timeout(max_wait):
                status = await ask(requests[number % len(requests)])
        except (OSError, TimeoutError):
            status = 0
        report.add(status, due, time.perf_counter())

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            due = begin + number / rate
            if (wait := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            group.create_task(one(number, due))
    report.wall, report.cpu = time.perf_counter() - begin, time.process_time() - cpu
    for connection in idle:
        connection.close()
    return report


def closed_loop(
    port: int, shots: Sequence[Shot], *, concurrency: int, seconds: float, host: str = "127.0.0.1"
) -> Report:
    """Keep `concurrency` requests in flight for `seconds`."""
    return _elsewhere(_run_closed, port, list(shots), concurrency, seconds, host)


def open_loop(port: int, shots: Sequence[Shot], *, rate: float, seconds: float, timeout: float = 30.0) -> Report:
    """Send `rate` requests per second for `seconds`, without waiting for answers; status 0 after `timeout` seconds."""
    return _elsewhere(_run_open, port, list(shots), rate, seconds, timeout)


def _run_closed(*arguments: object) -> Report:
    import uvloop

    return uvloop.run(_closed_loop(*arguments))  # type: ignore[arg-type]


def _run_open(*arguments: object) -> Report:
    import uvloop

    return uvloop.run(_open_loop(*arguments))  # type: ignore[arg-type]


def _elsewhere(function: object, *arguments: object) -> Report:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)  # type: ignore[arg-type]
