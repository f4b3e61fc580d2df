"""uvicorn's websocket protocol, with bounds where it has none.

Written for uvicorn 0.54, whose methods it overrides; pyproject.toml pins that version.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn._types import ASGIReceiveEvent, ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from service.api.addresses import client_of_scope
from service.api.connections import Connections
from service.api.security import Bucket
from service.quota import Lease, QuotaExceededError
from service.streams.closing import CloseCode

log = logging.getLogger("uvicorn.websocket")

_MAX_FRAGMENTS = 4096
"""Of one message. Its bytes are bounded, but not what an empty fragment takes."""
_MAX_UNREAD = 1_000_000
"""Bytes that wait for a client that sends pings, and takes neither their answers nor anything else."""
_RATE, _BURST = 1_000, 5_000
"""Frames of a connection, a second and at once: pictures, acknowledgements, pings, pongs, fragments. 60 pictures a
second with an acknowledgement each are 120. What comes faster is not refused but read later.
"""
_UNCOUNTED = 1 << 16
"""Bytes of a message under way that are not counted as held memory: those of any picture before a webcam."""
_SLICE_S = 0.001
"""How long one connection is read from before the others have their turn."""
_STEPS = (512, 8_192)
"""The fewest and the most bytes that are parsed at a time."""
_FRAMES_A_STEP = 16
_MESSAGES_IN_A_ROW = 32
"""The application may take so many that are there already before others have their turn."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Reads no faster than a connection and a client may send, and ends connections that would take too much memory.

    What has come is parsed in small steps, and no further than the application has taken what came before: a thousand
    small messages may arrive at once, but the other connections are served in between.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = self.conn.logger = log
        self._owner: Connections = self.app_state["connections"]
        self._lease: Lease | None = None
        self._bucket = Bucket(_RATE, _BURST, self.loop.time())
        self._unparsed = b""
        self._step = _STEPS[1]
        self._waits = False  # for its turn to parse
        self._in_a_row = 0
        self._memory: Lease | None = None
        self._fragments = self._queued = 0  # bytes of the message under way, and of the whole one that waits

    def adopt(self, lease: Lease) -> None:
        """Hold the connection's place from now on."""
        self._lease = lease

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._unparsed = b""
        for lease in (self._lease, self._memory):
            if lease is not None:
                lease.release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of frames."""
        self._unparsed = self._unparsed + data if self._unparsed else data
        if not self._waits and not self.read_paused:
            self._parse()

    async def receive(self) -> ASGIReceiveEvent:
        """The application asks for the next message."""
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._queued = 0
            self._account()
            if self._unparsed:
                self._parse_later()
            elif not self._waits:
                self.transport.resume_reading()
        self._in_a_row = 0 if self.queue.empty() else self._in_a_row + 1
        if self._in_a_row >= _MESSAGES_IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """The application sends a message, which may be too late."""
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        if self.close_sent:
            self.handshake_complete = True  # or refused; uvicorn takes a refusal with a reason for none

    def _parse_later(self) -> None:
        if not self._waits:
            self._waits = True
            self.loop.call_soon(self._parse)

    def _parse(self) -> None:
        self._waits = False
        if self.transport.is_closing():
            return
        data, at = memoryview(self._unparsed), 0
        end = self.loop.time() + _SLICE_S
        while at < len(data) and not self.read_paused and not self.transport.is_closing():
            step = data[at : at + self._step]
            at += len(step)
            frames = self._feed(step)
            if not self._account():
                return
            if frames and (pause := self._charge(frames)):
                self._unparsed = bytes(data[at:])
                self._rest(pause)
                return
            factor = 2.0 if frames < _FRAMES_A_STEP else 0.5
            self._step = int(min(max(self._step * factor, _STEPS[0]), _STEPS[1]))
            if self.loop.time() >= end:
                break
        self._unparsed = b"" if self.transport.is_closing() else bytes(data[at:])
        if self.transport.is_closing():
            return
        if self._unparsed:
            self.transport.pause_reading()
            if not self.read_paused:
                self._parse_later()
        elif not self.read_paused:
            self.transport.resume_reading()

    def _feed(self, data: memoryview) -> int:
        """Parse some bytes. Returns how many frames they completed."""
        self.conn.receive_data(data)  # type: ignore[arg-type]  # it appends them to a bytearray
        if self.conn.parser_exc is not None:
            self.handle_parser_exception()
            return 0
        frames = len(self.conn.events)
        self.handle_events()
        return frames

    def _charge(self, frames: int) -> float:
        """Count so many frames. Returns the seconds to wait before more of this connection or client are read."""
        pause = self._bucket.charge(frames, self.loop.time())
        if self.handshake_complete:
            client = client_of_scope(self.scope)
            pause = max(pause, self._owner.messages.charge(client, frames))
        return pause

    def _rest(self, seconds: float) -> None:
        """Read nothing for a while: what a client sends too fast waits on its own side."""
        self.transport.pause_reading()
        self._waits = True
        self.loop.call_later(seconds, self._parse)

    def _account(self) -> bool:
        """Hold memory for the message under way, or for the whole one that waits. False where there is none left."""
        size = len(self.conn.reader.buffer) + self._fragments + self._queued
        held = self._memory.amount if self._memory is not None else 0
        size = size if size > _UNCOUNTED else 0
        if size == held or self.transport.is_closing():
            return True
        try:
            if self._memory is None:
                self._memory = self._owner.memory.take(client_of_scope(self.scope), 0)
            self._memory.grow(size - held)
        except QuotaExceededError:
            self._refuse(CloseCode.TRY_LATER, "this server has no memory left for a message of this size")
            return False
        return True

    def handle_ping(self) -> None:
        """Answer, as long as answers are taken."""
        if self.transport.get_write_buffer_size() > _MAX_UNREAD:
            self.transport.abort()
        else:
            super().handle_ping()

    def handle_text(self, event: Frame) -> None:
        """A text message, or its first fragment."""
        self._fragments = len(event.data)
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        """A binary message, or its first fragment."""
        self._fragments = len(event.data)
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        """A further fragment of a message."""
        if self.close_sent:
            return
        self._fragments += len(event.data)
        if len(self.frames) >= _MAX_FRAGMENTS:
            self._refuse(CloseCode.TOO_LARGE, f"a message has more than {_MAX_FRAGMENTS} fragments")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """A whole message is here."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._refuse(CloseCode.NOT_TEXT, "a text message is not UTF-8")
                return
        self._queued += self._fragments
        self._fragments = 0
        super().send_receive_event_to_app()

    def keepalive_timeout(self) -> None:
        """A ping had no answer. To close in good order would wait for the client to read what it never will."""
        unread = self.transport.get_write_buffer_size()
        super().keepalive_timeout()
        if unread:
            self.transport.abort()

    def _refuse(self, code: CloseCode, reason: str) -> None:
        self.frames, self._unparsed = [], b""
        if self.close_sent:
            self.transport.abort()
            return
        self.conn.fail(code, reason)
        self.handle_parser_exception()
