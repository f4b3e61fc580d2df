"""A process that follows streams, as the server sees it."""

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
from service.tracking_workers.wire import LENGTH, Failed, Ready, Reply, Request, decode, encode

log = logging.getLogger(__name__)

_START_S = 120.0
"""How long a process may take to start: imports from a cold disk, on a busy machine. No frame counts meanwhile."""


class TrackingWorkerError(RuntimeError):
    """A defect in following a stream; the message is the traceback of the process."""


class ProcessEndedError(RuntimeError):
    """The process has ended, or hung and was ended, before it replied.

    suspect: the request was the one that it worked on, or it never got as far as to take any.
    """

    def __init__(self, message: str, *, suspect: bool = True) -> None:
        super().__init__(message)
        self.suspect = suspect


class TrackingWorker(asyncio.Protocol):
    """Asks a process of its own. It belongs to one event loop.

    slots: streams at most. frame_bytes: of the largest frame. hang_after: seconds that the process may take for one
    request, once it has started. ended: called once, when the process has ended or was given up.
    started: whether it got as far as to take requests.
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
        self._settled = asyncio.Event()  # it has started, or ended
        self._patience: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        """Of the process. It must have been started."""
        assert self._process is not None  # noqa: S101
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it takes requests, or will once it has started."""
        return self._transport is not None and not self._transport.is_closing()

    async def start(self) -> None:
        """Start the process; it may still import what it needs when this returns. Raises OSError where none can be."""
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
        self._patience = loop.call_later(_START_S, self._give_up, _START_S)

    async def ask(self, request: Request) -> tuple[Any, float]:
        """The reply, and the seconds of work in it. Raises FollowingError and ProcessEndedError."""
        if self.alive:
            await self._settled.wait()
        if not self.alive or self._transport is None:
            raise ProcessEndedError("the process has ended")
        self._number += 1
        message = encode((self._number, request))
        reply = self._pending[self._number] = asyncio.get_running_loop().create_future()
        self._transport.write(message)
        if len(self._pending) == 1:
            self._watch()
        answer: Reply = await reply
        if isinstance(answer.value, Failed):
            raise TrackingWorkerError(answer.value.why)
        return answer.value, answer.seconds

    def tell(self, request: Request) -> None:
        """Send a request whose reply nobody needs."""
        if self._transport is not None:
            self._transport.write(encode((0, request)))

    def kill(self) -> None:
        """End the process at once, and all that waits for it."""
        if self._transport is not None:
            self._transport.abort()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)  # asyncio's kill may reap it behind asyncio's back

    async def close(self) -> None:
        """End the process, and free its memory once it has ended."""
        self.kill()
        if self._process is not None:
            await self._process.wait()
        self.arena.close()

    def data_received(self, data: bytes) -> None:
        """Part of a message came, or several."""
        self._received += data
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            message: Ready | Reply = decode(self._received[LENGTH.size : end])
            del self._received[:end]
            if isinstance(message, Ready):
                self.started = True
                self._settled.set()
            elif (waiting := self._pending.pop(message.number, None)) is not None and not waiting.done():
                waiting.set_result(message)
            self._watch()

    def connection_lost(self, _: Exception | None) -> None:
        """The process has ended, or was given up."""
        self._settled.set()
        suspect = True
        for waiting in self._pending.values():
            if not waiting.done():
                why = "the process has ended, or gave no reply in time"
                waiting.set_exception(ProcessEndedError(why, suspect=suspect))
            suspect = False
        self._pending.clear()
        self._watch()
        self._ended(self)

    def _watch(self) -> None:
        """Give the process its time anew, for the request that it works on now. It works on one after the other, so
        one that waits behind others is not late.
        """
        if self._patience is not None:
            self._patience.cancel()
        self._patience = None
        if self._pending:
            self._patience = asyncio.get_running_loop().call_later(self._hang_after, self._give_up, self._hang_after)

    def _give_up(self, seconds: float) -> None:
        log.error("process %d, which follows streams, gave no reply for %g s and is killed", self.pid, seconds)
        self.kill()
