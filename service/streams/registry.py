"""All the streams of a server: how many there may be, who goes on with whose, and how they end together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

from service.streams.checkpoints import Checkpoints, OpenStream
from service.streams.closing import CloseCode, StreamError
from service.streams.codec import StateError, unpack
from service.streams.memory import Memory
from service.streams.session import Session
from service.streams.store import Store, StoreAwayError
from service.streams.tokens import Claim, TokenError, Tokens, new_session
from service.streams.turns import Turns
from service.supervision import Supervisor

log = logging.getLogger(__name__)

_LEAVE_S = 2.0
"""How long streams that were ended may take to say so."""
_FLUSH_S = 0.5
"""How long clients wait to be sent elsewhere until their streams are kept where they can be found."""
_TAKEN_OVER = "another connection has taken this session over"


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a stream begins. memory: what its session remembers, None for a new one. why: it is new, though resumed.

    generation: how often the session has changed hands.
    """

    session: str
    sequence: int = 0
    generation: int = 1
    memory: Memory | None = None
    why: str = ""


class Streams:
    """The open streams by session, and the store for those whose client has left or may have to go on elsewhere.

    most: open at once. resume_seconds: how long a session waits for its client. idle_seconds: how long an open stream
    may do nothing. checkpoint_seconds: how old the state of an open stream may be in a store that servers share.
    """

    def __init__(
        self,
        store: Store,
        tokens: Tokens,
        *,
        most: int,
        resume_seconds: float,
        idle_seconds: float = 60.0,
        checkpoint_seconds: float = 1.0,
        supervisor: Supervisor | None = None,
    ) -> None:
        self.resume_seconds = resume_seconds
        self._store = store
        self._tokens = tokens
        self._most = most
        self._open: dict[str, OpenStream] = {}
        self._turns: dict[str, Turns] = {}
        # What an open stream has kept must outlast the time in which nothing new comes to be kept.
        self._keep_seconds = idle_seconds + resume_seconds if resume_seconds else 0.0
        self._checkpoints = Checkpoints(store, self._open, checkpoint_seconds, self._keep_seconds)
        self._checkpointing: asyncio.Task[None] | None = None
        self._supervisor = supervisor or Supervisor()
        self._greeting = 0
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

    async def start(self) -> None:
        """Begin to keep what streams must not lose."""
        await self._store.start(self._lose)
        if self._store.shared and self._keep_seconds:
            self._checkpointing = self._supervisor.keep("checkpoints", self._checkpoints.run)

    @contextmanager
    def greeting(self) -> Iterator[None]:
        """Count a connection that has not said hello. Raises StreamError where too many have not."""
        if self._greeting >= self._most:
            raise StreamError(CloseCode.TRY_LATER, f"{self._greeting} connections have not said hello yet")
        self._greeting += 1
        try:
            yield
        finally:
            self._greeting -= 1

    async def begin(self, token: str, skeleton: str) -> Beginning:
        """The session that a token resumes, or a new one where that is not to be had.

        A connection that still has it is ended: it is the older one, and most likely dead.
        Raises StreamError where no stream can begin.
        """
        if self._draining:
            raise StreamError(CloseCode.TRY_LATER, "this server is going down")
        claim, why = self._read(token)
        if claim is not None:
            await self._end_older(claim.session)
        if len(self._open) >= self._most:  # before the state is taken: the client may come again
            raise StreamError(CloseCode.TRY_LATER, f"{self._most} streams are open, as many as this server takes")
        return Beginning(new_session(), why=why) if claim is None else await self._recall(claim, skeleton)

    def turns(self, model: str) -> Turns:
        """In which the streams of a model have their frames looked at."""
        return self._turns.setdefault(model, Turns(time.monotonic))

    def token(self, session: str, sequence: int, next_id: int) -> str:
        """A token that resumes a session. next_id: the first id that none of its people has had."""
        return self._tokens.make(Claim(session, sequence, next_id))

    @asynccontextmanager
    async def hold(self, beginning: Beginning, session: Session, client: str = "") -> AsyncIterator[None]:
        """Count a stream as open for as long as the context lasts, then keep its state for who resumes it.

        client: for `end_strangers`.

        Raises StreamError where another connection has been quicker to resume the same session.
        """
        name = beginning.session
        other = self._open.get(name)
        if other is not None and other.generation > beginning.generation:
            raise StreamError(CloseCode.REPLACED, _TAKEN_OVER)
        if other is not None:
            other.session.end(CloseCode.REPLACED, _TAKEN_OVER)
        entry = self._open[name] = OpenStream(session, beginning.generation, client)
        try:
            yield
        finally:
            if self._open.get(name) is entry:
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

    async def _end_older(self, session: str) -> None:
        while (entry := self._open.get(session)) is not None:
            entry.session.end(CloseCode.REPLACED, _TAKEN_OVER)
            await entry.ended.wait()

    def _lose(self, session: str, generation: int) -> None:
        """Another server has the session now."""
        entry = self._open.get(session)
        if entry is not None and entry.generation <= generation:
            entry.session.end(CloseCode.REPLACED, _TAKEN_OVER)

    async def _recall(self, claim: Claim, skeleton: str) -> Beginning:
        """The claimed session with its memory, or a new one."""
        try:
            kept = await self._store.claim(claim.session, self._keep_seconds)
        except StoreAwayError as error:
            return Beginning(new_session(), why=str(error))
        if kept is None:
            return Beginning(new_session(), why="the session is not kept any more")
        try:
            memory = unpack(kept.data)
        except StateError as error:
            log.error("a stored session cannot be read: %s", error)
            return Beginning(new_session(), why="the session cannot be read any more")
        if memory.tracker.skeleton != skeleton:
            why = f"the session has {memory.tracker.skeleton} poses, this model gives {skeleton}"
            return Beginning(new_session(), why=why)
        next_id = max(memory.tracker.next_id, claim.next_id)  # the state may be older than what the client has seen
        memory = replace(memory, tracker=replace(memory.tracker, next_id=next_id))
        return Beginning(claim.session, max(kept.sequence, claim.sequence), kept.generation, memory)

    async def _all(self, act: Callable[[Session], Awaitable[None]]) -> None:
        await _within(_LEAVE_S, [act(entry.session) for entry in self._open.values()])


async def _within(seconds: float, things: Sequence[Awaitable[object]]) -> None:
    """Await all, whatever becomes of each, but no longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*things, return_exceptions=True)
    except TimeoutError:
        log.warning("not all streams have ended in time")
