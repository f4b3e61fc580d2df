"""The thread that leases cameras in Redis. It works while the event loop is busy, and gives up for one that hangs."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import orjson
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from service.cameras.ownership.redis_lease_rules import ROUND
from service.redis_errors import ERRORS, reason

log = logging.getLogger(__name__)

KEY = "posewire:cameras"
ENTRIES_KEY = "posewire:camera-entries"
_IDLE_S = 1.0
"""Seconds between two rounds while there are no cameras."""
AWAY_AFTER = 3
"""Rounds in a row that must fail before Redis counts as away. One also fails when this process has been suspended."""


@dataclass(frozen=True, slots=True)
class LeaseTimes:
    """Seconds. lease: how long one lasts. every: between two rounds. timeout: of Redis in a round.

    hang: an event loop that does nothing for this long loses its cameras.

    A replica that is killed has renewed its leases `every` or less ago, and the others look every `every`: its cameras
    are taken after `lease` + `every` at most, 1.45 s. Reaching the camera again takes the rest of the three seconds.
    """

    lease: float = 1.2
    every: float = 0.25
    timeout: float = 0.3
    hang: float = 2.0


@dataclass(frozen=True, slots=True)
class CameraLease:
    """Of a camera. next_owner: the replica that it is to be given to, if there is one."""

    generation: int
    owner: str
    next_owner: str = ""


@dataclass(frozen=True, slots=True)
class LeaseRound:
    """What a round has told.

    held: generations of the cameras that this replica owns until the time `until` on `lease_clock`. leases: of all
    cameras. replicas: how many are live. entries: their version, see `redis_entries`. away: why Redis cannot be
    reached, empty if it can. hung: the leases were given back because the event loop hung.
    """

    held: Mapping[str, int]
    until: float
    leases: Mapping[str, CameraLease] = field(default_factory=dict)
    replicas: int = 0
    entries: int = 0
    away: str = ""
    hung: bool = False

    @property
    def failed(self) -> bool:
        """Redis did not answer, so nothing is known but what was known before."""
        return self.until < 0


def lease_clock() -> float:
    """Seconds, also those in which this machine was suspended where the system counts them."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class LeaseThread:
    """Runs rounds until it is stopped, and calls `told` with what each has told, on its thread.

    replica: a name that no other process has or had. The other methods are called by the event loop.
    """

    def __init__(
        self,
        url: str,
        replica: str,
        told: Callable[[LeaseRound], None],
        times: LeaseTimes | None = None,
        clock: Callable[[], float] = lease_clock,
    ) -> None:
        self.times = times or LeaseTimes()
        self._redis = Redis.from_url(
            url,
            socket_timeout=self.times.timeout,
            socket_connect_timeout=self.times.timeout,
            retry=Retry(NoBackoff(), 0),
        )
        self._replica = replica
        self._told = told
        self._clock = clock
        self._lock = threading.Lock()  # of the four below
        self._names: tuple[str, ...] = ()
        self._held: dict[str, int] = {}
        self._released: dict[str, int] = {}
        self._leaving = False
        self._beaten = clock()
        self._woken = threading.Event()
        self._stopping = False
        self._failures = 0

    def know(self, names: Iterable[str]) -> None:
        """These are all cameras from now on."""
        with self._lock:
            self._names = tuple(sorted(set(names)))
        self._woken.set()

    def release(self, name: str, generation: int) -> None:
        """Give a lease back in the next round, which begins at once."""
        with self._lock:
            if self._held.get(name) == generation:
                del self._held[name]
                self._released[name] = generation
        self._woken.set()

    @property
    def giving_back(self) -> bool:
        """Some leases are given back, and Redis does not know it yet."""
        with self._lock:
            return bool(self._released)

    def leave(self) -> None:
        """Take no more cameras."""
        with self._lock:
            self._leaving = True
        self._woken.set()

    def beat(self) -> None:
        """The event loop works."""
        self._beaten = self._clock()

    def stop(self) -> None:
        """End `run` after a last round. Leases that are still held run out."""
        with self._lock:
            self._leaving = self._stopping = True
        self._woken.set()

    def run(self) -> None:
        """Run rounds until `stop`."""
        last = self._clock()
        while True:
            now = self._clock()
            if now - last > self.times.lease:  # this whole process was suspended, not its event loop alone
                self._beaten, self._failures = now, 0
            last = now
            self._woken.clear()
            stopping = self._stopping
            self._told(self.round(now))
            if stopping:
                self._redis.close()
                return
            pause = self.times.every if self._names else min(_IDLE_S, self.times.lease)
            self._woken.wait(max(0.0, now + pause - self._clock()))

    def round(self, now: float) -> LeaseRound:
        """Run one round. now: on the clock."""
        hung = now - self._beaten > self.times.hang
        with self._lock:
            if hung:
                self._released.update(self._held)
                self._held.clear()
            held, released = dict(self._held), dict(self._released)
            asked = {
                "replica": self._replica,
                "leaving": self._leaving or hung,
                "lease": round(1e3 * self.times.lease),
                "stalled": round(1e3 * (self.times.lease - self.times.every)),
                "cameras": self._names,
                "knows": hashlib.sha256(orjson.dumps(self._names)).hexdigest()[:16],
                "held": held,
                "released": released,
            }
        try:
            reply = self._redis.eval(ROUND, 2, KEY, ENTRIES_KEY, orjson.dumps(asked))
            entries, replicas, leases = _read(reply)
        except ERRORS as error:
            self._redis.connection_pool.disconnect()
            self._failures += 1
            away = reason(error) if self._failures >= AWAY_AFTER else ""
            return LeaseRound(held, -1.0, away=away, hung=hung)
        self._failures = 0
        with self._lock:
            for name in released:
                self._released.pop(name, None)
            for name in held:
                self._held.pop(name, None)
            ours = {name: lease.generation for name, lease in leases.items() if lease.owner == self._replica}
            # what was released while Redis worked is given back in the next round
            self._held |= {name: generation for name, generation in ours.items() if name not in self._released}
            held = dict(self._held)
        return LeaseRound(held, now + self.times.lease, leases, replicas, entries, hung=hung)


def _read(reply: object) -> tuple[int, int, dict[str, CameraLease]]:
    """Raises ValueError or LookupError if Redis did not reply as the script does."""
    if not isinstance(reply, list):
        raise ValueError("no reply of the script")
    entries, replicas, _quiet, *texts = reply
    leases = {}
    for text in texts:
        generation, owner, next_owner, name = text.decode().split(" ", 3)
        leases[name] = CameraLease(int(generation), owner, next_owner.strip("-"))
    return int(entries), int(replicas), leases
