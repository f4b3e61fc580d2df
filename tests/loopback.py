"""Programs that serve on the loopback, which tests can kill, stop and restart, and ways to them that can be cut."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Self


class LoopbackProgram(ABC):
    """A program on a free port, without data on a disk. A context manager."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that serves on `port`."""

    def start(self) -> None:
        """Start it, empty, on the same port. Returns when it accepts connections."""
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stop = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self.process.poll() is None, "the program has ended"
                if time.monotonic() > stop:
                    self.kill()
                    raise
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """kill -9: all data is lost."""
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Stop the process: it accepts connections, but does not answer."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Continue the process, which then handles the requests in its buffers."""
        self.process.send_signal(signal.SIGCONT)


class LoopbackProxy:
    """A way of its own to a port of the loopback, by TCP, which can be cut. An asynchronous context manager."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def cut(self, *, refuse: bool) -> None:
        """Let nothing through. refuse: close connections and accept none; otherwise they are open, but silent."""
        self._open.clear()
        if refuse:
            await self.__aexit__()

    async def mend(self) -> None:
        """Let everything through again, also what has waited."""
        self._open.set()
        if not self._server.is_serving():
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            theirs, ours = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._carry(reader, ours))
                    both.create_task(self._carry(theirs, writer))
            finally:
                ours.close()
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(task)
            writer.close()

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                await self._open.wait()
                sink.write(data)
                await sink.drain()
            sink.write_eof()
