"""uvicorn's HTTP protocol with limits on everything that a client can send or leave unread.

Overrides methods of uvicorn 0.54; pyproject.toml pins that version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.api.connections import Connections
from service.api.problems import MEDIA_TYPE, ApiError
from service.quota import Lease

_MAX_URL = _MAX_HEADER = 8_000
"""Bytes of a URL, and of one header. The websockets library reads lines of up to 8,192 bytes."""
_MAX_HEAD = 32_768
"""Bytes of a URL and its headers, and of anything else between two pieces of a body."""
_MAX_HEADERS = 100
_MAX_PIPELINED = 16
"""Requests on a connection that wait for the response to the request before them."""
_LINGER_S = 1.0
"""How many seconds a refused client has to read the reason before the connection is aborted."""
_MANY_CHUNKS, _SMALL_CHUNK = 1_000, 128
"""A body with more chunks than this must have chunks of at least this average size in bytes: each costs a call."""


class _RefusedError(Exception):
    """Ends the parsing of a request. Raised in the parser's callbacks."""


class BoundedHttp(HttpToolsProtocol):
    """An HTTP connection that a client cannot make hold much memory, or stay for long."""

    def __init__(self, lease: Lease | None, **options: Any) -> None:
        """lease: counts the connection; None for a connection that will be refused. options: uvicorn's."""
        super().__init__(**options)
        self._owner: Connections = self.app_state["connections"]
        self._lease = lease
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._problem: ApiError | None = None
        self._ignoring_input = False
        self._ignored = 0  # bytes since then
        self._in_head = False  # of a request
        self._head_is_timed = False
        self._head_size = 0  # bytes
        self._progress = False  # the last bytes completed a head or a request, or were part of a body
        self._stuck = 0  # bytes since the last progress
        self._chunks = self._chunk_bytes = 0
        self._discarding = False

    # The connection

    def connection_lost(self, exc: Exception | None) -> None:
        self._release()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves the timer, which holds the connection, after a reset

    def abort(self) -> None:
        self._release()
        self.transport.abort()

    def _release(self) -> None:
        self._wait(0, None)
        self._stop_watching()
        self._discard(False)
        self._owner.busy(self)
        if self._lease is not None:
            self._lease.release()

    def _wait(self, seconds: float, then: Callable[[], None] | None) -> None:
        """Replace the connection's timeout. then: called after it; None for no timeout."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, then) if then is not None else None

    # What a client sends

    def data_received(self, data: bytes) -> None:
        if self._ignoring_input:
            self._ignored += len(data)
            if self._ignored > 1_000_000:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        self._progress = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._should_upgrade():
                self._ignore_upgrade(data[upgrade.args[0] :])
            elif self._is_answering():
                self.transport.abort()  # earlier responses would be written into the websocket
            else:
                self.handle_websocket_upgrade()
            return
        except httptools.HttpParserError:
            self.refuse(self._problem or ApiError("bad-request", "this is not an HTTP/1.1 request"))
            return
        self._stuck = 0 if self._progress else self._stuck + len(data)
        if self._stuck > _MAX_HEAD:
            self.refuse(_too_large())
        elif self._in_head and not self._head_is_timed:
            self._head_is_timed = True
            self._wait(self._owner.head_seconds, self._head_is_late)
        elif self._timer is None and not self._in_head and not self._is_answering():
            self._wait(self._owner.head_seconds, self.abort)  # blank lines, which may precede a request

    def _is_answering(self) -> bool:
        """Return whether a request has not been received or answered completely."""
        return self.cycle is not None and (self.cycle.more_body or not self.cycle.response_complete)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse a request again without its Upgrade header, which a server may ignore (RFC 9110, section 7.8).

        The parser would take the rest of the request for another protocol.
        """
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection and its lease on to the websocket protocol."""
        self._wait(0, None)
        self._owner.busy(self)
        lease, self._lease = self._lease, None
        super().handle_websocket_upgrade()
        adopt = getattr(self.transport.get_protocol(), "adopt", None)
        if adopt is not None and lease is not None:
            adopt(lease)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._ignoring_input = True  # the last response says that the connection closes
            self.pipeline[0][0].keep_alive = False
            raise _RefusedError
        self._in_head = True
        self._head_size = self._chunks = self._chunk_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > _MAX_URL:
            self._stop(ApiError("url-too-long", f"the URL has more than {_MAX_URL:,} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        size = len(name) + len(value)
        self._head_size += size
        if size > _MAX_HEADER or self._head_size > _MAX_HEAD or len(self.headers) >= _MAX_HEADERS:
            self._stop(_too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called by the parser when the head is complete, and the request can be handled."""
        self._in_head = self._head_is_timed = False
        self._progress = True
        if self._timer is not None:
            self._wait(0, None)
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT" and not self._should_upgrade():
            return  # see `_ignore_upgrade`
        self._owner.busy(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress = True
        if self.parser.should_upgrade():
            return
        if self._discarding:
            self.flow.pause_reading()
            self.loop.call_later(self._owner.pause_after(len(body)), self._resume_reading)
            return
        self._chunks += 1
        self._chunk_bytes += len(body)
        if self._chunks > _MANY_CHUNKS and self._chunk_bytes < _SMALL_CHUNK * self._chunks:
            self._stop(ApiError("bad-request", f"the body comes in chunks of less than {_SMALL_CHUNK} bytes"))
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progress = True
        if self.parser.should_upgrade():
            return
        self._discard(False)
        super().on_message_complete()
        if self.cycle.response_complete:  # uvicorn does nothing in this case
            self.cycle.more_body = False
            self._wait(self.timeout_keep_alive, self.abort)
            self._owner.idle(self)

    # What a client gets

    def on_response_complete(self) -> None:
        """Called when a response has been handed to the transport."""
        if self.cycle.response_complete:  # else it is a later request's
            self.cycle.body = bytearray()  # of a refused request; an idle connection would keep it
        super().on_response_complete()
        if self.transport.is_closing() or not self.cycle.response_complete:
            return
        if self.cycle.more_body:
            self._discard(True)
            self._wait(self._owner.stall_seconds, self.transport.close)
        elif not self._in_head:
            self._owner.idle(self)

    def _discard(self, value: bool) -> None:
        """Set whether the rest of a body is read and discarded."""
        if value != self._discarding:
            self._discarding = value
            self._owner.discarding += 1 if value else -1

    def _resume_reading(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """Called when the client reads too slowly. At most two pieces of a response wait, see `middleware`."""
        super().pause_writing()
        self._stop_watching()
        self._unread = self.loop.call_later(self._owner.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """Called when the client has read most of the bytes that waited."""
        super().resume_writing()
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # Refusals

    def _stop(self, problem: ApiError) -> None:
        """End the parsing. Called in the parser's callbacks."""
        self._problem = problem
        raise _RefusedError

    def _head_is_late(self) -> None:
        self.refuse(
            ApiError("too-slow", f"the head of the request was not complete after {self._owner.head_seconds:g} s")
        )

    def refuse(self, problem: ApiError) -> None:
        """Send a problem document, unless another response is under way, and close the connection."""
        if self._ignoring_input or self.transport.is_closing():
            return  # the responses that are under way come first
        self._ignoring_input = True
        self._owner.refused(str(problem.status))
        self._owner.busy(self)
        if self._is_answering():
            self.transport.close()
            return
        body = orjson.dumps(problem.document())
        head = [
            f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
            f"content-type: {MEDIA_TYPE}",
            f"content-length: {len(body)}",
        ]
        head += ["connection: close", "x-content-type-options: nosniff"]
        if problem.retry_after_s is not None:
            head.append("retry-after: 1")
        self.transport.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        # If more of the request is on its way, closing now would reset the connection and lose the response.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._wait(_LINGER_S, self.transport.abort)


def _too_large() -> ApiError:
    return ApiError(
        "head-too-large",
        f"there are more than {_MAX_HEADERS} headers, or more than {_MAX_HEAD:,} bytes of them, {_MAX_HEADER:,} of one",
    )
