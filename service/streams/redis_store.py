"""A store in Redis, which replicas share: what one keeps, any other can go on with.

A session is a hash `posewire:session:ID` of generation, sequence and state, and expires. Two scripts are all that
touches it, so that holders cannot undo each other's: one keeps a state unless a newer one is there, one hands the
session over. Redis is no part of a frame's way: states wait in memory, the newest of each session, for a task that
writes them. While Redis is away they wait on, and this server's own streams are resumed from there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from itertools import islice

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from service.streams.memory_store import MemoryStore
from service.streams.store import Kept, Lost, StoreAwayError
from service.streams.tokens import Tokens
from service.supervision import Supervisor

log = logging.getLogger(__name__)

_PREFIX = "posewire:session:"
_TOKEN_KEY = "posewire:resume-key"  # noqa: S105 - a name
_TIMEOUT_S = 1.0
"""How long Redis may take for a batch of states, and a client that resumes may wait for it."""
_BATCH = 64
_LARGEST = 1_000_000
"""Bytes of a state; 256 people take half of it with smoothing, else a quarter."""
_PROBE_S = 5.0
"""How often Redis is asked for a sign of life, where nothing is to be written."""
_BACKOFF_S = (0.1, 2.0)
"""The first and the longest pause between two tries while it is away."""
_CONNECTIONS = 8

_KEEP = """
local known = redis.call('HMGET', KEYS[1], 'generation', 'sequence')
local generation, sequence = tonumber(known[1] or -1), tonumber(known[2] or -1)
if generation > tonumber(ARGV[1]) then return generation end
if generation < tonumber(ARGV[1]) or sequence <= tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'sequence', ARGV[2], 'state', ARGV[3])
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return tonumber(ARGV[1])
"""
"""Arguments: generation, sequence, state, milliseconds. Returns the generation that holds the session."""

_CLAIM = """
local known = redis.call('HMGET', KEYS[1], 'generation', 'sequence', 'state')
if not known[1] then return nil end
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return known
"""
"""Argument: milliseconds. Returns generation (of the last holder), sequence and state, or nil. The state stays: if the
new holder dies before it has kept one of its own, the next can go on from there."""


class Observer:
    """What a store tells of itself; does nothing."""

    def reached(self, up: bool) -> None:
        """Whether the last try to reach it succeeded."""

    def wrote(self, outcome: str, states: int) -> None:
        """States were `kept`, `refused` as another server holds their session, or `failed` to be written for now."""

    def waiting(self, states: int) -> None:
        """So many states wait to be written."""


class RedisStore:
    """A Store in the Redis at `url`, see `check_url`.

    tokens: whose key all servers of this Redis are to share; None where they were given one. What waits is bounded as
    a MemoryStore is.
    """

    shared = True

    def __init__(
        self,
        url: str,
        *,
        tokens: Tokens | None = None,
        observer: Observer | None = None,
        supervisor: Supervisor | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=_CONNECTIONS,
            timeout=_TIMEOUT_S,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),  # a connection of before Redis was restarted is no outage
        )
        self._redis = Redis.from_pool(pool)
        self._tokens = tokens
        self._observer = observer or Observer()
        self._waiting = MemoryStore(clock=clock)
        self._work = asyncio.Event()
        self._written = asyncio.Event()
        self._up: bool | None = None  # not known yet
        self._pause = _BACKOFF_S[0]
        self._lost: Lost = lambda _session, _generation: None
        self._writer: asyncio.Task[None] | None = None
        self._supervisor = supervisor or Supervisor()

    async def start(self, lost: Lost) -> None:
        """See `Store.start`. Waits a second at most for Redis, and for the key of the tokens that is there."""
        self._lost = lost
        with contextlib.suppress(StoreAwayError):
            await self._probe()
        self._writer = self._supervisor.keep("store", self._write)

    def keep(self, session: str, kept: Kept, seconds: float) -> None:
        """See `Store.keep`. A state of more than a megabyte is not kept."""
        if len(kept.data) > _LARGEST or seconds <= 0:
            return
        self._waiting.keep(session, kept, seconds)
        self._observer.waiting(len(self._waiting))
        self._written.clear()
        self._work.set()

    async def claim(self, session: str, seconds: float) -> Kept | None:
        """See `Store.claim`. While Redis is away, what waits here for it can be claimed."""
        away: StoreAwayError | None = None
        stored: Kept | None = None
        try:
            stored = await self._hand_over(session, seconds)
        except StoreAwayError as error:
            away = error
        waiting = self._waiting.get(session)
        self._waiting.drop(session)
        if waiting is not None and (stored is None or waiting.order >= stored.order):
            claimed = replace(waiting, generation=max(waiting.generation, stored.generation if stored else 0) + 1)
            self.keep(session, claimed, seconds)
            return claimed
        if away is not None:
            raise away
        return None if stored is None else replace(stored, generation=stored.generation + 1)

    async def reap(self) -> int:
        """See `Store.reap`; Redis does it by itself for what is there."""
        return await self._waiting.reap()

    async def flush(self, seconds: float) -> None:
        """See `Store.flush`. Does not wait for a Redis that is away."""
        if not len(self._waiting) or self._up is False:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._written.wait()

    async def close(self) -> None:
        """See `Store.close`."""
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            self._writer = None
        await self._redis.aclose()

    async def _hand_over(self, session: str, seconds: float) -> Kept | None:
        """What Redis has of a session, as of its last holder, who has lost it with that."""
        async with self._reaching():
            known = await self._redis.eval(_CLAIM, 1, _PREFIX + session, _milliseconds(seconds))
        return None if known is None else Kept(int(known[0]), int(known[1]), known[2])

    async def _write(self) -> None:
        """Write what waits, for ever."""
        while True:
            try:
                async with asyncio.timeout(_PROBE_S):
                    await self._work.wait()
            except TimeoutError:
                pass  # nothing to write
            try:
                await self._save() if len(self._waiting) and self._up else await self._probe()
            except StoreAwayError:
                self._observer.wrote("failed", len(self._waiting))
                self._written.set()  # nobody should wait for it
                await asyncio.sleep(self._pause)
                self._pause = min(2 * self._pause, _BACKOFF_S[1])
            else:
                self._pause = _BACKOFF_S[0]
            if not len(self._waiting):
                self._work.clear()
                self._written.set()

    async def _save(self) -> None:
        """Write the states that wait longest, in one go."""
        batch = list(islice(self._waiting, _BATCH))
        async with self._reaching(), self._redis.pipeline(transaction=False) as pipeline:
            for session, kept, seconds in batch:
                milliseconds = _milliseconds(seconds)
                pipeline.eval(_KEEP, 1, _PREFIX + session, kept.generation, kept.sequence, kept.data, milliseconds)
            holders = await pipeline.execute()
        for (session, kept, _), holder in zip(batch, holders, strict=True):
            if self._waiting.get(session) in (kept, None):
                self._waiting.drop(session)
            if holder > kept.generation:
                self._lost(session, holder - 1)
        refused = sum(holder > kept.generation for (_, kept, _), holder in zip(batch, holders, strict=True))
        self._observer.wrote("refused", refused)
        self._observer.wrote("kept", len(batch) - refused)
        self._observer.waiting(len(self._waiting))

    async def _probe(self) -> None:
        """See that Redis is there, and that all who use it sign their tokens with one key."""
        async with self._reaching():
            if self._tokens is None:
                await self._redis.ping()
                return
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.set(_TOKEN_KEY, self._tokens.key, nx=True)
                pipeline.get(_TOKEN_KEY)
                _, key = await pipeline.execute()
            self._tokens.adopt(key)

    @contextlib.asynccontextmanager
    async def _reaching(self) -> AsyncIterator[None]:
        """Turn what goes wrong with Redis into a StoreAwayError, and tell once of each outage and of its end."""
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                yield
        except (RedisError, OSError, TimeoutError) as error:
            why = str(error) or f"no answer within {_TIMEOUT_S:g} s"
            if self._up is not False:
                log.warning("Redis is away (%s): streams go on, but only here can they be resumed", why)
            self._set_up(False)
            raise StoreAwayError(f"what servers share cannot be reached now: {why}") from error
        if self._up is False:
            log.warning("Redis is back")
        self._set_up(True)

    def _set_up(self, up: bool) -> None:
        self._up = up
        self._observer.reached(up)


def check_url(url: str) -> None:
    """Raises ValueError for what is no URL of a Redis: redis://HOST:PORT/0, rediss:// or unix://, and known options."""
    try:
        BlockingConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    except TypeError as error:
        raise ValueError(f"the URL has an option that is not known ({error})") from error


def _milliseconds(seconds: float) -> int:
    return max(1, round(1e3 * seconds))
