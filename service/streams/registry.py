"""All the streams of a server: how many there may be, who goes on with whose, and how they end together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from service.process.supervisor import Supervisor
from service.streams.checkpoints import Checkpoints, OpenStream
from service.streams.closing import CloseCode, StreamError
from service.streams.codec import StateError, unpack
from service.streams.concurrency import ConcurrencyLimiter
from service.streams.protocol import Hello
from service.streams.session import Session
from service.streams.slots import TAKEN_OVER, Slot, StreamSlots
from service.streams.state import Memory
from service.streams.store.base import Kept, Store, StoreAwayError
from service.streams.tokens import Claim, TokenError, Tokens, new_session

log = logging.getLogger(__name__)

_LEAVE_S = 2.0
"""How long streams that were ended may take to say so."""
_FLUSH_S = 0.5
"""How long clients wait to be sent elsewhere until their streams are kept where they can be found."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a stream begins. memory: what its session remembers, None for a new one. why: it is new, though resumed.

    generation: how often the session has changed hands. gap: seconds since the frame that `memory` is as of.
    """

    slot: Slot
    sequence: int = 0
    generation: int = 1
    memory: Memory | None = None
    gap: float = 0.0
    why: str = ""

    @property
    def session(self) -> str:
        """The session's id."""
        return self.slot.session


class Streams:
    """The open streams by session, and the store for those whose client has left or may have to go on elsewhere.

    most: open at once. share: how much of that one client may have, 0..1. resume_seconds: how long a session waits for
    its client. idle_seconds: how long an open stream may do nothing. checkpoint_seconds: how old the state of an open
    stream may be in a store that servers share.
    """

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        *,
        most: int,
        share: float = 1.0,
        resume_seconds: float,
        idle_seconds: float = 60.0,
        checkpoint_seconds: float = 1.0,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.resume_seconds = resume_seconds
        self._store = store
        self._tokens = tokens
        self._slots = StreamSlots(most, share)
        self._open: dict[str, OpenStream] = {}
        self._limiter: dict[str, ConcurrencyLimiter] = {}
        # What an open stream has kept must outlast the time in which nothing new comes to be kept.
        self._keep_seconds = idle_seconds + resume_seconds if resume_seconds else 0.0
        self._checkpoints = Checkpoints(store, self._open, checkpoint_seconds, self._keep_seconds)
        self._checkpointing: asyncio.Task[None] | None = None
        self._supervisor = supervisor or Supervisor()
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    async def start(self) -> None:
        """Begin to keep what streams must not lose."""
        await self._store.start(self._lose)
        if self._store.shared and self._keep_seconds:
            self._checkpointing = self._supervisor.keep("checkpoints", self._checkpoints.run)

    def greeting(self, client: str) -> AbstractContextManager[None]:
        """Count a connection that has not said hello. Raises StreamError where too many have not."""
        return self._slots.greeting(client)

    @asynccontextmanager
    async def begin(self, hello: Hello, skeleton: str, client: str) -> AsyncIterator[Beginning]:
        """The session that a hello resumes, or a new one where that is not to be had; a slot is held meanwhile.

        A connection that still has the session is ended: it is the older one, and most likely dead.
        client: whose share of the slots counts. Raises StreamError where no stream can begin.
        """
        self._check_open()
        claim, why = self._read(hello.resume)
        with self._slots.take(client, new_session() if claim is None else claim.session) as slot:
            if claim is None:
                yield Beginning(slot, why=why)
                return
            await slot.alone()
            kept = None
            try:
                kept, why = await self._claim(claim)
                slot.check()
                self._check_open()
                yield self._recall(slot, claim, kept, why, hello, skeleton)
            finally:
                if kept is not None and slot.session == claim.session and not slot.opened:
                    self._store.keep(claim.session, kept, self.resume_seconds)  # the client may come again

    def limiter(self, model: str) -> ConcurrencyLimiter:
        """In which the streams of a model have their frames looked at."""
        return self._limiter.setdefault(model, ConcurrencyLimiter(time.monotonic))

    def token(self, session: str, sequence: int, next_id: int) -> str:
        """A token that resumes a session. next_id: the first id that none of its people has had."""
        return self._tokens.make(Claim(session, sequence, next_id))

    @asynccontextmanager
    async def hold(self, beginning: Beginning, session: Session, client: str = "") -> AsyncIterator[None]:
        """Count a stream as open for as long as the context lasts, then keep its state for who resumes it.

        client: for `end_strangers`.
        """
        beginning.slot.open(session)
        name = beginning.session
        entry = self._open[name] = OpenStream(session, beginning.generation, client)
        try:
            yield
        finally:
            del self._open[name]
            self._store.keep(name, entry.state(), self.resume_seconds)
            entry.ended.set()

    def end_strangers(self, admits: Callable[[str], bool]) -> int:
        """End the streams of clients that are not let in any more. Returns how many."""
        strangers = [entry for entry in self._open.values() if not admits(entry.client)]
        for entry in strangers:
            entry.session.end(CloseCode.UNAUTHORIZED, "the API key is not one that this server accepts any more")
        return len(strangers)

    async def reap(self) -> None:
        """Forget sessions whose client has not come back in time."""
        await self._store.reap()

    async def go_away(self, seconds: float) -> None:
        """Take no more streams, keep the state of all, and tell their clients that they end in so many seconds."""
        self._draining = True
        if self._checkpointing is not None:
            self._checkpoints.hurry()
            await self._store.flush(_FLUSH_S)
        await self._all(lambda session: session.go_away(seconds))

    async def close(self) -> None:
        """End all streams, and see that their state is kept."""
        self._draining = True
        ended = [entry.ended.wait() for entry in self._open.values()]
        for entry in self._open.values():
            entry.session.end(CloseCode.GOING_AWAY, "this server is going down; connect again with the last token")
        await _within(_LEAVE_S, ended)
        if self._checkpointing is not None:
            self._checkpointing.cancel()
            await self._store.flush(_LEAVE_S)

    async def stop(self) -> None:
        """Free what the streams had: after `close`, nothing can begin any more."""
        await self._store.close()

    def _read(self, token: str) -> tuple[Claim | None, str]:
        """What a token claims, or why it claims nothing."""
        if not token:
            return None, ""
        try:
            return self._tokens.read(token), ""
        except TokenError as error:
            return None, str(error)

    def _check_open(self) -> None:
        if self._draining:
            raise StreamError(CloseCode.TRY_LATER, "this server is going down")

    def _lose(self, session: str, generation: int) -> None:
        """Another server has the session now."""
        entry = self._open.get(session)
        if entry is not None and entry.generation <= generation:
            entry.session.end(CloseCode.REPLACED, TAKEN_OVER)

    async def _claim(self, claim: Claim) -> tuple[Kept | None, str]:
        """What is kept of the claimed session, or why there is nothing."""
        try:
            kept = await self._store.claim(claim.session, self._keep_seconds)
        except StoreAwayError as error:
            return None, str(error)
        except StateError as error:
            return None, _unreadable(error)
        return kept, "" if kept else "the session is not kept any more"

    def _recall(self, slot: Slot, claim: Claim, kept: Kept | None, why: str, hello: Hello, skeleton: str) -> Beginning:
        """The claimed session with its memory, or a new one."""
        if kept is not None:
            try:
                memory = unpack(kept.data)
                if not memory.fits(hello):
                    raise StateError("it is of other zones and lines than those that it names")
            except StateError as error:
                why = _unreadable(error)
            else:
                if memory.tracker.skeleton == skeleton:
                    # The state may be older than what the client has seen.
                    next_id = max(memory.tracker.next_id, claim.next_id)
                    memory = replace(memory, tracker=replace(memory.tracker, next_id=next_id))
                    return Beginning(slot, max(kept.sequence, claim.sequence), kept.generation, memory, kept.age)
                why = f"the session has {memory.tracker.skeleton} poses, this model gives {skeleton}"
        self._slots.rename(slot, new_session())
        return Beginning(slot, why=why)

    async def _all(self, act: Callable[[Session], Awaitable[None]]) -> None:
        await _within(_LEAVE_S, [act(entry.session) for entry in self._open.values()])


def _unreadable(error: StateError) -> str:
    log.error("a stored session cannot be read: %s", error)
    return "the session cannot be read any more"


async def _within(seconds: float, things: Sequence[Awaitable[object]]) -> None:
    """Await all, whatever becomes of each, but no longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*things, return_exceptions=True)
    except TimeoutError:
        log.warning("not all streams have ended in time")
