"""A store in Redis, which replicas share: what one keeps, any other can go on with.

A session is a hash `posewire:session:ID` of generation, sequence, state and date, and expires. Three scripts are all
that touches Redis, so that holders cannot undo each other's: one keeps a state unless a newer one is there, one hands
the session over, one checks that Redis takes writes and agrees on the key of the tokens. Redis is no part of a frame's
way: states wait in memory, the newest of each session, for a task that writes them. While Redis is away they wait on,
and this server's own streams are resumed from there.

Anything may stand in Redis. Damaged data costs the session that it belongs to, and is replaced when that is kept again.
Servers' clocks may differ, so a state is dated by the clock of Redis, and handed over with its age.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from service.process.supervisor import Supervisor
from service.streams.codec import StateError
from service.streams.store.base import Kept, Lost, StoreAwayError
from service.streams.store.memory import MemoryStore
from service.streams.store.redis_errors import ERRORS, reason, refuses_all
from service.streams.tokens import Tokens

log = logging.getLogger(__name__)

_PREFIX = "posewire:session:"
_TOKEN_KEY = "posewire:resume-key"  # noqa: S105 - a name
_WRITABLE = "posewire:writable"
_TIMEOUT_S = 1.0
"""How long Redis may take for a batch of states, and a client that resumes may wait for it."""
_BATCH, _BATCH_BYTES = 64, 4_000_000
"""What is written in one go at most: states, and bytes of them; a single larger one all the same."""
_LARGEST = 1_000_000
"""Bytes of a state; 256 people take half of it with smoothing, else a quarter."""
_PROBE_S = 5.0
"""How often Redis is asked for a sign of life."""
_BACKOFF_S = (0.1, 2.0)
"""The first and the longest pause between two tries while it is away."""
_CONNECTIONS = 8

_NUMBERS = """
local function count(text, digits)
  return text and #text <= digits and text:match('^%d+$') and tonumber(text)
end
local function now()
  local time = redis.call('TIME')
  return 1000 * tonumber(time[1]) + math.floor(tonumber(time[2]) / 1000)
end
local kind = redis.call('TYPE', KEYS[1]).ok
"""
"""Begins the scripts. A generation has up to 9 digits, a sequence up to 15: numbers that Lua knows exactly."""

_KEEP = (
    _NUMBERS
    + """
if kind ~= 'hash' and kind ~= 'none' then redis.call('UNLINK', KEYS[1]) end
local known = redis.call('HMGET', KEYS[1], 'generation', 'sequence')
local generation, sequence = count(known[1], 9) or -1, count(known[2], 15) or -1
local mine = tonumber(ARGV[1])
if generation > mine then return generation end
if generation < mine or sequence <= tonumber(ARGV[2]) then
  local dated = string.format('%s:%.0f', ARGV[2], now() - tonumber(ARGV[5]))
  redis.call('HSET', KEYS[1], 'generation', ARGV[1], 'sequence', ARGV[2], 'state', ARGV[3], 'dated', dated)
  redis.call('PEXPIRE', KEYS[1], ARGV[4])
end
return mine
"""
)
"""Arguments: generation, sequence, state, milliseconds to keep it, its age in milliseconds. Returns the generation that
holds the session. The date names the sequence: servers of older versions write states without one."""

_CLAIM = (
    _NUMBERS
    + """
if kind == 'none' then return false end
if kind ~= 'hash' then return 'it is a ' .. kind end
local known = redis.call('HMGET', KEYS[1], 'generation', 'sequence', 'dated')
local size = redis.call('HSTRLEN', KEYS[1], 'state')
if not count(known[1], 9) then return 'its generation is no number' end
if not count(known[2], 15) then return 'its sequence is no number' end
if size > tonumber(ARGV[2]) then return 'its state has ' .. size .. ' bytes' end
local sequence, date = (known[3] or ''):match('^(%d+):(%d+)$')
local age = sequence == known[2] and count(date, 15) and now() - tonumber(date) or 0
redis.call('HINCRBY', KEYS[1], 'generation', 1)
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return {known[1], known[2], redis.call('HGET', KEYS[1], 'state') or '', age}
"""
)
"""Arguments: milliseconds, the most bytes of a state. Returns generation (of the last holder), sequence, state and its
age in milliseconds; nil where there is nothing; a string that says how it is damaged. The state stays: if the new
holder dies before it has kept one of its own, the next can go on from there."""

_PROBE = """
local value = ARGV[1]
if redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('STRLEN', KEYS[1]) == #value then
  value = redis.call('GET', KEYS[1])
end
redis.call('SET', KEYS[1], value)
if ARGV[2] == 'forget' then redis.call('DEL', KEYS[1]) end
return value
"""
"""Arguments: a value, and whether to `keep` or `forget` it. Returns the value that all servers use: the one that is
there if it is as long, else the argument. Always writes, as a Redis that only reads is of no use."""


class StoreObserver:
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
        observer: StoreObserver | None = None,
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
        self._observer = observer or StoreObserver()
        self._waiting = MemoryStore(clock=clock)
        self._work = asyncio.Event()
        self._written = asyncio.Event()
        self._up: bool | None = None  # not known yet
        self._why = ""  # it is away
        self._pause = _BACKOFF_S[0]
        self._lost: Lost = lambda _session, _generation: None
        self._writer: asyncio.Task[None] | None = None
        self._supervisor = supervisor or Supervisor()

    async def start(self, lost: Lost) -> None:
        """See `Store.start`. Waits a second at most for Redis, and for the key of the tokens that is there."""
        self._lost = lost
        await self._visit(probe=True)
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
        failed: StoreAwayError | StateError | None = None
        stored: Kept | None = None
        try:
            stored = await self._hand_over(session, seconds)
        except StateError as error:
            failed = error
        except StoreAwayError as error:
            failed = error
            self._reached(error)
            self._work.set()  # see when it is back
        waiting = self._waiting.get(session)
        self._waiting.drop(session)
        if waiting is not None and (stored is None or waiting.order >= stored.order):
            claimed = replace(waiting, generation=max(waiting.generation, stored.generation if stored else 0) + 1)
            self.keep(session, claimed, seconds)
            return claimed
        if failed is not None:
            raise failed
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
        async with _reaching():
            known = await self._redis.eval(_CLAIM, 1, _PREFIX + session, _milliseconds(seconds), _LARGEST)
        if known is None:
            return None
        match known:
            case [bytes(generation), bytes(sequence), bytes(state), int(age)]:
                return Kept(int(generation), int(sequence), state, min(max(0.0, age / 1e3), seconds))
            case bytes(why):
                raise StateError(f"in Redis, {why.decode(errors='replace')[:100]}")
            case _:
                raise StoreAwayError(reason(known))

    async def _write(self) -> None:
        """Write what waits, for ever."""
        loop = asyncio.get_running_loop()
        probe_at = loop.time() + _PROBE_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(probe_at):
                    await self._work.wait()
            due = not self._up or loop.time() >= probe_at
            if await self._visit(probe=due):
                self._pause = _BACKOFF_S[0]
            else:
                self._observer.wrote("failed", len(self._waiting))
                self._written.set()  # nobody should wait for it
                await asyncio.sleep(self._pause)
                self._pause = min(2 * self._pause, _BACKOFF_S[1])
            if due:
                probe_at = loop.time() + _PROBE_S
            if not len(self._waiting):
                self._work.clear()
                self._written.set()

    async def _visit(self, probe: bool) -> bool:
        """Write some of what waits. Returns whether Redis can be used."""
        try:
            if probe:
                await self._probe()
            if len(self._waiting):
                await self._save()
        except StoreAwayError as error:
            self._reached(error)
            return False
        self._reached(None)
        return True

    def _reached(self, error: StoreAwayError | None) -> None:
        """Tell once of each outage, of each new reason for it, and of its end."""
        if error is not None and error.reason != self._why:
            log.warning("Redis is away (%s): streams go on, but only here can they be resumed", error.reason)
        if error is None and self._up is False:
            log.warning("Redis is back")
        self._up, self._why = error is None, "" if error is None else error.reason
        self._observer.reached(self._up)

    async def _save(self) -> None:
        """Write the states that wait longest, in one go."""
        batch = self._batch()
        async with _reaching(), self._redis.pipeline(transaction=False) as pipeline:
            for session, kept, seconds in batch:
                milliseconds = _milliseconds(seconds)
                numbers = kept.generation, kept.sequence, kept.data, milliseconds, round(1e3 * kept.age)
                pipeline.eval(_KEEP, 1, _PREFIX + session, *numbers)
            holders = await pipeline.execute(raise_on_error=False)
            for holder in holders:
                if refuses_all(holder):
                    raise holder
        outcomes = {"kept": 0, "refused": 0, "failed": 0}
        for (session, kept, _), holder in zip(batch, holders, strict=True):
            if self._waiting.get(session) in (kept, None):
                self._waiting.drop(session)
            if not isinstance(holder, int):  # the fault is this state's: to try again would not help
                outcomes["failed"] += 1
                log.error("Redis did not take the state of a stream: %s", reason(holder))
            elif holder > kept.generation:
                outcomes["refused"] += 1
                self._lost(session, holder - 1)
            else:
                outcomes["kept"] += 1
        for outcome, states in outcomes.items():
            self._observer.wrote(outcome, states)
        self._observer.waiting(len(self._waiting))

    def _batch(self) -> list[tuple[str, Kept, float]]:
        batch: list[tuple[str, Kept, float]] = []
        size = 0
        for entry in self._waiting:
            size += len(entry[1].data)
            if batch and (size > _BATCH_BYTES or len(batch) == _BATCH):
                break
            batch.append(entry)
        return batch

    async def _probe(self) -> None:
        """See that Redis takes writes, and that all who use it sign their tokens with one key."""
        key, ours, then = (
            (_WRITABLE, b"1", "forget") if self._tokens is None else (_TOKEN_KEY, self._tokens.key, "keep")
        )
        async with _reaching():
            theirs = await self._redis.eval(_PROBE, 1, key, ours, then)
        if not isinstance(theirs, bytes) or len(theirs) != len(ours):
            raise StoreAwayError(reason(theirs))
        if self._tokens is not None:
            self._tokens.adopt(theirs)


@contextlib.asynccontextmanager
async def _reaching() -> AsyncIterator[None]:
    """Turn what goes wrong with Redis into a StoreAwayError.

    What redis-py says is not passed on, in messages or tracebacks: it quotes commands, with keys and states in them.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            yield
    except ERRORS as error:
        raise StoreAwayError(reason(error)) from None


def check_url(url: str) -> None:
    """Raises ValueError for what is no URL of a Redis: redis://HOST:PORT/0, rediss:// or unix://, and known options."""
    try:
        BlockingConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    except TypeError as error:
        raise ValueError(f"the URL has an option that is not known ({error})") from error


def _milliseconds(seconds: float) -> int:
    return max(1, round(1e3 * seconds))
