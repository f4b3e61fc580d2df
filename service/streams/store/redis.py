"""A store in Redis, shared by replicas: any of them can resume the sessions of the others.

A session is a hash `posewire:session:ID` of generation, sequence, state and date, which expires. All access is by three
scripts, see `redis_scripts`, so that holders of a session cannot undo each other's writes. Redis is not needed to
process a frame: the newest state of each session waits in memory for a task that writes it. While Redis is unreachable,
states stay there, and this server's own streams can be resumed from them.

Nothing in Redis is trusted. Damaged data costs only the session that it belongs to, and is replaced when the session's
next state is written. Servers' clocks may differ, so states are dated by the clock of Redis, and returned with their
age.
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
from service.redis_errors import ERRORS, reason, refuses_all
from service.streams.store.base import Lost, Store, StoreAwayError, StoredState, StoreObserver
from service.streams.store.memory import MemoryStore
from service.streams.store.redis_scripts import CLAIM, KEEP, PROBE
from service.streams.tokens import Tokens
from service.tracking_workers.codec import StateError

log = logging.getLogger(__name__)

_PREFIX = "posewire:session:"
_TOKEN_KEY = "posewire:resume-key"  # noqa: S105 - a name
_WRITABLE = "posewire:writable"
_TIMEOUT_S = 1.0
"""How long Redis may take for a batch of states, or for a state that a client resumes."""
_BATCH, _BATCH_BYTES = 64, 4_000_000
"""The most states in one batch, and their most bytes. A single state may be larger."""
_LARGEST = 1_000_000
"""The most bytes of a state. 256 people take half of that with smoothing, a quarter without."""
_PROBE_S = 5.0
"""How often Redis is probed."""
_BACKOFF_S = (0.1, 2.0)
"""The first and the longest pause between two tries while Redis is unreachable."""
_CONNECTIONS = 8


class RedisStore(Store):
    """A Store in the Redis at `url`, see `check_url`.

    tokens: get a key that all servers of this Redis share; None if a key was configured. States that wait to be written
    are bounded like those of a MemoryStore.
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
        self._redis = open_redis(url)
        self._tokens = tokens
        self._observer = observer or StoreObserver()
        self._waiting = MemoryStore(clock=clock)
        self._work = asyncio.Event()
        self._written = asyncio.Event()
        self._up: bool | None = None  # unknown at first
        self._reason = ""  # why Redis is unreachable
        self._pause = _BACKOFF_S[0]
        self._lost: Lost = lambda _session, _generation: None
        self._writer: asyncio.Task[None] | None = None
        self._supervisor = supervisor or Supervisor()

    async def start(self, lost: Lost) -> None:
        """See `Store.start`. Waits for the key of the tokens in Redis, for a second at most."""
        self._lost = lost
        await self._write_batch(probe=True)
        self._writer = self._supervisor.keep("store", self._keep_writing)

    def keep(self, session: str, state: StoredState, seconds: float) -> None:
        """See `Store.keep`. A state of more than a megabyte is not stored."""
        if len(state.data) > _LARGEST or seconds <= 0:
            return
        self._waiting.keep(session, state, seconds)
        self._observer.waiting(len(self._waiting))
        self._written.clear()
        self._work.set()

    async def claim(self, session: str, seconds: float) -> StoredState | None:
        """See `Store.claim`. While Redis is unreachable, states that wait to be written can be claimed."""
        failed: StoreAwayError | StateError | None = None
        stored: StoredState | None = None
        try:
            stored = await self._claim(session, seconds)
        except StateError as error:
            failed = error
        except StoreAwayError as error:
            failed = error
            self._reached(error)
            self._work.set()  # start trying until it is back
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
        """See `Store.reap`. Redis removes expired sessions by itself."""
        return await self._waiting.reap()

    async def flush(self, seconds: float) -> None:
        """See `Store.flush`. Does not wait while Redis is unreachable."""
        if not len(self._waiting) or self._up is False:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._written.wait()

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.gather(self._writer, return_exceptions=True)
            self._writer = None
        await self._redis.aclose()

    async def _claim(self, session: str, seconds: float) -> StoredState | None:
        """Take a session from its last holder. Returns the state with the last holder's generation."""
        async with converted_errors():
            known = await self._redis.eval(CLAIM, 1, _PREFIX + session, _milliseconds(seconds), _LARGEST)
        if known is None:
            return None
        match known:
            case [bytes(generation), bytes(sequence), bytes(state), int(age)]:
                return StoredState(int(generation), int(sequence), state, min(max(0.0, age / 1e3), seconds))
            case bytes(damage):
                raise StateError(f"in Redis, {damage.decode(errors='replace')[:100]}")
            case _:
                raise StoreAwayError(reason(known))

    async def _keep_writing(self) -> None:
        """Write waiting states, forever."""
        loop = asyncio.get_running_loop()
        probe_at = loop.time() + _PROBE_S
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(probe_at):
                    await self._work.wait()
            due = not self._up or loop.time() >= probe_at
            if await self._write_batch(probe=due):
                self._pause = _BACKOFF_S[0]
            else:
                self._observer.wrote("failed", len(self._waiting))
                self._written.set()  # `flush` should not wait while Redis is unreachable
                await asyncio.sleep(self._pause)
                self._pause = min(2 * self._pause, _BACKOFF_S[1])
            if due:
                probe_at = loop.time() + _PROBE_S
            if not len(self._waiting):
                self._work.clear()
                self._written.set()

    async def _write_batch(self, probe: bool) -> bool:
        """Write a batch of waiting states. Returns True if Redis can be used."""
        try:
            if probe:
                await self._probe()
            if len(self._waiting):
                await self._send_batch()
        except StoreAwayError as error:
            self._reached(error)
            return False
        self._reached(None)
        return True

    def _reached(self, error: StoreAwayError | None) -> None:
        """Report whether Redis could be reached. Logs each outage once, each new reason for it, and its end."""
        if error is not None and error.reason != self._reason:
            log.warning("Redis is away (%s): streams go on, but only here can they be resumed", error.reason)
        if error is None and self._up is False:
            log.warning("Redis is back")
        self._up, self._reason = error is None, "" if error is None else error.reason
        self._observer.reached(self._up)

    async def _send_batch(self) -> None:
        """Write the states that have waited longest, all in one round trip."""
        batch = self._next_batch()
        async with converted_errors(), self._redis.pipeline(transaction=False) as pipeline:
            for session, state, seconds in batch:
                milliseconds = _milliseconds(seconds)
                arguments = state.generation, state.sequence, state.data, milliseconds, round(1e3 * state.age)
                pipeline.eval(KEEP, 1, _PREFIX + session, *arguments)
            holders = await pipeline.execute(raise_on_error=False)
            for holder in holders:
                if refuses_all(holder):
                    raise holder
        outcomes = {"kept": 0, "refused": 0, "failed": 0}
        for (session, state, _), holder in zip(batch, holders, strict=True):
            if self._waiting.get(session) in (state, None):
                self._waiting.drop(session)
            if not isinstance(holder, int):  # Redis refuses this state; a retry would not help
                outcomes["failed"] += 1
                log.error("Redis did not take the state of a stream: %s", reason(holder))
            elif holder > state.generation:
                outcomes["refused"] += 1
                self._lost(session, holder - 1)
            else:
                outcomes["kept"] += 1
        for outcome, states in outcomes.items():
            self._observer.wrote(outcome, states)
        self._observer.waiting(len(self._waiting))

    def _next_batch(self) -> list[tuple[str, StoredState, float]]:
        batch: list[tuple[str, StoredState, float]] = []
        size = 0
        for entry in self._waiting:
            size += len(entry[1].data)
            if batch and (size > _BATCH_BYTES or len(batch) == _BATCH):
                break
            batch.append(entry)
        return batch

    async def _probe(self) -> None:
        """Check that Redis takes writes, and that all its servers sign tokens with the same key."""
        key, ours, then = (
            (_WRITABLE, b"1", "forget") if self._tokens is None else (_TOKEN_KEY, self._tokens.key, "keep")
        )
        async with converted_errors():
            theirs = await self._redis.eval(PROBE, 1, key, ours, then)
        if not isinstance(theirs, bytes) or len(theirs) != len(ours):
            raise StoreAwayError(reason(theirs))
        if self._tokens is not None:
            self._tokens.adopt(theirs)


def open_redis(url: str) -> Redis:
    """Return a client whose commands fail after a second."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        socket_connect_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 1),  # a stale connection after a restart of Redis is not an outage
    )
    return Redis.from_pool(pool)


@contextlib.asynccontextmanager
async def converted_errors() -> AsyncIterator[None]:
    """Convert the errors of redis-py, and a second without an answer, to StoreAwayError.

    Its messages and tracebacks are not passed on: they quote commands, which contain keys and states.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            yield
    except ERRORS as error:
        raise StoreAwayError(reason(error)) from None


def check_url(url: str) -> None:
    """Raise ValueError unless this is a Redis URL: redis://HOST:PORT/0, rediss:// or unix://, with known options."""
    try:
        BlockingConnectionPool.from_url(url).make_connection()  # type: ignore[no-untyped-call]
    except TypeError as error:
        raise ValueError(f"the URL has an option that is not known ({error})") from error


def _milliseconds(seconds: float) -> int:
    return max(1, round(1e3 * seconds))
