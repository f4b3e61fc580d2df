"""Limits how many streams are open, for all clients and for each, and decides which connection has a session."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from service.quota import Lease, Quota, QuotaExceededError
from service.streams.protocol import CloseCode, StreamError
from service.streams.session import Session
from service.streams.store.base import StoredState

TAKEN_OVER = "another connection has taken this session over"
_END_S = 5.0
"""How long an older connection of a session may take to end."""


@dataclass(slots=True, eq=False)
class _Shared:
    """The state shared by the connections of one session. connections: oldest first; only the newest may continue."""

    lease: Lease
    connections: list[Slot] = field(default_factory=list)


@dataclass(slots=True, eq=False, repr=False)
class Slot:
    """One connection of a session, until it has ended.

    session: the session's id. client: address or API key. generation: see `StoredState`. stream: once it has begun.
    saved: the state of the last checkpoint, at the time `saved_at`.
    """

    session: str
    client: str
    _shared: _Shared
    generation: int = 1
    stream: Session | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    saved: bytes = b""
    saved_at: float = -math.inf

    def end(self, code: CloseCode, reason: str) -> None:
        """End the stream, if it has begun."""
        if self.stream is not None:
            self.stream.end(code, reason)

    def state(self) -> StoredState:
        """The state for the store, of a stream that has begun."""
        stream = self.stream
        assert stream is not None  # noqa: S101 - tells the type checker
        return StoredState(self.generation, stream.sequence, stream.state, stream.age)

    async def wait_for_older(self) -> None:
        """Wait until older connections of the session have ended.

        Raises StreamError if a newer connection resumes the session, or if an older one does not end in time.
        """
        try:
            async with asyncio.timeout(_END_S):
                for older in self._shared.connections[: self._shared.connections.index(self)]:
                    await older.ended.wait()
        except TimeoutError as error:
            reason = f"the session's earlier connection has not ended within {_END_S:g} s"
            raise StreamError(CloseCode.TRY_LATER, reason) from error
        self.check()

    def check(self) -> None:
        """Raise StreamError if a newer connection has resumed the session."""
        if self._shared.connections[-1] is not self:
            raise StreamError(CloseCode.REPLACED, TAKEN_OVER)


class StreamSlots:
    """At most `most` streams, and at most a share of them, in 0..1, for each client (address or API key).

    All connections that resume the same session count as one stream: the newest takes over the slot of the one before
    it, which is ended. Belongs to one event loop.
    """

    def __init__(self, most: int, share: float) -> None:
        self._streams = Quota("streams", most, share)
        self._greetings = Quota("connections without a hello", most, share)
        self._sessions: dict[str, _Shared] = {}

    @contextmanager
    def greeting(self, client: str) -> Iterator[None]:
        """Count a connection that has not sent its hello. Raises StreamError if there are too many."""
        try:
            lease = self._greetings.take(client)
        except QuotaExceededError as error:
            if error.reason == "full":
                reason = f"{self._greetings.held} connections have not said hello yet"
            else:
                reason = f"{self._greetings.held_by(client)} connections of this client have not said hello yet"
            raise StreamError(CloseCode.TRY_LATER, reason) from error
        with lease:
            yield

    @contextmanager
    def take(self, client: str, session: str) -> Iterator[Slot]:
        """Hold a slot for a stream of `session` for as long as the context lasts.

        If another connection has the session, its slot passes to this one and its stream is ended; await
        `Slot.wait_for_older` before continuing it. Raises StreamError if all slots, or all of this client, are taken.
        """
        shared = self._sessions.get(session)
        try:
            if shared is None:
                shared = self._sessions[session] = _Shared(self._streams.take(client))
            else:
                shared.lease = shared.lease.pass_to(client)
        except QuotaExceededError as error:
            if error.reason == "full":
                reason = f"{self._streams.held} streams are open, as many as this server takes"
            else:
                reason = (
                    f"{self._streams.held_by(client)} streams of this client (address or API key) are open, "
                    "as many as one client may have"
                )
            raise StreamError(CloseCode.TRY_LATER, reason) from error
        if shared.connections:
            shared.connections[-1].end(CloseCode.REPLACED, TAKEN_OVER)
        slot = Slot(session, client, shared)
        shared.connections.append(slot)
        try:
            yield slot
        finally:
            shared.connections.remove(slot)
            slot.ended.set()
            if not shared.connections:
                del self._sessions[slot.session]
                shared.lease.release()

    def rename(self, slot: Slot, session: str) -> None:
        """Assign a slot to a new session. The slot must be the only one of its session."""
        self._sessions[session] = self._sessions.pop(slot.session)
        slot.session = session
