"""A process that follows streams, as the server sees it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from typing import Any

from service.following.arena import Arena
from service.following.wire import LENGTH, Failed, Reply, Request, decode, encode


class FollowingError(RuntimeError):
    """A defect in following a stream; the message is the traceback of the process."""


class ProcessEndedError(RuntimeError):
    """The process has ended, or hung and was ended, before it replied."""


class FollowingProcess(asyncio.Protocol):
    """Asks a process of its own. It belongs to one event loop.

    slots: streams at most. slot_bytes: of the largest frame. hang_after: seconds that a reply may take.
    """

    def __init__(self, slots: int, slot_bytes: int, hang_after: float) -> None:
        self.arena = Arena(slots, slot_bytes)
        self.free = list(reversed(range(slots)))
        self._measures = slots, slot_bytes
        self._hang_after = hang_after
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        self._number = 0
        self._process: Process | None = None
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()

    @property
    def pid(self) -> int:
        """Of the process. It must have been started."""
        assert self._process is not None  # noqa: S101
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._transport is not None and not self._transport.is_closing()

    async def start(self) -> None:
        """Start the process; it may still import what it needs when this returns. Raises OSError where none can be."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                fds = theirs.fileno(), self.arena.fd
                arguments = map(str, (*fds, *self._measures))
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-m", "service.following.child", *arguments, stdin=DEVNULL, pass_fds=fds
                )
            self._transport, _ = await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=ours)
        except BaseException:
            ours.close()
            raise

    async def ask(self, request: Request) -> tuple[Any, float]:
        """The reply, and the seconds of work in it. Raises FollowingError and ProcessEndedError."""
        if not self.alive or self._transport is None:
            raise ProcessEndedError("the process has ended")
        loop = asyncio.get_running_loop()
        self._number += 1
        number, reply = self._number, loop.create_future()
        self._pending[number] = reply
        self._transport.write(encode((number, request)))
        patience = loop.call_later(self._hang_after, self.kill)
        try:
            answer: Reply = await reply
        finally:
            patience.cancel()
            del self._pending[number]
        if isinstance(answer.value, Failed):
            raise FollowingError(answer.value.why)
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
        """Part of a reply came, or several."""
        self._received += data
        while len(self._received) >= LENGTH.size:
            end = LENGTH.size + LENGTH.unpack_from(self._received)[0]
            if len(self._received) < end:
                return
            reply: Reply = decode(self._received[LENGTH.size : end])
            del self._received[:end]
            waiting = self._pending.get(reply.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(reply)

    def connection_lost(self, _: Exception | None) -> None:
        """The process has ended, or was given up."""
        for waiting in self._pending.values():
            if not waiting.done():
                waiting.set_exception(ProcessEndedError("the process has ended, or gave no reply in time"))
