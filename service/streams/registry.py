"""All the streams of a server: how many there may be, who goes on with whose, and how they end together."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from service.streams.closing import CloseCode, StreamError
from service.streams.codec import StateError, pack, unpack
from service.streams.memory import Memory
from service.streams.session import Session
from service.streams.store import Store
from service.streams.tokens import Claim, TokenError, Tokens, new_session
from service.streams.turns import Turns

log = logging.getLogger(__name__)

_TRACKERS = 2
"""Threads for trackers. Each stream has one frame under way, so that at most one job of each waits."""
_LEAVE_S = 2.0
"""How long streams that were ended may take to say so."""


@dataclass(frozen=True, slots=True)
class Beginning:
    """Where a stream begins. memory: what its session remembers, None for a new one. why: it is new, though resumed."""

    session: str
    sequence: int = 0
    memory: Memory | None = None
    why: str = ""


@dataclass(slots=True, eq=False)
class _Open:
    session: Session
    ended: asyncio.Event


class Streams:
    """The open streams by session, and the store for those whose client has left.

    most: open at once. resume_seconds: how long a session waits for its client. pool: the threads that track people.
    """

    def __init__(self, store: Store, tokens: Tokens, *, most: int, resume_seconds: float) -> None:
        self.resume_seconds = resume_seconds
        self.pool = ThreadPoolExecutor(_TRACKERS, thread_name_prefix="posewire-track")
        self._store = store
        self._tokens = tokens
        self._most = most
        self._open: dict[str, _Open] = {}
        self._turns: dict[str, Turns] = {}
        self._greeting = 0
        self._draining = False

    def __len__(self) -> int:
        return len(self._open)

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

    def token(self, session: str, sequence: int) -> str:
        """A token that resumes a session."""
        return self._tokens.make(Claim(session, sequence))

    @asynccontextmanager
    async def hold(self, name: str, session: Session) -> AsyncIterator[None]:
        """Count a stream as open for as long as the context lasts, then keep its state for who resumes it."""
        entry = self._open[name] = _Open(session, asyncio.Event())
        try:
            yield
        finally:
            if self._open.get(name) is entry:
                del self._open[name]
            await self._store.put(name, pack(session.memory), self.resume_seconds)
            entry.ended.set()

    async def reap(self) -> None:
        """Forget sessions whose client has not come back in time."""
        await self._store.reap()

    async def go_away(self, seconds: float) -> None:
        """Take no more streams, and tell all clients that theirs end in so many seconds."""
        self._draining = True
        await self._all(lambda session: session.go_away(seconds))

    async def close(self) -> None:
        """End all streams, and the threads."""
        self._draining = True
        ended = [entry.ended.wait() for entry in self._open.values()]
        for entry in self._open.values():
            entry.session.end(CloseCode.GOING_AWAY, "this server is going down; connect again with the last token")
        await _within(_LEAVE_S, ended)
        self.pool.shutdown(wait=False, cancel_futures=True)

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
            entry.session.end(CloseCode.REPLACED, "another connection has taken this session over")
            await entry.ended.wait()

    async def _recall(self, claim: Claim, skeleton: str) -> Beginning:
        """The claimed session with its memory, or a new one."""
        data = await self._store.take(claim.session)
        if data is None:
            return Beginning(new_session(), why="the session is not kept any more")
        try:
            memory = unpack(data)
        except StateError as error:
            log.error("a stored session cannot be read: %s", error)
            return Beginning(new_session(), why="the session cannot be read any more")
        if memory.tracker.skeleton != skeleton:
            why = f"the session has {memory.tracker.skeleton} poses, this model gives {skeleton}"
            return Beginning(new_session(), why=why)
        return Beginning(claim.session, claim.sequence, memory)

    async def _all(self, act: Callable[[Session], Awaitable[None]]) -> None:
        await _within(_LEAVE_S, [act(entry.session) for entry in self._open.values()])


async def _within(seconds: float, things: Sequence[Awaitable[object]]) -> None:
    """Await all, whatever becomes of each, but no longer than `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.gather(*things, return_exceptions=True)
    except TimeoutError:
        log.warning("not all streams have ended in time")
