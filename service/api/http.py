"""uvicorn's HTTP protocol, with bounds where it has none.

Written for uvicorn 0.54, whose methods it overrides; pyproject.toml pins that version.
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
"""Bytes of a URL, and of one header; the websockets library reads lines of 8,192."""
_MAX_HEAD = 32_768
"""Bytes of a URL and its headers, and of whatever else stands between two pieces of a body."""
_MAX_HEADERS = 100
_MAX_PIPELINED = 16
"""Requests of a connection that wait for the answer to the one before them."""
_GOODBYE_S = 1.0
"""How long a refused client has to read why, before its connection is cut."""
_MANY_CHUNKS, _SMALL_CHUNK = 1_000, 128
"""From this number of chunks on, the chunks of a body must have this average size: each costs a call."""


class _RefusedError(Exception):
    """Ends the parsing of a request; raised within the parser's callbacks."""


class BoundedHttp(HttpToolsProtocol):
    """One HTTP connection. What it keeps, and for how long, is bounded in every state that a client can bring it to."""

    def __init__(self, lease: Lease | None, **options: Any) -> None:
        """lease: the connection's place, None for one that is refused. options: as uvicorn gives them."""
        super().__init__(**options)
        self._owner: Connections = self.app_state["connections"]
        self._lease = lease
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._problem: ApiError | None = None
        self._deaf = False  # nothing more that comes is parsed
        self._ignored = 0
        self._begun = False  # a request has, whose head is not complete
        self._head_is_timed = False
        self._head = 0  # bytes of it
        self._progress = False  # what came last completed a head or a request, or was part of a body
        self._stuck = 0  # bytes that came since the last progress
        self._chunks = self._chunk_bytes = 0
        self._discarding = False

    # The connection

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._release()
        super().connection_lost(exc)

    def give_up(self) -> None:
        """See `Connection.give_up`."""
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
        """Do one thing after some time, in place of what was to be done until now."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, then) if then is not None else None

    # What a client sends

    def data_received(self, data: bytes) -> None:
        """Some bytes of requests."""
        if self._deaf:
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
                self.transport.abort()  # the answers before it would be written into the websocket
            else:
                self.handle_websocket_upgrade()
            return
        except httptools.HttpParserError:
            self.refuse(self._problem or ApiError("bad-request", "this is not an HTTP/1.1 request"))
            return
        self._stuck = 0 if self._progress else self._stuck + len(data)
        if self._stuck > _MAX_HEAD:
            self.refuse(_too_large())
        elif self._begun and not self._head_is_timed:
            self._head_is_timed = True
            self._wait(self._owner.head_seconds, self._head_is_late)
        elif self._timer is None and not self._begun and not self._is_answering():
            self._wait(self._owner.head_seconds, self.give_up)  # blank lines, which may stand before a request

    def _is_answering(self) -> bool:
        """Whether a request has had no answer, or not come to its end."""
        return self.cycle is not None and (self.cycle.more_body or not self.cycle.response_complete)

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse a request again without the upgrade that it offers (RFC 9110, section 7.8: a server may ignore it).

        The parser takes what follows such a head for another protocol.
        """
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [name + b": " + value for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"\r\n".join(lines) + b"\r\n\r\n" + rest)

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection on to the websocket's protocol, its place among the connections too."""
        self._wait(0, None)
        self._owner.busy(self)
        lease, self._lease = self._lease, None
        super().handle_websocket_upgrade()
        adopt = getattr(self.transport.get_protocol(), "adopt", None)
        if adopt is not None and lease is not None:
            adopt(lease)

    def on_message_begin(self) -> None:
        """A request begins."""
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._deaf = True  # the last that is answered says that the connection closes
            self.pipeline[0][0].keep_alive = False
            raise _RefusedError
        self._begun = True
        self._head = self._chunks = self._chunk_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A piece of the URL."""
        super().on_url(url)
        if len(self.url) > _MAX_URL:
            self._stop(ApiError("url-too-long", f"the URL has more than {_MAX_URL:,} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer."""
        size = len(name) + len(value)
        self._head += size
        if size > _MAX_HEADER or self._head > _MAX_HEAD or len(self.headers) >= _MAX_HEADERS:
            self._stop(_too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The request can be answered."""
        self._begun = self._head_is_timed = False
        self._progress = True
        if self._timer is not None:
            self._wait(0, None)
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT" and not self._should_upgrade():
            return  # see `_ignore_upgrade`
        self._owner.busy(self)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._progress = True
        if self.parser.should_upgrade():
            return
        if self._discarding:
            self.flow.pause_reading()
            self.loop.call_later(self._owner.pause_after(len(body)), self._read_on)
            return
        self._chunks += 1
        self._chunk_bytes += len(body)
        if self._chunks > _MANY_CHUNKS and self._chunk_bytes < _SMALL_CHUNK * self._chunks:
            self._stop(ApiError("bad-request", f"the body comes in chunks of less than {_SMALL_CHUNK} bytes"))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here as a whole."""
        self._progress = True
        if self.parser.should_upgrade():
            return
        self._discard(False)
        super().on_message_complete()
        if self.cycle.response_complete:  # uvicorn forgets such a request
            self.cycle.more_body = False
            self._wait(self.timeout_keep_alive, self.give_up)
            self._owner.idle(self)

    # What it gets

    def on_response_complete(self) -> None:
        """An answer has been handed to the transport."""
        super().on_response_complete()
        if self.transport.is_closing() or not self.cycle.response_complete:
            return
        if self.cycle.more_body:
            self._discard(True)
            self._wait(self._owner.stall_seconds, self.transport.close)
        elif not self._begun:
            self._owner.idle(self)

    def _discard(self, value: bool) -> None:
        """Whether the rest of a body is read only to be thrown away."""
        if value != self._discarding:
            self._discarding = value
            self._owner.discarding += 1 if value else -1

    def _read_on(self) -> None:
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to; at most two pieces of an answer wait, see `gate`."""
        super().pause_writing()
        self._stop_watching()
        self._unread = self.loop.call_later(self._owner.stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read most of what waited."""
        super().resume_writing()
        self._stop_watching()

    def _stop_watching(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    # Refusals

    def _stop(self, problem: ApiError) -> None:
        """End the parsing, from within one of the parser's callbacks."""
        self._problem = problem
        raise _RefusedError

    def _head_is_late(self) -> None:
        self.refuse(
            ApiError("too-slow", f"the head of the request was not complete after {self._owner.head_seconds:g} s")
        )

    def refuse(self, problem: ApiError) -> None:
        """Say why, where no answer is under way that it would run into, and close."""
        if self._deaf or self.transport.is_closing():
            return  # the answers that are under way come first
        self._deaf = True
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
        # Closing now would reset the connection where more of the request is on its way, and the answer would be lost.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._wait(_GOODBYE_S, self.transport.abort)


def _too_large() -> ApiError:
    return ApiError(
        "head-too-large",
        f"there are more than {_MAX_HEADERS} headers, or more than {_MAX_HEAD:,} bytes of them, {_MAX_HEADER:,} of one",
    )
