"""The connections of a server: how many there may be, and which one gives way when there are too many."""

from __future__ import annotations

import logging
import resource
import sys
import time
from collections.abc import Callable
from typing import Protocol

from service.api.addresses import Proxies, client_of
from service.api.security import Bucket, RateLimit
from service.quota import Lease, Quota, QuotaExceededError

log = logging.getLogger(__name__)

_RESERVED_FILES = 256
"""Descriptors for everything but clients: models, Redis, decoders, trackers."""
_DISCARD_BYTES_PER_S = 10_000_000
"""Of bodies that have been answered already, on all connections together."""
_PROXY_SHARE = 0.9
"""Of all connections, the part that one trusted proxy may have."""
_LOG_EVERY_S = 10.0
_POLITE_PER_S = 100
"""Refused connections that are told why, a second. More than these are a flood, and cost the least if they just end."""
_MESSAGES_PER_S, _MESSAGE_BURST = 2_000, 10_000
"""Of the websockets of one client together: a thousand frames with an acknowledgement each."""


class EvictableConnection(Protocol):
    """A connection that can be given up while no request of it is under way."""

    def give_up(self) -> None:
        """Close it at once."""


class Connections:
    """Counts connections, each client's within its share.

    At the limit, the connection that has been idle longest is closed for a new one: silent connections cannot keep
    others out, and a health probe always gets through. It belongs to one event loop.
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
        """Make the count.

        memory: what the messages of websockets take while they arrive; None to bound each alone.
        head_seconds: how long the head of a request may take, and a connection's first byte. stall_seconds: how long a
        client may read too little of an answer, or go on sending a body that has been answered. refused: called for
        each connection that is closed at a limit, with `share`, `full`, `evicted` or a status.
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
        self._polite = Bucket(_POLITE_PER_S, _POLITE_PER_S, clock())
        self._idle: dict[EvictableConnection, None] = {}  # the one that has been idle longest first
        self._told_at = -_LOG_EVERY_S
        self._untold = 0

    def open(self, peer: str) -> Lease:
        """Count a new connection. Raises QuotaExceededError where its client has its share, or all are busy."""
        client = client_of(peer)
        most = self._proxy_most if self._proxies.trusts(peer) else None
        try:
            if self.quota.held >= self.quota.total and self._idle:
                self._evict()
            return self.quota.take(client, most=most)
        except QuotaExceededError as error:
            self._tell(error.reason, f"a connection of {client} was refused: {error}")
            raise

    def idle(self, connection: EvictableConnection) -> None:
        """No request of this connection is under way from now on."""
        self._idle[connection] = None

    def busy(self, connection: EvictableConnection) -> None:
        """A request is under way, or the connection has ended."""
        self._idle.pop(connection, None)

    def may_explain(self) -> bool:
        """Whether a refused connection should be told why."""
        return self._polite.take(1, self._clock())

    def pause_after(self, discarded: int) -> float:
        """Seconds until a connection whose body has been answered may send more. `discarding` counts these connections.

        A client should be able to send all of its body, as it may read the answer only then; but reading and throwing
        away as fast as clients send would leave no time for others.
        """
        return discarded * self.discarding / _DISCARD_BYTES_PER_S

    def _evict(self) -> None:
        longest = next(iter(self._idle))
        del self._idle[longest]
        longest.give_up()
        self._tell("evicted", f"all {self.quota.total} connections are taken: the longest idle one was closed")

    def _tell(self, reason: str, what: str) -> None:
        """Count every one, and log one every few seconds: a flood of connections must not become one of log lines."""
        self.refused(reason)
        now = self._clock()
        if now - self._told_at < _LOG_EVERY_S:
            self._untold += 1
            return
        more = f"; so were {self._untold} before it" if self._untold else ""
        log.warning("%s%s", what, more)
        self._told_at, self._untold = now, 0


def most_connections(wanted: int) -> int:
    """`wanted`, or as many connections as the process can have descriptors for. Raises its own limit for that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted + _RESERVED_FILES:
        soft = wanted + _RESERVED_FILES
        if hard != resource.RLIM_INFINITY:
            soft = min(soft, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    files = wanted + _RESERVED_FILES if soft == resource.RLIM_INFINITY else soft
    return max(1, min(wanted, files - min(_RESERVED_FILES, files // 2)))
