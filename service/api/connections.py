"""Limits on the number of connections, and the eviction of idle ones when all are taken."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable
from typing import Protocol

from service.api.addresses import Proxies, client_of
from service.api.security import RateLimit
from service.quota import Bucket, Lease, Quota, QuotaExceededError

log = logging.getLogger(__name__)

_RESERVED_FILES = 256
"""File descriptors kept for models, Redis, decoders and trackers."""
_DISCARD_BYTES_PER_S = 10_000_000
"""Rate at which bodies are read and discarded after their response, over all connections."""
_PROXY_SHARE = 0.9
"""The share of all connections that one trusted proxy may have."""
_LOG_EVERY_S = 10.0
_EXPLANATIONS_PER_S = 100
"""Refused connections per second that get a response with the reason. In a flood, the others are just closed."""
_MESSAGES_PER_S, _MESSAGE_BURST = 2_000, 10_000
"""Messages on all websockets of one client: a thousand frames a second with an acknowledgement each."""


class EvictableConnection(Protocol):
    """A connection that can be closed while it is idle."""

    def abort(self) -> None:
        """Close the connection at once."""


class Connections:
    """Counts connections, and keeps each client within its share.

    At the limit, a new connection replaces the one that has been idle longest, so silent connections cannot keep
    others out, and a health probe always gets through. Belongs to one event loop.
    """

    def __init__(
        self,
        total: int,
        share: float,
        proxies: Proxies,
        *,
        memory: Quota | None = None,
        head_seconds: float = 10.0,
        stall_seconds: float = 5.0,
        refused: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the limits.

        share: the fraction of `total` that one client may have.
        memory: the quota for websocket messages while they arrive; None if only each message is bounded.
        head_seconds: timeout of a request's head, and of a connection's first byte.
        stall_seconds: how long a client may read too little of a response, or go on sending a body after its response.
        refused: called for each connection that is closed at a limit, with `share`, `full`, `evicted` or a status.
        """
        self.head_seconds = head_seconds
        self.stall_seconds = stall_seconds
        self.memory = memory or Quota("bytes of memory", sys.maxsize)
        self.quota = Quota("connections", total, share)
        self.messages = RateLimit(_MESSAGES_PER_S, _MESSAGE_BURST, clock)
        self._proxies = proxies
        self._proxy_most = max(1, int(total * _PROXY_SHARE))
        self.refused = refused
        self._clock = clock
        self.discarding = 0
        self._explanations = Bucket(_EXPLANATIONS_PER_S, _EXPLANATIONS_PER_S, clock())
        self._idle: dict[EvictableConnection, None] = {}  # longest idle first
        self._logged_at = -_LOG_EVERY_S
        self._unlogged = 0

    def open(self, peer: str) -> Lease:
        """Count a new connection. Raises QuotaExceededError if its client has its share, or all are busy."""
        client = client_of(peer)
        most = self._proxy_most if self._proxies.trusts(peer) else None
        try:
            if self.quota.held >= self.quota.total and self._idle:
                longest = next(iter(self._idle))
                del self._idle[longest]
                longest.abort()
                self._report(
                    "evicted", f"all {self.quota.total} connections are taken: the longest idle one was closed"
                )
            return self.quota.take(client, most=most)
        except QuotaExceededError as error:
            self._report(error.reason, f"a connection of {client} was refused: {error}")
            raise

    def idle(self, connection: EvictableConnection) -> None:
        """Mark a connection as idle: no request of it is under way."""
        self._idle[connection] = None

    def busy(self, connection: EvictableConnection) -> None:
        """Mark a connection as busy or closed: it cannot be evicted."""
        self._idle.pop(connection, None)

    def may_explain(self) -> bool:
        """Return whether to send the next refused connection a response with the reason."""
        return self._explanations.take(1, self._clock())

    def pause_after(self, discarded: int) -> float:
        """Return the seconds to wait before more of an answered body is read. `discarding` counts such connections.

        Some clients read the response only after they have sent the whole body, so it has to be read. But to read and
        discard it as fast as clients send would leave no time for others.
        """
        return discarded * self.discarding / _DISCARD_BYTES_PER_S

    def _report(self, reason: str, message: str) -> None:
        """Count every closed connection, but log only one every few seconds."""
        self.refused(reason)
        now = self._clock()
        if now - self._logged_at < _LOG_EVERY_S:
            self._unlogged += 1
            return
        more = f"; so were {self._unlogged} before it" if self._unlogged else ""
        log.warning("%s%s", message, more)
        self._logged_at, self._unlogged = now, 0


def most_connections(wanted: int) -> int:
    """Return `wanted`, or the number of connections that the process has file descriptors for, if that is less.

    Raises the process's own limit of descriptors as far as the system allows.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + _RESERVED_FILES:
        soft = wanted + _RESERVED_FILES
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files = wanted + _RESERVED_FILES if soft == resource.RLIM_INFINITY else soft
    return max(1, min(wanted, files - min(_RESERVED_FILES, files // 2)))
