"""All streams of a server: begins and resumes them, bounds their number, and ends them when the server shuts down."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from dataclasses import dataclass, replace

from engines.skeletons import Skeleton
from service.process.supervisor import Supervisor
from service.streams.checkpoints import Checkpoints
from service.streams.flow_control import ConcurrencyLimiter
from service.streams.protocol import CloseCode, Hello, StreamError
from service.streams.session import Session
from service.streams.slots import TAKEN_OVER, Slot, StreamSlots
from service.streams.store.base import Store, StoreAwayError, StoredState
from service.streams.tokens import Claim, TokenError, Tokens, new_session
from service.tracking_workers.codec import StateError, is_of, unpack
from service.tracking_workers.state import StreamState

log = logging.getLogger(__name__)

_END_S = 2.0
"""How long streams may take to end, or to tell their clients that the server shuts down."""
_FLUSH_S = 0.5
"""How long a draining server waits for its streams' states to be stored before it sends clients elsewhere."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """How a stream begins.

    sequence: number of results of the session so far. state: to continue from, None for a new session. gap: seconds
    since the frame that `state` belongs to. detail: why the client's token did not resume its session.
    """

    slot: Slot
    sequence: int = 0
    state: StreamState | None = None
    gap: float = 0.0
    detail: str = ""


class Streams:
    """The open streams by session, and the store with the state of streams that may be resumed.

    most: how many streams may be open at once. share: how many of them one client may have, 0..1. resume_seconds: how
    long a session can be resumed after its stream has ended. idle_seconds: how long an open stream may be idle.
    checkpoint_seconds: how old the state of an open stream in a shared store may be.
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
        self._open: dict[str, Slot] = {}
        self._limiters: dict[str, ConcurrencyLimiter] = {}
        # The last checkpoint of an idle stream must still be there when the stream ends and may be resumed.
        self._keep_seconds = idle_seconds + resume_seconds if resume_seconds else 0.0
        self._checkpoints = Checkpoints(store, self._open, checkpoint_seconds, self._keep_seconds)
        self._checkpointing: asyncio.Task[None] | None = None
        self._supervisor = supervisor or Supervisor()
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    @property
    def store(self) -> Store:
        """The states of streams; those of cameras, too, if it is shared."""
        return self._store

    async def start(self) -> None:
        await self._store.start(self._lose)
        if self._store.shared and self._keep_seconds:
            self._checkpointing = self._supervisor.keep("checkpoints", self._checkpoints.run)

    def greeting(self, client: str) -> AbstractContextManager[None]:
        return self._slots.greeting(client)

    @asynccontextmanager
    async def begin(self, hello: Hello, skeleton: Skeleton, client: str) -> AsyncIterator[Beginning]:
        """Resume the session of a hello's token, or begin a new one; hold a slot for as long as the context lasts.

        An older connection that still has the session is ended; it is most likely dead. skeleton: of the model's poses.
        client: whose share of the slots counts. Raises StreamError if no stream can begin.
        """
        self._check_draining()
        claim, detail = None, ""
        if hello.resume:
            try:
                claim = self._tokens.read(hello.resume)
            except TokenError as error:
                detail = str(error)
        with self._slots.take(client, new_session() if claim is None else claim.session) as slot:
            if claim is None:
                yield Beginning(slot, detail=detail)
                return
            await slot.wait_for_older()
            stored = None
            try:
                stored, detail = await self._claim(claim)
                slot.check()
                self._check_draining()
                yield self._resume(slot, claim, stored, detail, hello, skeleton)
            finally:
                if stored is not None and slot.session == claim.session and slot.stream is None:
                    self._store.keep(claim.session, stored, self.resume_seconds)  # the client may try again

    def limiter(self, model: str) -> ConcurrencyLimiter:
        return self._limiters.setdefault(model, ConcurrencyLimiter(time.monotonic))

    def token(self, session: str, sequence: int, next_id: int) -> str:
        """Return a token that resumes a session. next_id: the first id that has not been assigned."""
        return self._tokens.make(Claim(session, sequence, next_id))

    @asynccontextmanager
    async def hold(self, slot: Slot, session: Session) -> AsyncIterator[None]:
        """Register an open stream for as long as the context lasts, then store its state so that it can be resumed."""
        slot.stream = session
        self._open[slot.session] = slot
        try:
            yield
        finally:
            del self._open[slot.session]
            self._store.keep(slot.session, slot.state(), self.resume_seconds)

    def end_unauthorized(self, admits: Callable[[str], bool]) -> int:
        """End the streams of clients that are no longer admitted. Returns how many."""
        unauthorized = [slot for slot in self._open.values() if not admits(slot.client)]
        for slot in unauthorized:
            slot.end(CloseCode.UNAUTHORIZED, "the API key is not one that this server accepts any more")
        return len(unauthorized)

    async def reap(self) -> None:
        """Remove sessions that were not resumed in time."""
        await self._store.reap()

    async def go_away(self, seconds: float) -> None:
        """Refuse new streams, store the state of open ones, and tell their clients that they end in `seconds`."""
        self._draining = True
        if self._checkpointing is not None:
            self._checkpoints.drain()
            await self._store.flush(_FLUSH_S)
        await _within(_END_S, [slot.stream.go_away(seconds) for slot in self._open.values() if slot.stream])

    async def close(self) -> None:
        """End all streams and store their state."""
        self._draining = True
        ended = [slot.ended.wait() for slot in self._open.values()]
        for slot in self._open.values():
            slot.end(CloseCode.GOING_AWAY, "this server is going down; connect again with the last token")
        await _within(_END_S, ended)
        if self._checkpointing is not None:
            self._checkpointing.cancel()
            await self._store.flush(_END_S)

    async def stop(self) -> None:
        """Close the store. Call `close` first."""
        await self._store.close()

    def _check_draining(self) -> None:
        if self._draining:
            raise StreamError(CloseCode.TRY_LATER, "this server is going down")

    def _lose(self, session: str, generation: int) -> None:
        """End a stream whose session another server has resumed."""
        slot = self._open.get(session)
        if slot is not None and slot.generation <= generation:
            slot.end(CloseCode.REPLACED, TAKEN_OVER)

    async def _claim(self, claim: Claim) -> tuple[StoredState | None, str]:
        """Return the stored state of the claimed session, or None and why there is none."""
        try:
            stored = await self._store.claim(claim.session, self._keep_seconds)
        except StoreAwayError as error:
            return None, str(error)
        except StateError as error:
            return None, _unreadable(error)
        return stored, "" if stored else "the session is not kept any more"

    def _resume(
        self, slot: Slot, claim: Claim, stored: StoredState | None, detail: str, hello: Hello, skeleton: Skeleton
    ) -> Beginning:
        """Return the claimed session with its state, or a new session if the state cannot be used."""
        if stored is not None:
            try:
                state = unpack(stored.data)
                if not state.fits(hello.tracking):
                    raise StateError("it is of other zones, lines or rules than those that it names")
            except StateError as error:
                detail = _unreadable(error)
            else:
                if is_of(state, skeleton):
                    # The stored state may be older than the client's last result.
                    next_id = max(state.tracker.next_id, claim.next_id)
                    state = replace(state, tracker=replace(state.tracker, next_id=next_id))
                    sequence = max(stored.sequence, claim.sequence)
                    slot.generation = stored.generation
                    return Beginning(slot, sequence, state, stored.age)
                detail = f"the session has {state.tracker.skeleton} poses, this model gives {skeleton.name}"
        self._slots.rename(slot, new_session())
        return Beginning(slot, detail=detail)


def _unreadable(error: StateError) -> str:
    log.error("a stored session cannot be read: %s", error)
    return "the session cannot be read any more"


async def _within(seconds: float, tasks: Sequence[Awaitable[object]]) -> None:
    """Await all tasks, for `seconds` at most. Their errors are ignored."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*tasks, return_exceptions=True)
    except TimeoutError:
        log.warning("not all streams have ended in time")
