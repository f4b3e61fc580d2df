"""Starts the processes that read sources, and keeps some ready: to start one takes half a second of a core."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_CALM_S = 3.0
"""How long no reader must have been taken before another is started for later: cameras that come together go first."""

_ROUND_S = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class StartedReader:
    """A process that waits to be told what to read. connection: to it, not blocking."""

    process: subprocess.Popen[bytes]
    connection: socket.socket

    def end(self) -> None:
        """Kill it. Its owner has to wait for it."""
        self.process.kill()
        self.connection.close()


def start_reader() -> StartedReader:
    """Start a process. Raises OSError if there is none to be had."""
    ours, theirs = socket.socketpair()
    try:
        with theirs:
            ours.setblocking(False)
            process = subprocess.Popen(  # noqa: S603 - runs a module of this package
                (sys.executable, "-m", "service.cameras.sources.reader", str(theirs.fileno()), str(os.getpid())),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # FFmpeg's messages name URLs with their passwords
                pass_fds=(theirs.fileno(),),
                # Without settings, because these may hold keys and passwords.
                env={k: v for k, v in os.environ.items() if not k.startswith("POSEWIRE_")},
            )
    except BaseException:
        ours.close()
        raise
    return StartedReader(process, ours)


class SpareReaders:
    """Keeps processes ready for cameras that another replica leaves. For one event loop. number: how many, now."""

    def __init__(self, number: Callable[[], int]) -> None:
        self._number = number
        self._spare: deque[StartedReader] = deque()
        self._taken_at = 0.0

    def start(self) -> StartedReader:
        """Return a process, one that is ready if there is one. Raises OSError."""
        self._taken_at = asyncio.get_running_loop().time()
        while self._spare:
            reader = self._spare.popleft()
            if reader.process.poll() is None:
                return reader
            reader.connection.close()
        return start_reader()

    async def run(self) -> None:
        """Replace the processes that were taken or have ended, one at a time."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                for reader in [reader for reader in self._spare if reader.process.poll() is not None]:
                    self._spare.remove(reader)
                    reader.connection.close()
                if len(self._spare) < self._number() and loop.time() - self._taken_at >= _CALM_S:
                    self._spare.append(start_reader())
                await asyncio.sleep(_ROUND_S)
        finally:
            for reader in self._spare:
                reader.end()
                reader.process.wait()
            self._spare.clear()
