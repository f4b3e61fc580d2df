"""A connection before its first byte. Many never send one, so it costs little until then."""

from __future__ import annotations

import asyncio
from typing import Any

from service.api.connections import Connections
from service.api.http import BoundedHttp
from service.api.problems import ApiError
from service.quota import Lease, QuotaExceededError


class NewConnection(asyncio.Protocol):
    """Takes a place among the connections, waits for the first byte, and hands both on to `BoundedHttp`.

    uvicorn's protocol makes a parser and asks the kernel for both addresses, which takes three times as long as
    accepting a connection: thousands that come at once, and say nothing, would keep everybody else waiting.
    """

    __slots__ = ("_connections", "_lease", "_options", "_owner", "_timer", "_transport")

    def __init__(self, **options: Any) -> None:
        """options: as uvicorn gives them to its own protocols."""
        self._options = options
        self._owner: Connections = options["app_state"]["connections"]
        self._connections: set[Any] = options["server_state"].connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected, for which there may be no room."""
        self._transport = transport
        self._lease: Lease | None = None
        self._timer: asyncio.TimerHandle | None = None
        try:
            self._lease = self._owner.open((transport.get_extra_info("peername") or ("",))[0])
        except QuotaExceededError as error:
            if self._owner.may_explain():
                kind = "rate-limited" if error.reason == "share" else "overloaded"
                self._hand_on().refuse(ApiError(kind, str(error), retry_after_s=error.retry_after_s))
            else:
                transport.abort()
            return
        self._connections.add(self)
        self._owner.idle(self)
        self._timer = asyncio.get_running_loop().call_later(self._owner.head_seconds, self.give_up)

    def data_received(self, data: bytes) -> None:
        """The first bytes of a request."""
        lease, self._lease = self._lease, None
        self._forget()
        if lease is not None:
            self._hand_on(lease).data_received(data)

    def connection_lost(self, _: Exception | None) -> None:
        """The client has left without a word."""
        self._forget()

    def give_up(self) -> None:
        """See `Connection.give_up`."""
        self._forget()
        self._transport.abort()

    def shutdown(self) -> None:
        """The server ends; called by uvicorn."""
        self.give_up()

    def _hand_on(self, lease: Lease | None = None) -> BoundedHttp:
        http = BoundedHttp(lease, **self._options)
        self._transport.set_protocol(http)
        http.connection_made(self._transport)
        return http

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._owner.busy(self)
        self._connections.discard(self)
        if self._lease is not None:
            self._lease.release()
