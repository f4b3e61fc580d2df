"""A connection before its first byte. Many never send one, so until then it costs little."""

from __future__ import annotations

import asyncio
from typing import Any

from service.api.connections import Connections
from service.api.http import BoundedHttp
from service.api.problems import ApiError
from service.quota import Lease, QuotaExceededError


class NewConnection(asyncio.Protocol):
    """Counts the connection, waits for its first byte, and then hands it on to `BoundedHttp`.

    uvicorn's protocol creates a parser and asks the kernel for both addresses, which takes three times as long as
    accepting a connection. Thousands of silent connections at once would delay all other clients.
    """

    __slots__ = ("_connections", "_lease", "_options", "_owner", "_timer", "_transport")

    def __init__(self, **options: Any) -> None:
        """options: those that uvicorn gives to its own protocols."""
        self._options = options
        self._owner: Connections = options["app_state"]["connections"]
        self._connections: set[Any] = options["server_state"].connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called when a client has connected. Refuses it if there is no room."""
        self._transport = transport
        self._lease: Lease | None = None
        self._timer: asyncio.TimerHandle | None = None
        try:
            self._lease = self._owner.open((transport.get_extra_info("peername") or ("",))[0])
        except QuotaExceededError as error:
            if self._owner.may_explain():
                kind = "rate-limited" if error.reason == "share" else "overloaded"
                self._switch_to_http().refuse(ApiError(kind, str(error), retry_after_s=error.retry_after_s))
            else:
                transport.abort()
            return
        self._connections.add(self)
        self._owner.idle(self)
        self._timer = asyncio.get_running_loop().call_later(self._owner.head_seconds, self.abort)

    def data_received(self, data: bytes) -> None:
        """Called with the first bytes of a request."""
        lease, self._lease = self._lease, None
        self._release()
        if lease is not None:
            self._switch_to_http(lease).data_received(data)

    def connection_lost(self, _: Exception | None) -> None:
        self._release()

    def abort(self) -> None:
        self._release()
        self._transport.abort()

    def shutdown(self) -> None:
        self.abort()

    def _switch_to_http(self, lease: Lease | None = None) -> BoundedHttp:
        http = BoundedHttp(lease, **self._options)
        self._transport.set_protocol(http)
        http.connection_made(self._transport)
        return http

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._owner.busy(self)
        self._connections.discard(self)
        if self._lease is not None:
            self._lease.release()
