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


class FollowingProcess:
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
        self._killed = False
        self._process: Process | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the process. It must have been started."""
        assert self._process is not None  # noqa: S101
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it takes requests."""
        return self._listening is not None and not self._listening.done() and not self._killed

    async def start(self) -> None:
        """Start the process; it may still import what it needs when this returns. Raises OSError where none can be."""
        ours, theirs = socket.socketpair()
        with theirs:
            fds = theirs.fileno(), self.arena.fd
            arguments = map(str, (*fds, *self._measures))
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "service.following.child", *arguments, stdin=DEVNULL, pass_fds=fds
            )
        reader, self._writer = await asyncio.open_unix_connection(sock=ours)
        self._listening = asyncio.create_task(self._listen(reader), name="posewire-following")

    async def ask(self, request: Request) -> tuple[Any, float]:
        """The reply, and the seconds of work in it. Raises FollowingError and ProcessEndedError."""
        if not self.alive or self._writer is None:
            raise ProcessEndedError("the process has ended")
        self._number += 1
        number, reply = self._number, asyncio.get_running_loop().create_future()
        self._pending[number] = reply
        self._writer.write(encode((number, request)))
        try:
            async with asyncio.timeout(self._hang_after):
                answer: Reply = await reply
        except TimeoutError as error:
            self.kill()
            raise ProcessEndedError(f"no reply came for {self._hang_after:g} s") from error
        finally:
            del self._pending[number]
        if isinstance(answer.value, Failed):
            raise FollowingError(answer.value.why)
        return answer.value, answer.seconds

    def tell(self, request: Request) -> None:
        """Send a request whose reply nobody needs."""
        if self.alive and self._writer is not None:
            self._writer.write(encode((0, request)))

    def kill(self) -> None:
        """End the process at once."""
        self._killed = True
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, signal.SIGKILL)  # asyncio's kill may reap it behind asyncio's back

    async def close(self) -> None:
        """End the process, and free its memory once it has ended."""
        if self._writer is not None:
            self._writer.close()
        self.kill()
        if self._listening is not None:
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._process is not None:
            await self._process.wait()
        self.arena.close()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                reply: Reply = decode(await reader.readexactly(length))
                waiting = self._pending.get(reply.number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(reply)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it has ended
        finally:
            for waiting in self._pending.values():
                if not waiting.done():
                    waiting.set_exception(ProcessEndedError("the process has ended"))
