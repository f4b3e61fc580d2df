"""uvicorn's websocket, with bounds where it has none.

Found in uvicorn 0.54; tests/api/test_stream_abuse.py tells when a later one has its own.
"""

from __future__ import annotations

import logging
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame

from service.streams.closing import CloseCode

log = logging.getLogger("uvicorn.websocket")

_MOST_FRAGMENTS = 4096
"""Of one message, whose bytes are bounded but not what an empty fragment takes."""
_MOST_UNREAD = 1_000_000
"""Bytes that wait for a client that sends pings, and takes neither their answers nor anything else."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """Ends connections that would make it keep more than it should, and logs them as what they are: nothing special."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.logger = self.conn.logger = log

    def handle_ping(self) -> None:
        """Answer, as long as answers are taken."""
        if self.transport.get_write_buffer_size() > _MOST_UNREAD:
            self.transport.abort()
        else:
            super().handle_ping()

    def handle_cont(self, event: Frame) -> None:
        """A further fragment of a message."""
        if self.close_sent:
            return
        if len(self.frames) >= _MOST_FRAGMENTS:
            self._refuse(CloseCode.TOO_LARGE, f"a message has more than {_MOST_FRAGMENTS} fragments")
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
        super().send_receive_event_to_app()

    def keepalive_timeout(self) -> None:
        """A ping had no answer. To close in good order would wait for the client to read what it never will."""
        unread = self.transport.get_write_buffer_size()
        super().keepalive_timeout()
        if unread:
            self.transport.abort()

    def _refuse(self, code: CloseCode, reason: str) -> None:
        self.frames = []
        self.conn.fail(code, reason)
        self.handle_parser_exception()
