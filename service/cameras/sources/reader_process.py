"""The owner's side of a process that reads a source, see `reader`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import struct
import subprocess
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from engines.poses import Frame
from service.cameras.sources.address import SourceAddress, SourceOptions
from service.cameras.sources.decoding import MAX_PIXELS, SourceInfo
from service.cameras.sources.reader import EXPECTED, WANTED
from service.cameras.sources.spare_readers import StartedReader, start_reader

_LENGTH = struct.Struct(">I")
_MAX_DOCUMENT = 1 << 16
_REAP_S = 1.0
"""How long to wait for the end of a process that was killed."""


class SourceEndedError(Exception):
    """The source, or the process that reads it, has failed. The message may contain the source's URL."""


@dataclass(frozen=True, slots=True)
class StatusMessage:
    """decoded, damaged: frames and packets since the process began. age: of the newest frame in seconds, or None."""

    decoded: int
    damaged: int
    age: float | None


@dataclass(frozen=True, slots=True, eq=False)
class FrameMessage:
    """number: of decoded frames, from 1. time: of its arrival, seconds since 1970. age: seconds since then."""

    number: int
    pixels: Frame
    time: float
    age: float


@dataclass(frozen=True, slots=True)
class ArrivedMessage:
    """There is a frame that has not been sent."""


Message = SourceInfo | StatusMessage | ArrivedMessage | FrameMessage


class ReaderProcess:
    """A process that reads one source. An async context manager: the process is killed at its end.

    The target goes through the socket, so that lists of processes do not show it. start: the process; raises OSError.
    """

    def __init__(
        self,
        address: SourceAddress,
        options: SourceOptions,
        start: Callable[[], StartedReader] = start_reader,
    ) -> None:
        self._start = start
        request = {"kind": address.kind, "target": address.target, "options": asdict(options)}
        self._request = json.dumps(request).encode()
        self._wanted = self._expected = False

    async def __aenter__(self) -> Self:
        """Start the process. Raises OSError if there is none to be had."""
        self._begin()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        self._socket.close()
        await asyncio.to_thread(self._reap)

    @property
    def pid(self) -> int:
        return self._process.pid

    def want_frame(self) -> None:
        """Ask for a frame that is newer than the last one."""
        if not self._wanted:
            self._wanted = True
            self._ask(WANTED)

    def expect_frame(self) -> None:
        """Ask for a message when there is a frame that is newer than the last one."""
        if not self._expected:
            self._expected = True
            self._ask(EXPECTED)

    def _ask(self, request: bytes) -> None:
        with contextlib.suppress(OSError):  # the process has ended, which `receive` notices
            self._socket.send(request)

    async def receive(self) -> Message | None:
        """Wait for a message. None: the source has ended. Raises SourceEndedError if it failed. Not to be used again
        after a cancellation.
        """
        try:
            return await self._receive()
        except (EOFError, OSError):
            raise SourceEndedError(await self._death()) from None
        except (ValueError, KeyError, TypeError) as error:
            raise SourceEndedError(f"the reader's messages cannot be understood: {error}") from error

    def _begin(self) -> None:
        started = self._start()
        self._process, self._socket = started.process, started.connection
        try:
            self._socket.send(_LENGTH.pack(len(self._request)) + self._request)  # it fits the socket's buffer
        except BaseException:
            started.end()
            raise

    async def _receive(self) -> Message | None:
        (length,) = _LENGTH.unpack(await self._fill(memoryview(bytearray(_LENGTH.size))))
        if length > _MAX_DOCUMENT:
            raise ValueError(f"a document of {length} bytes")
        document: dict[str, Any] = json.loads(bytes(await self._fill(memoryview(bytearray(length)))))
        [(kind, value)] = document.items()
        match kind:
            case "opened":
                return SourceInfo(**value)
            case "status":
                return StatusMessage(**value)
            case "arrived":
                self._expected = False
                return ArrivedMessage()
            case "frame":
                return await self._receive_frame(**value)
            case "ended" if value:
                raise SourceEndedError(value)
        return None

    async def _receive_frame(self, *, number: int, width: int, height: int, time: float, age: float) -> FrameMessage:
        if not 0 < width * height <= MAX_PIXELS:
            raise ValueError(f"a frame of {width} x {height} pixels")
        pixels = np.empty((height, width, 3), np.uint8)
        await self._fill(pixels.data.cast("B"))
        self._wanted = False
        return FrameMessage(number, pixels, time, age)

    async def _fill(self, view: memoryview) -> memoryview:
        loop, rest = asyncio.get_running_loop(), view
        while len(rest):
            if not (size := await loop.sock_recv_into(self._socket, rest)):
                raise EOFError
            rest = rest[size:]
        return view

    async def _death(self) -> str:
        code = await asyncio.to_thread(self._reap)
        if code is None or code >= 0:
            return "the process that reads it has ended"
        try:
            return f"the process that reads it was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"the process that reads it was ended by signal {-code}"

    def _reap(self) -> int | None:
        try:
            return self._process.wait(_REAP_S)
        except subprocess.TimeoutExpired:  # it hangs in a device, or the machine is busy: nobody has to wait for that
            threading.Thread(target=self._process.wait, name="posewire-reaper", daemon=True).start()
            return None
