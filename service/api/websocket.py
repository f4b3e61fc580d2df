"""uvicorn's websocket protocol with bounds on memory and message rates.

It overrides methods of uvicorn 0.54; pyproject.toml pins that version.
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
from service.quota import Bucket, Lease, QuotaExceededError
from service.streams.protocol import CloseCode

log = logging.getLogger("uvicorn.websocket")

_MAX_FRAGMENTS = 4096
"""Fragments of one message. Its bytes are bounded elsewhere, but an empty fragment takes memory too."""
_MAX_UNREAD = 1_000_000
"""Bytes of unsent pongs and messages. A client that sends pings beyond that and does not read is disconnected."""
_RATE, _BURST = 1_000, 5_000
"""Frames of a connection, a second and in a burst: pictures, acknowledgements, pings, pongs, fragments. 60 pictures a
second with an acknowledgement each are 120. Frames beyond that are not refused, but read later.
"""
_UNCOUNTED = 1 << 16
"""Bytes of an incomplete message that are not counted as held memory: as many as a webcam's picture has."""
_SLICE_S = 0.001
"""How many seconds one connection is read before the event loop runs others."""
_STEPS = (512, 8_192)
"""The fewest and the most bytes that are parsed in one step."""
_FRAMES_A_STEP = 16
"""Steps with at least as many frames are followed by smaller ones, others by larger ones."""
_MESSAGES_IN_A_ROW = 32
"""How many queued messages the application may receive before the event loop runs others."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Reads no faster than the rate limits of the connection and its client, and ends those that need too much memory.

    Received bytes are parsed in small steps, and only once the application has received the messages before them: a
    thousand small messages may arrive at once, but other connections are served in between.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = self.conn.logger = log
        self._owner: Connections = self.app_state["connections"]
        self._lease: Lease | None = None
        self._bucket = Bucket(_RATE, _BURST, self.loop.time())
        self._unparsed = b""
        self._step = _STEPS[1]
        self._parse_scheduled = False
        self._in_a_row = 0
        self._memory: Lease | None = None
        self._fragments = self._queued = 0  # bytes of the incomplete message, and of the complete one that waits

    def adopt(self, lease: Lease) -> None:
        """Hold the lease that counts the connection until it ends."""
        self._lease = lease

    def connection_lost(self, exc: Exception | None) -> None:
        """Release what the connection holds."""
        self._unparsed = b""
        for lease in (self._lease, self._memory):
            if lease is not None:
                lease.release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, now or later."""
        self._unparsed = self._unparsed + data if self._unparsed else data
        if not self._parse_scheduled and not self.read_paused:
            self._parse()

    async def receive(self) -> ASGIReceiveEvent:
        message = await self.queue.get()
        if self.read_paused and self.queue.empty():
            self.read_paused = False
            self._queued = 0
            self._account()
            if self._unparsed:
                self._parse_later()
            elif not self._parse_scheduled:
                self.transport.resume_reading()
        self._in_a_row = 0 if self.queue.empty() else self._in_a_row + 1
        if self._in_a_row >= _MESSAGES_IN_A_ROW:
            self._in_a_row = 0
            await asyncio.sleep(0)
        return message

    async def send(self, message: ASGISendEvent) -> None:
        """Send a message of the application. Raises ClientDisconnected if the connection is closing."""
        if self.close_sent:
            raise ClientDisconnected
        await super().send(message)
        if self.close_sent:
            self.handshake_complete = True  # or refused; uvicorn does not recognise a refusal with a reason

    def _parse_later(self) -> None:
        if not self._parse_scheduled:
            self._parse_scheduled = True
            self.loop.call_soon(self._parse)

    def _parse(self) -> None:
        self._parse_scheduled = False
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
                self.transport.pause_reading()  # so that TCP makes the client wait
                self._parse_scheduled = True
                self.loop.call_later(pause, self._parse)
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
        """Parse bytes. Returns how many frames they completed."""
        self.conn.receive_data(data)  # type: ignore[arg-type]  # it appends them to a bytearray
        if self.conn.parser_exc is not None:
            self.handle_parser_exception()
            return 0
        frames = len(self.conn.events)
        self.handle_events()
        return frames

    def _charge(self, frames: int) -> float:
        """Count frames against the rate limits. Returns how many seconds to wait before reading on."""
        pause = self._bucket.charge(frames, self.loop.time())
        if self.handshake_complete:
            client = client_of_scope(self.scope)
            pause = max(pause, self._owner.messages.charge(client, frames))
        return pause

    def _account(self) -> bool:
        """Hold memory for the incomplete message and the one that waits. Returns False if there is not enough."""
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
        """Answer a ping, unless too many bytes are unsent."""
        if self.transport.get_write_buffer_size() > _MAX_UNREAD:
            self.transport.abort()
        else:
            super().handle_ping()

    def handle_text(self, event: Frame) -> None:
        """Handle a text message, or its first fragment."""
        self._fragments = len(event.data)
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._fragments = len(event.data)
        super().handle_bytes(event)

    def handle_cont(self, event: Frame) -> None:
        """Handle a further fragment of a message."""
        if self.close_sent:
            return
        self._fragments += len(event.data)
        if len(self.frames) >= _MAX_FRAGMENTS:
            self._refuse(CloseCode.TOO_LARGE, f"a message has more than {_MAX_FRAGMENTS} fragments")
        else:
            super().handle_cont(event)

    def send_receive_event_to_app(self) -> None:
        """Pass a complete message to the application."""
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
        """End the connection after an unanswered ping. If bytes are unsent, a close handshake would never finish."""
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
