"""A tracking worker as the server sees it: starts the process, sends requests and ends it when it hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable
from typing import Any

from service.tracking_workers.arena import Arena
from service.tracking_workers.wire import LENGTH, EndStream, Failed, Ready, Reply, Request, decode, encode

log = logging.getLogger(__name__)

_START_S = 120.0
"""How long a process may take to start, importing from a cold disk on a busy machine. Requests are timed from then."""


class TrackingWorkerError(RuntimeError):
    """Tracking a frame failed because of a defect. The message is the worker's traceback."""


class ProcessEndedError(RuntimeError):
    """The process ended, or hung and was killed, before it replied.

    suspect: the request may be the cause: the process was working on it, or had not started yet.
    """

    def __init__(self, message: str, *, suspect: bool = True) -> None:
        super().__init__(message)
        self.suspect = suspect


class TrackingWorker(asyncio.Protocol):
    """One worker process. Belongs to one event loop.

    slots: the most streams. frame_bytes: size of the largest frame. hang_after: seconds that a started process may take
    for one request. ended: called once, when the process has ended or was killed. started: the process takes requests.
    free: the slots without a stream.
    """

    def __init__(
        self, slots: int, frame_bytes: int, hang_after: float, ended: Callable[[TrackingWorker], None]
    ) -> None:
        self.arena = Arena(frame_bytes)
        self.free = list(reversed(range(slots)))
        self.started = False
        self._frame_bytes = frame_bytes
        self._hang_after = hang_after
        self._ended = ended
        self._pending: dict[int, asyncio.Future[Reply]] = {}  # in the order in which the process works on them
        self._number = 0
        self._process: Process | None = None
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._started_or_ended = asyncio.Event()
        self._timeout: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None  # noqa: S101
        return self._process.pid

    @property
    def alive(self) -> bool:
        """True if the process takes requests, or will once it has started."""
        return self._transport is not None and not self._transport.is_closing()

    async def start(self) -> None:
        """Start the process, which may still be importing when this returns. Raises OSError if it cannot be started."""
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                fds = theirs.fileno(), self.arena.fd
                arguments = map(str, (*fds, self._frame_bytes, os.getpid()))
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "service.tracking_workers.main", *arguments, stdin=DEVNULL, pass_fds=fds
                )
            self._transport, _ = await loop.create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            raise
        self._timeout = loop.call_later(_START_S, self._give_up, _START_S)

    async def request(self, request: Request) -> tuple[Any, float]:
        """Return the reply, and how many seconds the worker computed.

        Raises TrackingWorkerError and ProcessEndedError.
        """
        if self.alive:
            await self._started_or_ended.wait()
        if not self.alive or self._transport is None:
            raise ProcessEndedError("the process has ended")
        self._number += 1
        message = encode((self._number, request))
        reply = self._pending[self._number] = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        if len(self._pending) == 1:
            self._restart_timeout()
        answer: Reply = await reply
        if isinstance(answer.value, Failed):
            raise TrackingWorkerError(answer.value.traceback)
        return answer.value, answer.seconds

    def release(self, slot: int) -> None:
        """End the stream in a slot, and free the slot."""
        if self.alive and self._transport is not None:
            self._transport.write(encode((0, EndStream(slot))))  # nobody waits for the reply
            self.arena.clear(slot)
            self.free.append(slot)

    def kill(self) -> None:
        """Kill the process. Pending requests raise ProcessEndedError."""
        if self._transport is not None:
            self._transport.abort()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                # asyncio's own kill may reap the process without asyncio noticing.
                os.kill(self._process.pid, signal.SIGKILL)

    async def close(self) -> None:
        """Kill the process, wait for its end and free the arena."""
        self.kill()
        if self._process is not None:
            await self._process.wait()
        self.arena.close()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            message: Ready | Reply = decode(self._received[LENGTH.size : end])
            del self._received[:end]
            if isinstance(message, Ready):
                self.started = True
                self._started_or_ended.set()
            elif (waiting := self._pending.pop(message.number, None)) is not None and not waiting.done():
                waiting.set_result(message)
            self._restart_timeout()

    def connection_lost(self, _: Exception | None) -> None:
        """Fail pending requests: the process has ended or was killed."""
        self._started_or_ended.set()
        suspect = True
        for waiting in self._pending.values():
            if not waiting.done():
                why = "the process has ended, or gave no reply in time"
                waiting.set_exception(ProcessEndedError(why, suspect=suspect))
            suspect = False  # only the first request was being worked on
        self._pending.clear()
        self._restart_timeout()
        self._ended(self)

    def _restart_timeout(self) -> None:
        """Time the request that the process works on now. Requests that wait behind it are not timed."""
        if self._timeout is not None:
            self._timeout.cancel()
        self._timeout = None
        if self._pending:
            self._timeout = asyncio.get_running_loop().call_later(self._hang_after, self._give_up, self._hang_after)

    def _give_up(self, seconds: float) -> None:
        log.error("process %d, which follows streams, gave no reply for %g s and is killed", self.pid, seconds)
        self.kill()
